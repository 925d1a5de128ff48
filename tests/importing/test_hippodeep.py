"""hippodeep: three networks as one package of steps give the authors' own masks and volumes."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from answering import answers, do_import

from hounsfield.errors import SourceRefused
from hounsfield.packages import ModelPackage
from hounsfield.planning import Budget
from hounsfield.usecases.job import Choices
from hounsfield.usecases.plan import PlanRequest, plan_run
from hounsfield.usecases.run import RunRequest, run_model

pytestmark = [pytest.mark.torch, pytest.mark.shared_data]
LABELS = ["Brain without hippocampi", "Left hippocampus", "Right hippocampus"]
SCAN = "weights-hippodeep/example_brain_t1.nii.gz"
EXPECTED = "weights-hippodeep/expected/example_brain_t1"


@pytest.fixture(scope="module")
def package(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    result = do_import(shared_data / "weights-hippodeep", tmp_path_factory.mktemp("hippodeep"), answers(LABELS))
    assert result.package is not None
    assert {golden.engine for golden in result.goldens} == {"onnxruntime", "openvino"}
    assert len(result.goldens) == 6
    return result.package


def run(package: ModelPackage, scan: Path, output: Path, engine: str = "") -> tuple[np.ndarray, dict[str, float]]:
    choices = Choices(engine=engine, allow_unproven=True)
    (result,) = run_model(RunRequest(package.root, scan, output, choices=choices)).series
    assert result.status == "done", result.error
    volumes: dict[str, float] = {}
    for row in result.measured:
        volumes[row["label"]] = volumes.get(row["label"], 0.0) + row["volume_ml"] * 1000
    return np.asarray(nib.load(result.outputs["nifti"]).dataobj), volumes


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_masks_and_volumes_are_the_authors(
    package: ModelPackage, shared_data: Path, tmp_path: Path, engine: str
) -> None:
    labels, volumes = run(package, shared_data / SCAN, tmp_path / "out", engine)
    masks = {side: np.asarray(nib.load(shared_data / f"{EXPECTED}_mask_{side}.nii.gz").dataobj) for side in "LR"}
    assert np.array_equal(labels == 2, masks["L"] > 127)
    assert np.array_equal(labels == 3, masks["R"] > 127)
    brain = np.asarray(nib.load(shared_data / f"{EXPECTED}_brain_mask.nii.gz").dataobj) > 0
    assert np.count_nonzero((labels > 0) != brain) < 0.001 * np.count_nonzero(brain)
    with (shared_data / f"{EXPECTED}_hippoLR_volumes.csv").open() as file:
        (row,) = csv.DictReader(file)
    whole = sum(volumes.values())
    assert whole == pytest.approx(float(row["eTIV"]), rel=0.01)
    assert volumes["Left hippocampus"] == pytest.approx(float(row["hippoL"]), rel=0.01)
    assert volumes["Right hippocampus"] == pytest.approx(float(row["hippoR"]), rel=0.01)


def test_a_scan_stored_with_other_axes_gives_the_same_voxels(
    package: ModelPackage, shared_data: Path, tmp_path: Path
) -> None:
    scan = nib.load(shared_data / SCAN)
    straight, _ = run(package, shared_data / SCAN, tmp_path / "straight")
    turned = nib.as_closest_canonical(scan).slicer[:]
    turned = turned.as_reoriented(np.array([[2, -1], [0, 1], [1, -1]]))
    nib.save(turned, tmp_path / "turned.nii.gz")
    labels, _ = run(package, tmp_path / "turned.nii.gz", tmp_path / "out")
    back = nib.Nifti1Image(labels, turned.affine)
    to_first = nib.orientations.ornt_transform(nib.io_orientation(turned.affine), nib.io_orientation(scan.affine))
    assert np.array_equal(np.asarray(back.as_reoriented(to_first).dataobj), straight)


def test_the_plan_names_the_steps_and_keeps_the_budget(package: ModelPackage, shared_data: Path) -> None:
    def planned(memory: str) -> object:
        choices = Choices(allow_unproven=True)
        request = PlanRequest(package.root, shared_data / SCAN, Budget.parse(memory), choices=choices, measure=False)
        return plan_run(request)[0]

    enough = planned("4GiB")
    assert enough.plan.mode == "steps"  # type: ignore[attr-defined]
    assert enough.plan.reasons["steps"] == "head, then align, then hippocampus"  # type: ignore[attr-defined]
    assert enough.plan.host_peak_bytes <= 4 * 2**30  # type: ignore[attr-defined]
    assert planned("300MiB").plan is None  # type: ignore[attr-defined]


def test_a_folder_without_one_of_the_three_is_refused(shared_data: Path, tmp_path: Path) -> None:
    shutil.copy(shared_data / "weights-hippodeep/hippodeep.pt", tmp_path / "hippodeep.pt")
    with pytest.raises(SourceRefused, match=r"0 files params_head_\*\.pt"):
        do_import(tmp_path, tmp_path, answers(LABELS))
