"""What the page is made of: the files are in the wheel, whole, and hold nothing that the policy would refuse."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

from hounsfield.server.pages.cards import card_html
from hounsfield.server.pages.rendering import age, percent, size, span

SERVER = Path(__file__).resolve().parents[2] / "src" / "hounsfield" / "server"
VENDOR = SERVER / "static" / "vendor"
OWN = sorted([*SERVER.glob("static/*.js"), *SERVER.glob("templates/*.html")])


def test_vendored_files_are_those_that_were_published() -> None:
    listed = json.loads((VENDOR / "VENDORED.json").read_text())
    assert set(listed) == {path.name for path in VENDOR.glob("*.js")}
    licences = (VENDOR / "LICENSES.txt").read_text()
    for name, facts in listed.items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == facts["sha256"]
        assert f"{facts['package']} {facts['version']}" in licences


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_nothing_is_inline_and_nothing_comes_from_elsewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"https?://(?!127\.0\.0\.1|www\.w3\.org)", text)
    if path.suffix == ".html":
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\son[a-z]+=|javascript:|\|\s*safe\b", text)
    else:
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text)


def test_a_card_is_text_whatever_it_says() -> None:
    card = card_html(
        "# A <b>model</b>\n\nSays **much** and `code`.\n\n- one\n- <img src=x onerror=y>\n\n|a|b|\n|---|---|\n|1|<i>|"
    )
    assert "<h3>A &lt;b&gt;model&lt;/b&gt;</h3>" in card
    assert "<p>Says <b>much</b> and <code>code</code>.</p>" in card
    assert "<li>&lt;img src=x onerror=y&gt;</li>" in card
    assert '<th scope="col">a</th>' in card
    assert "<td>&lt;i&gt;</td>" in card


def test_numbers_for_people() -> None:
    assert [span(one) for one in (4.4, 90, 7200, 200_000)] == ["4 s", "2 min", "2 h", "2 d"]
    assert age(100.0, 160.0) == "1 min"
    assert [size(one) for one in (12, 2048, 5 * 2**30)] == ["12 B", "2 KiB", "5 GiB"]
    assert percent(0.5) == "50 %"
