"""Reading the report back: complete, whole pictures, and no way out of the file."""

from __future__ import annotations

import base64
import io
from html.parser import HTMLParser
from pathlib import Path

from hounsfield.writing.facts import RESEARCH_USE, Result
from hounsfield.writing.files import same

_EMPTY_TAGS = {"meta", "img", "br", "hr", "input", "link"}


class _Reading(HTMLParser):
    """Text, pictures and references of a page, and whether every tag closes."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.text: list[str] = []
        self.pictures: list[str] = []
        self.references: list[str] = []
        self.open: list[str] = []
        self.balanced = True

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _EMPTY_TAGS:
            self.open.append(tag)
        for name, value in attrs:
            if tag == "img" and name == "src":
                self.pictures.append(value or "")
            elif name in ("src", "href", "action", "data", "srcset"):
                self.references.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        self.balanced &= bool(self.open) and self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def check_report(path: Path, result: Result) -> None:
    """Raise ReadBackFailed unless the page is whole and says what must be said."""
    reading = _Reading()
    reading.feed(path.read_text(encoding="utf-8"))
    reading.close()
    text = " ".join(" ".join(reading.text).split())
    same("the page", reading.balanced and not reading.open, path)
    same("the notice of research use", RESEARCH_USE in text, path)
    same("the package digest", result.facts.package_digest in text, path)
    for warning in result.warnings:
        same("a warning", " ".join(warning.split()) in text, path)
    for finding in result.findings.findings:
        same("a finding", " ".join(finding.tracking_id.split()) in text, path)
    same("the closed page", not reading.references, path)
    same("the pictures", len(reading.pictures) >= 2 and all(_is_picture(one) for one in reading.pictures), path)


def _is_picture(uri: str) -> bool:
    from PIL import Image

    head, _, data = uri.partition(",")
    if head != "data:image/png;base64":
        return False
    with Image.open(io.BytesIO(base64.b64decode(data, validate=True))) as picture:
        picture.load()
        return picture.mode in ("L", "RGBA")
