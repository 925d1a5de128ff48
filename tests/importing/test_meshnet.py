"""brainchop's MeshNets: imported with their weights unchanged, and plausible on the real head beside them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from answering import answers, do_import, onnx_answer

from hounsfield.errors import AnswersMissing
from hounsfield.packages import Manifest, ModelPackage, build
from hounsfield.usecases.job import Choices
from hounsfield.usecases.run import RunRequest, run_model

pytestmark = [pytest.mark.torch, pytest.mark.shared_data]
QUANTILES = [{"step": "scale-quantiles", "low": 0.05, "high": 0.95, "clip": False}]
MIN_MAX = [{"step": "scale-quantiles", "low": 0.0, "high": 1.0, "clip": False}]


def given(labels: list[str], intensity: list[dict[str, Any]]) -> dict[str, Any]:
    channels = [{"name": "t1", "modality": "MR", "quantity": "arbitrary"}]
    return answers(labels, input={"orientation": "AIL", "intensity": intensity, "channels": channels})


def imported(source: Path, folder: Path, labels: list[str], intensity: list[dict[str, Any]]) -> ModelPackage:
    result = do_import(source, folder, given(labels, intensity))
    assert result.package is not None
    assert len(result.goldens) == 2
    return result.package


def smaller(package: ModelPackage, folder: Path) -> Path:
    """The same package with a window of 96 voxels, so that a test can run it on a part of a head."""
    table = package.manifest.model_dump(mode="json", exclude_none=True)
    table["input"]["window"] |= {"shape": [96, 96, 96]}
    files = {name: package.root / name for name in package.files if name.endswith((".onnx", ".md", ".safetensors"))}
    return build(folder, Manifest.model_validate(table), files).root


def head_part(shared_data: Path, folder: Path) -> tuple[Path, np.ndarray]:
    """A box of the head around the deep grey matter, 96 voxels of 1 mm."""
    scan = nib.load(shared_data / "weights-brainchop/t1_crop.nii.gz").slicer[80:176, 80:176, 70:166]
    nib.save(scan, folder / "part.nii.gz")
    return folder / "part.nii.gz", np.asarray(scan.dataobj)


def labels_of(package: Path, scan: Path, folder: Path) -> np.ndarray:
    (series,) = run_model(RunRequest(package, scan, folder, choices=Choices(allow_unproven=True))).series
    assert series.status == "done", series.error
    return np.asarray(nib.load(series.outputs["nifti"]).dataobj)


def test_grey_and_white_matter_need_the_quantiles_that_the_file_states(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "weights-brainchop/model20chan3cls"
    names = ["White Matter", "Grey Matter"]
    (tmp_path / "stated").mkdir()
    (tmp_path / "minmax").mkdir()
    channels = [{"name": "t1", "modality": "MR", "quantity": "arbitrary"}]
    stated = do_import(
        source, tmp_path / "stated", answers(names, input={"orientation": "AIL", "channels": channels})
    ).package
    assert stated is not None
    assert stated.manifest.input.intensity[0].model_dump(exclude_defaults=True) | {"step": ""} == {
        "step": "",
        "low": 0.05,
        "high": 0.95,
        "clip": False,
    }
    assert stated.manifest.input.spacing_mm == (1.0, 1.0, 1.0)
    assert stated.manifest.input.window.shape == (256, 256, 256)
    scan, values = head_part(shared_data, tmp_path)
    found = labels_of(smaller(stated, tmp_path / "small"), scan, tmp_path / "out")
    white, grey = values[found == 1], values[found == 2]
    assert white.size > 0.2 * values.size
    assert grey.size > 0.15 * values.size
    assert white.mean() - grey.mean() > 15
    other = imported(source, tmp_path / "minmax", names, MIN_MAX)
    background = labels_of(smaller(other, tmp_path / "small-minmax"), scan, tmp_path / "out-minmax")
    assert np.count_nonzero(background) < 0.001 * background.size


def test_eighteen_regions_are_all_there_and_lie_on_both_sides(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "weights-brainchop/model30chan18cls"
    names = json.loads((source / "colormap.json").read_text())["labels"][1:]
    package = imported(source, tmp_path, names, QUANTILES)
    scan, values = head_part(shared_data, tmp_path)
    found = labels_of(smaller(package, tmp_path / "small"), scan, tmp_path / "out")
    sizes = dict(zip(names, np.bincount(found.ravel(), minlength=18)[1:], strict=True))
    assert sizes["Thalamus"] > 8000
    assert sizes["Caudate"] > 3000
    assert sizes["Putamen"] > 5000
    assert values[found == 3].mean() < 0.6 * values[found == 1].mean()  # ventricles are dark, white matter is bright
    left_right = np.argwhere(found == 1 + names.index("Putamen"))[:, 0]
    assert np.count_nonzero(left_right < left_right.mean() - 8) > 1000
    assert np.count_nonzero(left_right > left_right.mean() + 8) > 1000


def test_mindgrab_is_torch_with_the_same_weights(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "weights-brainchop/mindgrab"
    package = imported(source, tmp_path, ["Brain"], [{"step": "scale-quantiles", "low": 0.02, "high": 0.98}])
    description = package.manifest.architecture
    assert description is not None
    assert (description["filters"], description["norm"], description["activation"]) == (15, "instance", "gelu")
    state = torch.load(source / "model.pth", map_location="cpu", weights_only=True)
    image = torch.rand((1, 1, 40, 36, 44), generator=torch.Generator().manual_seed(3))
    features = image
    with torch.inference_mode():
        for layer, dilation in enumerate([16, 8, 4, 2, 1] * 5):  # the same network once more, without our classes
            weight = state[f"model.{layer}.0.weight"]
            features = torch.nn.functional.conv3d(features, weight, padding=dilation, dilation=dilation)
            features = torch.nn.functional.gelu(torch.nn.functional.group_norm(features, 15))
        expected = torch.nn.functional.conv3d(features, state["model.25.weight"], state["model.25.bias"]).numpy()
    found = onnx_answer(package.graph_path("fp32"), image.numpy())
    assert np.abs(found - expected).max() < 1e-3 * np.abs(expected).max()


def test_what_the_file_does_not_state_is_asked(shared_data: Path, tmp_path: Path) -> None:
    shutil.copytree(shared_data / "weights-brainchop/model30chan18cls", tmp_path / "source")
    labels = [f"Region {n}" for n in range(1, 18)]
    with pytest.raises(AnswersMissing, match=r"input\.intensity, input\.orientation"):
        do_import(tmp_path / "source", tmp_path, answers(labels))
