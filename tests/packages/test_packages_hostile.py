"""Hostile packages: each is refused by the right class with one clear line; nothing runs, nothing is written."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spoiled_files
import spoiled_graphs
import spoiled_manifests
import spoiled_weights
from onnx import numpy_helper
from package_variants import (
    edit_graph,
    full_package,
    good_weights,
    make_external,
    redigest,
    snapshot,
)
from spoiling import CASES, MARKER, Payload

from hounsfield.errors import PackageError
from hounsfield.packages import verify
from hounsfield.testing.packages import tiny_evidence

SPOILED = (spoiled_files, spoiled_graphs, spoiled_manifests, spoiled_weights)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package that passes, so that each variant fails for its own reason only."""
    package = full_package(tmp_path_factory.mktemp("good"))
    assert verify(package.root) == package
    return package.root


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_hostile_package_is_refused(name: str, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    spoil, error, words, digests = CASES[name]
    root = tmp_path / "place" / good.name
    shutil.copytree(good, root)
    spoil(root)
    if digests:
        redigest(root)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    before = snapshot(tmp_path)
    with pytest.raises(PackageError) as caught:
        verify(root)
    assert type(caught.value) is error, str(caught.value)
    assert words in str(caught.value)
    line = str(caught.value)
    assert "\n" not in line
    assert "\x1b" not in line
    assert len(line) < 600
    assert caught.value.path is not None
    assert caught.value.path.is_relative_to(root)
    assert snapshot(tmp_path) == before
    assert not (work / MARKER).exists()


def test_there_are_many_hostile_packages() -> None:
    assert len(CASES) >= 100


def test_the_payload_would_run_if_it_were_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Payload()))  # noqa: S301
    assert (tmp_path / MARKER).exists()


def test_honest_data_that_start_like_a_pickle_or_program_pass(tmp_path: Path) -> None:
    header = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    data = struct.pack("<Q", 640) + header.ljust(640) + np.array([1, 2], "<f4").tobytes()
    assert data[:2] == b"\x80\x02"
    package = full_package(tmp_path)
    (package.root / "weights.safetensors").write_bytes(data)
    redigest(package.root)
    assert verify(package.root).weights_path is not None


def test_good_weights_and_external_data_pass(tmp_path: Path) -> None:
    package = full_package(tmp_path)
    graph = package.root / "graphs/fp32.onnx"
    import hashlib

    def change(model: Any) -> None:
        data = numpy_helper.to_array(model.graph.initializer[0]).tobytes()
        (package.root / "graphs/w.data").write_bytes(bytes(16) + data)
        make_external(model, location="w.data", offset="16", length=str(len(data)))

    edit_graph(package.root, change)
    files = {
        f"graphs/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (graph, package.root / "graphs/w.data")
    }
    (package.root / "evidence/fp32.json").write_bytes(tiny_evidence(files))
    redigest(package.root)
    assert (package.root / "weights.safetensors").read_bytes() == good_weights()
    assert set(verify(package.root).files) > set(files)
