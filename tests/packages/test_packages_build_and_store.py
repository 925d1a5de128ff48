"""Building is all or nothing and deterministic; the store is atomic, quick, and never trusts a change."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import openvino
import pytest
from package_variants import full_package, redigest, snapshot

from hounsfield.errors import OutputError, OutputExists, PackageInvalid, PackageNotFound, PackageRefused
from hounsfield.packages import build, install, installed, open_package, store, verify, verifying
from hounsfield.testing.packages import TinyModel, nearest_level, tiny_files, tiny_manifest, tiny_package

LEVELS = (-1000.0, 0.0, 60.0, 900.0)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "store"


def test_the_tiny_package_says_the_known_truth_in_both_engines(tmp_path: Path) -> None:
    package = tiny_package(tmp_path, TinyModel(levels=LEVELS, steepness=1e-3, precisions=("fp32", "fp16")))
    image = np.random.default_rng(1).integers(-1100, 1000, (2, 1, 5, 6, 7)).astype(np.float32)
    truth = nearest_level(image[:, 0], LEVELS)
    gaps = np.sort(np.abs(image[:, 0, ..., None] - np.asarray(LEVELS)), axis=-1)
    clear = gaps[..., 1] - gaps[..., 0] > 8  # fp16 has 11 bits: values near the middle may go either way
    for precision in package.precisions:
        path = package.graph_path(precision)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        for logits in (session.run(None, {"image": image})[0], compiled(image)[0]):
            wrong = logits.argmax(axis=1) != truth
            assert not (wrong if precision == "fp32" else wrong & clear).any()
    assert len(np.unique(truth)) == len(LEVELS)


def test_building_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = full_package(tmp_path / "a"), full_package(tmp_path / "b")
    assert first.digest == second.digest
    for name in (*first.files, "digests.json"):
        assert (first.root / name).read_bytes() == (second.root / name).read_bytes()
    assert full_package(tmp_path / "a") == first
    assert sorted(entry.name for entry in (tmp_path / "a").iterdir()) == [first.reference]


def test_building_other_content_on_top_is_refused(tmp_path: Path) -> None:
    package = tiny_package(tmp_path / "here")
    before = snapshot(tmp_path / "here")
    with pytest.raises(OutputExists, match="raise the version"):
        tiny_package(tmp_path / "here", TinyModel(levels=(0, 5)))
    assert snapshot(tmp_path / "here") == before
    (tmp_path / "other" / package.reference).mkdir(parents=True)
    with pytest.raises(OutputExists, match="something else"):
        tiny_package(tmp_path / "other")
    assert list((tmp_path / "other").iterdir()) == [tmp_path / "other" / package.reference]


@pytest.mark.parametrize(
    ("files", "error", "words"),
    [
        ({"graphs/fp32.onnx": b"not a graph"}, PackageInvalid, "tiny-levels-1.0.0/graphs/fp32.onnx: it is not an ONNX"),
        ({"model.py": b"import os"}, PackageRefused, "a Python file"),
        ({"../escape.json": b"{}"}, PackageRefused, "no place"),
        ({"digests.json": b"{}"}, PackageInvalid, "is made by the build"),
        ({"card.md": Path("/nonexistent/card.md")}, PackageInvalid, "there is no such file for card.md"),
        ({"card.md": b"x" * 2**21}, PackageRefused, "more than 1048576"),
    ],
)
def test_a_failed_build_leaves_nothing(
    files: dict[str, Any], error: type[Exception], words: str, tmp_path: Path
) -> None:
    target = tmp_path / "new"
    with pytest.raises(error, match=words):
        build(target, tiny_manifest(), {**tiny_files(), **files})
    assert not target.exists() or not any(target.iterdir())


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left on device"):
        tiny_package(tmp_path)
    assert not any(tmp_path.iterdir())


def test_install_open_and_install_again(tmp_path: Path, place: Path) -> None:
    built = full_package(tmp_path / "built")
    there = install(built.root, store=place)
    assert there.digest == built.digest
    before = snapshot(place / built.reference)
    assert install(built.root, store=place) == there
    assert snapshot(place / built.reference) == before
    for reference in ("tiny-levels", "tiny-levels-1.0.0", str(there.root), there.root):
        assert open_package(reference, store=place).digest == built.digest


def test_other_content_under_an_installed_reference_is_refused(tmp_path: Path, place: Path) -> None:
    install(tiny_package(tmp_path / "a").root, store=place)
    before = snapshot(place / "tiny-levels-1.0.0")
    with pytest.raises(OutputExists, match="another package with the reference tiny-levels"):
        install(tiny_package(tmp_path / "b", TinyModel(levels=(0, 7))).root, store=place)
    assert snapshot(place / "tiny-levels-1.0.0") == before


def test_the_highest_version_is_opened_by_number_not_by_text(tmp_path: Path, place: Path) -> None:
    for version in ("1.9.0", "1.10.0", "0.99.99"):
        install(tiny_package(tmp_path, TinyModel(manifest={"version": version})).root, store=place)
    assert open_package("tiny-levels", store=place).manifest.version == "1.10.0"
    assert open_package("tiny-levels-1.9.0", store=place).manifest.version == "1.9.0"
    mine = [found.reference for found in installed(place) if found.source == "store"]
    assert mine == ["tiny-levels-0.99.99", "tiny-levels-1.9.0", "tiny-levels-1.10.0"]


def test_nothing_by_that_name_says_what_is_there(tmp_path: Path, place: Path) -> None:
    install(tiny_package(tmp_path).root, store=place)
    with pytest.raises(PackageNotFound, match=r"one of those installed: .*tiny-levels-1\.0\.0"):
        open_package("tinny-levels", store=place)
    with pytest.raises(PackageNotFound, match="no such package folder"):
        open_package("./tiny-levels", store=place)


def test_the_home_of_the_settings_is_the_store(tmp_path: Path) -> None:
    install(tiny_package(tmp_path).root)
    assert open_package("tiny-levels").root == Path(os.environ["HOUNSFIELD_HOME"]) / "packages" / "tiny-levels-1.0.0"


def test_a_changed_file_is_found_at_every_opening(tmp_path: Path, place: Path) -> None:
    there = install(tiny_package(tmp_path).root, store=place)
    graph = there.root / "graphs/fp32.onnx"
    data = bytearray(graph.read_bytes())
    data[-1] ^= 1
    graph.write_bytes(data)
    with pytest.raises(PackageInvalid, match="sha256 is not the listed one"):
        open_package("tiny-levels", store=place)
    broken = next(found for found in installed(place) if found.reference == "tiny-levels-1.0.0")
    assert broken.package is None
    assert "sha256 is not the listed one" in broken.problem


def test_changed_digests_lead_to_the_complete_check(tmp_path: Path, place: Path) -> None:
    """Whoever rewrites a file and digests.json meets the checks of the content again."""
    there = install(tiny_package(tmp_path).root, store=place)
    (there.root / "graphs/fp32.onnx").write_bytes(b"no graph")
    redigest(there.root)
    with pytest.raises(PackageInvalid, match="not an ONNX model"):
        open_package("tiny-levels", store=place)


def test_stricter_checks_are_made_on_what_was_installed_before(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tiny_package(tmp_path).root, store=place)
    made: list[Path] = []

    def counting(path: Path) -> Any:
        made.append(path)
        return verify(path)

    monkeypatch.setattr(store, "verify", counting)
    open_package("tiny-levels", store=place)
    assert made == []
    monkeypatch.setattr(store, "CHECKS_VERSION", verifying.CHECKS_VERSION + 1)
    open_package("tiny-levels", store=place)
    open_package("tiny-levels", store=place)
    assert made == [place / "tiny-levels-1.0.0"]


def test_a_folder_that_lies_about_its_name_is_refused(tmp_path: Path, place: Path) -> None:
    there = install(tiny_package(tmp_path).root, store=place)
    there.root.rename(place / "hippocampus-2.0.0")
    with pytest.raises(PackageNotFound, match="holds tiny-levels"):
        open_package("hippocampus", store=place)


def test_every_shipped_package_passes_the_complete_check() -> None:
    shipped = [found for found in installed(Path("/nonexistent")) if found.source == "shipped"]
    folders = sorted(entry.name for entry in store.SHIPPED.iterdir()) if store.SHIPPED.is_dir() else []
    assert [found.reference for found in shipped] == folders
    for found in shipped:
        assert found.package is not None, found.problem
        assert verify(found.root).digest == found.package.digest


def test_a_package_without_some_precision_says_which_it_has(tmp_path: Path) -> None:
    with pytest.raises(PackageInvalid, match="has no int8 graph; choose one of: fp32"):
        tiny_package(tmp_path).graph("int8")
