"""nnU-Net models written by nnU-Net itself: imported packages give nnU-Net's own labels.

``nnunet_models`` holds small models with random weights, an image each, and the labels that nnU-Net
2.8.1's predictor gave (benchmarks/make_nnunet_models.py).
"""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from answering import do_import
from nnunet_cases import MODELS, given, labels_of, scans

from hounsfield.errors import AnswersMissing, SourceError, SourceRefused
from hounsfield.importing.nnunet.plans import turned
from hounsfield.usecases.import_model import ImportRequest, import_model
from hounsfield.volume import Geometry, Volume

pytestmark = pytest.mark.torch

NAMES = sorted(path.stem for path in MODELS.glob("*.npz"))


def replace_in_pickle(path: Path, old: bytes, new: bytes) -> None:
    """Change a text in the pickle of a checkpoint, keeping the archive valid."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data.replace(old, new) if name.endswith("data.pkl") else data)


@pytest.mark.parametrize("name", NAMES)
def test_labels_are_nnunets(name: str, tmp_path: Path) -> None:
    result = do_import(MODELS / name, tmp_path, given(MODELS / name))
    assert result.package is not None
    found = labels_of(result.package, scans(MODELS / f"{name}.npz"))
    expected = np.load(MODELS / f"{name}.npz")["labels"]
    assert len(np.unique(expected)) > 1
    assert (found != expected).mean() <= 1e-4


def test_without_answers_it_says_what_it_is_and_what_is_missing(tmp_path: Path) -> None:
    result = import_model(ImportRequest(MODELS / "residual-regions"))
    assert result.package is None
    assert dict(result.claim.found)["regions"] == "whole, core, enhancing"
    assert 'orientation = "?"' in result.template
    assert 'label = "core"' in result.template
    with pytest.raises(AnswersMissing, match="only you know"):
        import_model(ImportRequest(MODELS / "residual-regions", tmp_path))
    table = given(MODELS / "residual-regions")
    del table["input"]["orientation"]
    with pytest.raises(AnswersMissing, match=r"input\.orientation"):
        do_import(MODELS / "residual-regions", tmp_path, table)
    with pytest.raises(SourceError, match=r"did you mean 'source\.mirroring'"):
        do_import(MODELS / "residual-regions", tmp_path, given(MODELS / "residual-regions", miroring=False))


def test_a_fold_can_be_taken_alone_and_mirroring_left_out(tmp_path: Path) -> None:
    table = given(MODELS / "3d-two-folds", folds=["1"], mirroring=False)
    result = do_import(MODELS / "3d-two-folds", tmp_path, table)
    assert result.package is not None
    architecture = result.package.manifest.architecture
    assert architecture is not None
    assert (architecture["members"], architecture["mirror"]) == (1, [])
    assert any("folds 1;" in fact for fact in result.facts)
    assert "folds 1;" in result.package.card()


def test_a_trainer_of_ones_own_is_asked_about(tmp_path: Path) -> None:
    source = tmp_path / "model"
    shutil.copytree(MODELS / "2d", source)
    replace_in_pickle(source / "fold_0" / "checkpoint_final.pth", b"nnUNetTrainer", b"myUNetTrainer")
    with pytest.raises(AnswersMissing, match=r"source\.trainer"):
        do_import(source, tmp_path, given(MODELS / "2d"))
    with pytest.raises(SourceRefused, match="may have built another network"):
        do_import(source, tmp_path, given(MODELS / "2d", trainer="yes"))


def test_weights_of_another_plan_are_listed(tmp_path: Path) -> None:
    source = tmp_path / "model"
    shutil.copytree(MODELS / "2d", source)
    path = source / "plans.json"
    path.write_text(path.read_text().replace("\n      4,\n", "\n      6,\n"))
    text = json.loads(path.read_text())["configurations"]["2d"]["architecture"]["arch_kwargs"]
    assert text["features_per_stage"][0] == 6
    with pytest.raises(
        SourceRefused, match=r"do not fit plans\.json: .* has shape \[4, 1, 3, 3\], not \[6, 1, 1, 3, 3\]"
    ):
        do_import(source, tmp_path, given(MODELS / "2d"))


@pytest.mark.parametrize(("turn", "code"), [((0, 1, 2), "RAS"), ((2, 0, 1), "ASR"), ((1, 0, 2), "RSA")])
def test_turned_axes_become_an_orientation(turn: tuple[int, int, int], code: str) -> None:
    array = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    volume = Volume(array.astype(np.int16), Geometry(array.shape, np.diag([-1.0, -1.0, 1.0, 1.0])[:, [2, 1, 0, 3]]))
    assert volume.geometry.orientation == "RAS"
    assert turned("RAS", turn) == code
    view = volume.geometry.reoriented(code)
    assert view[0].shape == array.transpose(turn).shape
