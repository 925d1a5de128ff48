"""Real scans, unpacked once for the whole session."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def unpacked(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """``unpacked("pet-qin-headneck/X.tar.xz")``: a folder with the content of an archive of the data."""
    done: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in done:
            target = tmp_path_factory.mktemp("unpacked")
            with tarfile.open(shared_data / name) as archive:
                archive.extractall(target, filter="data")
            done[name] = target
        return done[name]

    return folder
