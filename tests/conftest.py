"""What all tests share: the data beside the checkout, and a clean environment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED_DATA = REPOSITORY.parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real scans beside the checkout; missing in CI is a failure, elsewhere a skip."""
    if SHARED_DATA.is_dir():
        return SHARED_DATA
    message = f"{SHARED_DATA} is absent: put the shared data beside the checkout"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads or writes the user's own settings or store."""
    for name in [name for name in os.environ if name.startswith("HOUNSFIELD_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOUNSFIELD_HOME", str(tmp_path_factory.mktemp("home")))
