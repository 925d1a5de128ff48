"""Settings: where each comes from, and that a typing error is never silently ignored."""

from __future__ import annotations

import ast
import dataclasses
from pathlib import Path

import pytest

import hounsfield
from hounsfield.errors import SettingsError
from hounsfield.settings import Settings, load_settings


def test_defaults(tmp_path: Path) -> None:
    assert load_settings({"HOUNSFIELD_HOME": str(tmp_path)}) == Settings(home=tmp_path, engine="", threads=0)
    assert load_settings({"XDG_DATA_HOME": str(tmp_path)}).home == tmp_path / "hounsfield"
    assert load_settings({"XDG_DATA_HOME": "relative"}).home == Path.home() / ".local/share/hounsfield"
    assert load_settings({"HOUNSFIELD_HOME": "~/x"}).home == Path.home() / "x"


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "hounsfield.toml").write_text('engine = "onnxruntime"\nthreads = 3\n')
    home = {"HOUNSFIELD_HOME": str(tmp_path)}
    assert load_settings(home) == Settings(tmp_path, "onnxruntime", 3)
    assert load_settings({**home, "HOUNSFIELD_THREADS": "5"}) == Settings(tmp_path, "onnxruntime", 5)
    assert load_settings(home).packages == tmp_path / "packages"


def test_the_working_folder_sets_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hounsfield.toml").write_text("threads = 3\n")
    monkeypatch.chdir(tmp_path)
    assert load_settings({"HOUNSFIELD_HOME": str(tmp_path / "home")}).threads == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("thraeds = 3", "'thraeds' is not a setting; did you mean 'threads'?"),
        ('home = "/x"', "'home' is not a setting"),
        ("threads = 'many'", "not a whole number"),
        ("threads = true", "not a whole number"),
        ("threads = 1.5", "not a whole number"),
        ("threads = -1", "threads is -1"),
        ("engine = 3", "engine is not a text"),
        ("threads = = 3", "not TOML"),
        ("a = " + "[" * 10_000, "not TOML"),
        ("# " + "x" * 70_000, "too large"),
    ],
)
def test_a_faulty_file_is_one_line(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "hounsfield.toml").write_text(text)
    with pytest.raises(SettingsError) as caught:
        load_settings({"HOUNSFIELD_HOME": str(tmp_path)})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"HOUNSFIELD_HOM": "/x"}, "did you mean 'HOUNSFIELD_HOME'?"),
        ({"HOUNSFIELD_THREADS": "two"}, "not a whole number"),
        ({"HOUNSFIELD_THREADS": "²"}, "not a whole number"),
        ({"HOUNSFIELD_HOME": "relative"}, "not an absolute path"),
    ],
)
def test_a_faulty_environment_is_one_line(environment: dict[str, str], words: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({"XDG_DATA_HOME": str(tmp_path), **environment})
    assert words in str(caught.value)


def test_settings_are_frozen(tmp_path: Path) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings(tmp_path).threads = 2  # type: ignore[misc]


def test_no_other_file_reads_settings_from_the_environment() -> None:
    """``os.environ`` and ``os.getenv`` of a HOUNSFIELD_ name appear in settings.py only."""
    readers = []
    for path in Path(hounsfield.__file__).parent.rglob("*.py"):
        tree = ast.parse(path.read_text())
        texts = [
            node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
        names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        if names & {"environ", "getenv"} and any(text.startswith("HOUNSFIELD_") for text in texts):
            readers.append(path.name)
    assert readers == ["settings.py"]
