"""Plug-in registries: one name one plug-in, reasons kept, nobody stops the others."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, PathDistribution
from pathlib import Path

import pytest

from hounsfield.errors import PluginError
from hounsfield.plugins import ENGINES, Availability, Registry, registry

MODULE = """
from hounsfield.plugins import Availability

class Good:
    def availability(self):
        return Availability(True)

class Shy:
    def availability(self):
        return Availability(False, "no such processor", "buy one")

class Broken:
    def availability(self):
        raise RuntimeError("driver crashed")

plain = object()
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed distributions that Python imports from."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "stranger_engines.py").write_text(MODULE)
    (tmp_path / "stranger_needs.py").write_text("import a_module_that_nobody_has\n")
    (tmp_path / "stranger_fails.py").write_text("raise ValueError('bad build')\n")
    yield tmp_path
    for name in ("stranger_engines", "stranger_needs", "stranger_fails"):
        sys.modules.pop(name, None)


def _distribution(folder: Path, name: str, lines: dict[str, str]) -> list[EntryPoint]:
    """Write the metadata of a distribution as pip does, and read its entry points back."""
    info = folder / f"{name}-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.0\n")
    text = "\n".join(f"{key} = {value}" for key, value in lines.items())
    (info / "entry_points.txt").write_text(f"[{ENGINES}]\n{text}\n")
    return list(PathDistribution(info).entry_points)


def _registry(folder: Path, **distributions: dict[str, str]) -> Registry:
    points = [point for name, lines in distributions.items() for point in _distribution(folder, name, lines)]
    return registry(points=points)


def test_the_own_engines_come_by_their_entry_points() -> None:
    found = registry()
    assert {"openvino", "onnxruntime"} <= set(found.names())
    assert found.find("openvino").distribution.startswith("hounsfield ")
    assert found.survey()["openvino"] == Availability(True)
    assert type(found.load("openvino")).__name__ in ("type", "OpenVinoEngine", "_ProtocolMeta")


def test_a_survey_keeps_every_reason(installed: Path) -> None:
    lines = {
        "good": "stranger_engines:Good",
        "plain": "stranger_engines:plain",
        "shy": "stranger_engines:Shy",
        "broken": "stranger_engines:Broken",
        "absent": "stranger_needs:Engine",
        "extra": "stranger_needs:Engine [fast]",
        "fails": "stranger_fails:Engine",
        "typo": "stranger_engines:Goood",
    }
    answers = _registry(installed, stranger=lines).survey()
    assert answers["good"] == answers["plain"] == Availability(True)
    assert answers["shy"] == Availability(False, "no such processor", "buy one")
    assert "driver crashed" in answers["broken"].reason
    assert "needs the module 'a_module_that_nobody_has'" in answers["absent"].reason
    assert answers["absent"].install == "pip install a_module_that_nobody_has"
    assert answers["extra"].install == "pip install 'stranger[fast]'"
    assert "stranger 2.0 does not load: ValueError: bad build" in answers["fails"].reason
    assert "does not load: AttributeError" in answers["typo"].reason
    assert [name for name, answer in answers.items() if answer] == ["good", "plain"]


def test_two_claimants_are_listed_and_do_not_stop_others(installed: Path) -> None:
    found = _registry(
        installed,
        one={"fast": "stranger_engines:Good", "alone": "stranger_engines:Good"},
        two={"fast": "stranger_engines:plain"},
    )
    with pytest.raises(PluginError) as caught:
        found.load("fast")
    assert "stranger_engines:Good (one 2.0)" in str(caught.value)
    assert "stranger_engines:plain (two 2.0)" in str(caught.value)
    assert "uninstall all but one" in str(caught.value)
    assert not found.survey()["fast"]
    assert found.survey()["alone"]


def test_the_same_target_from_two_distributions_is_still_two_claimants(installed: Path) -> None:
    found = _registry(installed, one={"fast": "stranger_engines:Good"}, two={"fast": "stranger_engines:Good"})
    with pytest.raises(PluginError, match="2 plug-ins"):
        found.find("fast")


def test_the_same_line_seen_twice_is_one_claimant(installed: Path) -> None:
    points = _distribution(installed, "one", {"fast": "stranger_engines:Good"})
    assert registry(points=[*points, *points]).find("fast").distribution == "one 2.0"


def test_an_unknown_name_gets_a_proposal(installed: Path) -> None:
    found = _registry(installed, one={"openvino": "stranger_engines:Good"})
    with pytest.raises(PluginError, match="did you mean 'openvino'"):
        found.find("openvin")
    with pytest.raises(PluginError, match="choose one of: openvino"):
        found.find("zzz")


def test_loading_what_is_missing_names_the_install_line(installed: Path) -> None:
    found = _registry(installed, stranger={"extra": "stranger_needs:Engine [fast]"})
    with pytest.raises(PluginError, match=r"install it: pip install 'stranger\[fast\]'"):
        found.load("extra")
