"""What the tests of the command line share."""

from __future__ import annotations

from pathlib import Path

import pytest
from scans import Terminal

from hounsfield.packages import ModelPackage
from hounsfield.testing.packages import TinyModel, tiny_package


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One home for all these tests, so that a model is measured once."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(autouse=True)
def _one_home(store: Path, monkeypatch: pytest.MonkeyPatch, _clean_environment: None) -> None:
    monkeypatch.setenv("HOUNSFIELD_HOME", str(store))


@pytest.fixture
def hounsfield(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Terminal:
    """The command line."""
    return Terminal(monkeypatch, capfd)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    """A model for MR that finds the bright ball of the phantom exactly."""
    model = TinyModel(levels=(0.0, 4095.0), modality="MR", quantity="arbitrary", window=(8, 8, 8))
    return tiny_package(tmp_path_factory.mktemp("package") / "tiny", model)
