"""The pages cannot rot: verbs and options that they name exist, links lead somewhere, all can be found."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from hounsfield.cli.app import app

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PAGES = sorted(path for path in (ROOT / "docs").rglob("*.md"))
ALL = [README, *PAGES]
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
# What looks like a command in backticks and is none
_NAMES = ("hounsfield project", "hounsfield model package 1")
_COMMAND = re.compile(r"(?:^|[\s`$(])(?:\.venv/bin/)?hounsfield ((?:[a-z]+)(?: [^`\n#|;&)]*)?)")


def commands(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield words, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*words, name))


VERBS = dict(commands(typer.main.get_command(app)))


def typed(page: Path) -> list[list[str]]:
    """The commands of a page: those in fenced or indented blocks, and in backticks."""
    text = page.read_text(encoding="utf-8")
    for name in _NAMES:
        text = text.replace(name, "")
    code = [match.group() for match in _FENCE.finditer(text)]
    rest = _FENCE.sub("", text)
    code += [line for line in rest.splitlines() if line.startswith("    ")]
    code += re.findall(r"`([^`\n]+)`", rest)
    lines = [line for block in code for line in block.replace("\\\n", " ").splitlines()]
    found = [match.group(1) for line in lines for match in _COMMAND.finditer(line)]
    return [words for words in map(_words, found) if words]


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


def verb_of(words: list[str]) -> tuple[tuple[str, ...], list[str]]:
    """The longest verb that the words begin with, and the words after it."""
    for length in (2, 1):
        if tuple(words[:length]) in VERBS:
            return tuple(words[:length]), words[length:]
    return (), words


def wrong(words: list[str]) -> str:
    """What is wrong with a command of a page, if anything."""
    verb, rest = verb_of(words)
    if not verb:
        return f"there is no verb {words[0]!r}"
    known = {name for one in VERBS[verb].params for name in (*one.opts, *one.secondary_opts)} | {"--help"}
    for word in rest:
        name = word.split("=")[0].strip("[],.")
        if name.startswith("-") and not re.fullmatch(r"-\d.*", name) and name not in known:
            return f"{' '.join(verb)} has no option {name}"
    return ""


@pytest.mark.parametrize("page", ALL, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_verb_and_option_that_is_named_exists(page: Path) -> None:
    faults = [f"hounsfield {' '.join(words)}: {wrong(words)}" for words in typed(page) if wrong(words)]
    assert faults == []


def test_the_check_finds_what_is_wrong(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("`hounsfield rum x`\n\n    hounsfield run m s --colour 3\n\n```sh\nhounsfield run m s -o o\n```\n")
    said = sorted(wrong(words) for words in typed(page))
    assert said == ["", "run has no option --colour", "there is no verb 'rum'"]


def test_readme_and_quick_start_show_the_main_commands() -> None:
    named = {verb_of(words)[0] for page in (README, ROOT / "docs" / "quick-start.md") for words in typed(page)}
    assert {("run",), ("inspect",), ("plan",), ("doctor",), ("models",)} <= named


def targets(page: Path) -> Iterator[tuple[str, Path]]:
    """Relative links of a page, and where they lead."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    for link in _LINK.findall(text):
        if not re.match(r"[a-z]+:|#", link):
            yield link, (page.parent / link.split("#")[0]).resolve()


@pytest.mark.parametrize("page", ALL, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    assert [link for link, target in targets(page) if not target.exists()] == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, waiting = {README}, [README]
    while waiting:
        for _, target in targets(waiting.pop()):
            pages = target.glob("*.md") if target.is_dir() else [target]
            fresh = {page for page in pages if page.suffix == ".md"} - reached
            reached |= fresh
            waiting += fresh
    assert sorted(str(page.relative_to(ROOT)) for page in set(PAGES) - reached) == []


def test_the_page_of_the_command_line_is_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("make_cli_reference", ROOT / "docs" / "make_cli_reference.py")
    assert spec is not None
    assert spec.loader is not None
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    assert (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8") == maker.page(), (
        "run python docs/make_cli_reference.py"
    )
