"""A model card's Markdown as HTML: headings, paragraphs, lists, tables, bold and code; everything else is text."""

from __future__ import annotations

import re
from collections.abc import Iterator

from markupsafe import Markup, escape

_BOLD = re.compile(r"\*\*(.+?)\*\*")
_CODE = re.compile(r"`([^`]+)`")
_RULE = re.compile(r"^\|?[\s:|-]+\|[\s:|-]*$")


def card_html(text: str) -> Markup:
    """The card; no markup of its own survives, and headings begin at the third level."""
    return Markup("\n").join(_blocks(text.replace("\r\n", "\n")))


def _blocks(text: str) -> Iterator[Markup]:
    for block in re.split(r"\n\s*\n", text.strip()):
        lines = [line.rstrip() for line in block.split("\n")]
        while lines and lines[0].startswith("#"):
            heading = lines.pop(0)
            level = min(6, 2 + len(heading) - len(heading.lstrip("#")))
            yield Markup("<h{0}>{1}</h{0}>").format(level, _inline(heading.lstrip("# ")))
        if not lines:
            continue
        if lines[0].lstrip().startswith("|"):
            yield _table(lines)
        elif lines[0].lstrip().startswith(("- ", "* ")):
            yield _list(lines)
        else:
            yield Markup("<p>{}</p>").format(_inline(" ".join(lines)))


def _inline(text: str) -> Markup:
    """Escaped first, so that what is put back is only ours."""
    safe = str(escape(text))
    return Markup(_BOLD.sub(r"<b>\1</b>", _CODE.sub(r"<code>\1</code>", safe)))  # noqa: S704


def _table(lines: list[str]) -> Markup:
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines if not _RULE.match(line)]
    head = Markup("").join(Markup('<th scope="col">{}</th>').format(_inline(cell)) for cell in rows[0])
    body = Markup("").join(
        Markup("<tr>{}</tr>").format(Markup("").join(Markup("<td>{}</td>").format(_inline(cell)) for cell in row))
        for row in rows[1:]
    )
    frame = Markup('<div class="scroll"><table><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>')
    return frame.format(head, body)


def _list(lines: list[str]) -> Markup:
    items: list[str] = []
    for line in lines:
        if line.lstrip().startswith(("- ", "* ")) or not items:
            items.append(line.lstrip()[2:])
        else:
            items[-1] += " " + line.strip()
    return Markup("<ul>{}</ul>").format(Markup("").join(Markup("<li>{}</li>").format(_inline(one)) for one in items))
