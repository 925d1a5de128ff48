"""What a format says of a source that it recognises: what was found, and what it must be told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Claim:
    """A format's claim on a source.

    Parameters
    ----------
    format
        The format's name, as ``--as`` takes it.
    title
        What the source is, in plain words.
    found
        Facts about it, in order: what and how much.
    template
        The answers that an import needs, as nested tables. What the source states is filled in;
        what only the user can know is the text ``"?"``. See :mod:`hounsfield.importing.answers`.
    questions
        For a dotted key of the template, what is asked, in one line.
    """

    format: str
    title: str
    found: tuple[tuple[str, str], ...] = ()
    template: Mapping[str, Any] = field(default_factory=dict)
    questions: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for ``--json`` and for the way out of the jail."""
        return {
            "format": self.format,
            "title": self.title,
            "found": [list(pair) for pair in self.found],
            "template": dict(self.template),
            "questions": dict(self.questions),
        }

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Claim:
        """The claim that :meth:`as_dict` made; texts of the source are made safe to print."""
        return cls(
            format=str(table["format"]),
            title=printable(str(table["title"])),
            found=tuple((printable(str(name)), printable(str(value))) for name, value in table["found"]),
            template=table["template"],
            questions={str(key): printable(str(text)) for key, text in table["questions"].items()},
        )


def printable(text: str, most: int = 300) -> str:
    """A text without control characters, of at most ``most`` characters."""
    plain = "".join(character if character.isprintable() else " " for character in text)
    return plain if len(plain) <= most else plain[: most - 1] + "…"
