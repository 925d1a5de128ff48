"""Folders of several nnU-Net models: cascades and merged models give the labels that nnU-Net's predictor gave.

``nnunet_folders`` holds small models with random weights, images, and the labels that nnU-Net 2.8.1's predictor
gave (benchmarks/make_nnunet_folders.py); the ones in TotalSegmentator's layout are no weights of its own.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from answering import do_import
from nnunet_cases import FOLDERS, given, labels_of, scans

from hounsfield.errors import PackageInvalid, SettingsError, SourceRefused
from hounsfield.packages import ModelPackage
from hounsfield.packages.steps import WindowStep
from hounsfield.planning import Budget
from hounsfield.usecases.import_model import ImportRequest, import_model
from hounsfield.usecases.job import Choices
from hounsfield.usecases.plan import PlanRequest, plan_run
from hounsfield.usecases.run import RunRequest, run_model

pytestmark = pytest.mark.torch

LOW, FULL = "nnUNetTrainer__nnUNetPlans__3d_lowres", "nnUNetTrainer__nnUNetPlans__3d_cascade_fullres"
PARTS = FOLDERS / "totalsegmentator"
STRUCTURES = ["spleen", "kidney_right", "kidney_left", "sacrum", "vertebrae_S1", "rib_left_1", "rib_left_2", "sternum"]


def imported(source: Path, folder: Path, table: dict[str, Any]) -> ModelPackage:
    result = do_import(source, folder, table)
    assert result.package is not None
    return result.package


@pytest.fixture(scope="module")
def cascade(tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    return imported(FOLDERS / "cascade", tmp_path_factory.mktemp("cascade"), given(FOLDERS / "cascade"))


def test_a_cascade_gives_nnunets_labels(cascade: ModelPackage) -> None:
    first, second = cascade.manifest.steps
    assert isinstance(first, WindowStep)
    assert isinstance(second, WindowStep)
    assert (first.numbers, second.numbers, second.after, second.given) == ((0, 0), (1, 2), "3d-lowres", (1, 2))
    case = np.load(FOLDERS / "cascade.npz")
    found = labels_of(cascade, scans(FOLDERS / "cascade.npz"))
    assert (found != case["labels"]).mean() <= 1e-4
    assert (case["low"] != case["labels"]).mean() > 0.02  # the second stage says something of its own


def test_the_first_stage_decides_what_the_second_sees(cascade: ModelPackage) -> None:
    """Without the first stage's labels the second one's are others, so the test above is about both."""
    case, (_, second) = np.load(FOLDERS / "cascade.npz"), cascade.manifest.steps
    assert isinstance(second, WindowStep)
    turned = second.model_copy(update={"given": second.given[::-1]})
    other = cascade.manifest.model_copy(update={"steps": (cascade.manifest.steps[0], turned)})
    found = labels_of(replace(cascade, manifest=other), scans(FOLDERS / "cascade.npz"))
    assert (found != case["labels"]).mean() > 0.01


def test_a_cascade_of_regions_with_thick_slices_gives_nnunets_labels(tmp_path: Path) -> None:
    source = FOLDERS / "cascade-regions"
    package = imported(source, tmp_path, given(source))
    found = labels_of(package, scans(FOLDERS / "cascade-regions.npz"))
    expected = np.load(FOLDERS / "cascade-regions.npz")["labels"]
    assert len(np.unique(expected)) > 2
    assert (found != expected).mean() <= 1e-4


def test_a_low_resolution_model_by_itself_gives_nnunets_labels(tmp_path: Path) -> None:
    package = imported(FOLDERS / "cascade" / LOW, tmp_path, given(FOLDERS / "cascade"))
    assert package.manifest.input.spacing_mm == (2.2, 2.0, 2.0)
    assert not package.manifest.steps
    image, case = tmp_path / "scan.nii", np.load(FOLDERS / "cascade.npz")
    found = ran(package, write_scan("cascade", image), tmp_path / "out")
    assert (found != case["low"]).mean() <= 1e-4


def write_scan(name: str, path: Path) -> Path:
    """The image as a NIfTI whose axes lie along LPS."""
    (volume,) = scans(FOLDERS / f"{name}.npz")
    ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.geometry.affine[:, [2, 1, 0, 3]]
    nib.save(nib.Nifti1Image(volume.array.T, ras), path)
    return path


def ran(package: ModelPackage, scan: Path, output: Path, budget: str | None = None) -> np.ndarray[Any, Any]:
    choices = Choices(engine="onnxruntime", allow_unproven=True)
    request = RunRequest(package.root, scan, output, choices=choices, budget=Budget.parse(budget))
    (result,) = run_model(request).series
    assert result.status == "done", result.error
    return np.asarray(nib.load(result.outputs["nifti"]).dataobj).T


def test_a_run_within_a_budget_gives_the_same_labels(cascade: ModelPackage, tmp_path: Path) -> None:
    scan = write_scan("cascade", tmp_path / "scan.nii")
    found = ran(cascade, scan, tmp_path / "out", "700MiB")
    assert (found != np.load(FOLDERS / "cascade.npz")["labels"]).mean() <= 1e-4
    choices = Choices(allow_unproven=True)
    plan = plan_run(PlanRequest(cascade.root, scan, Budget.parse("700MiB"), choices=choices, measure=False))[0].plan
    assert plan is not None
    assert (plan.mode, plan.reasons["steps"]) == ("steps", "3d-lowres, then 3d-cascade-fullres")
    assert 0 < plan.host_parts["between"] < plan.host_peak_bytes <= 700 * 2**20


def test_there_is_no_whole_pass_over_steps(cascade: ModelPackage, tmp_path: Path) -> None:
    choices = Choices(allow_unproven=True, mode="whole")
    for ask in (run_model, plan_run):
        scan = write_scan("cascade", tmp_path / "scan.nii")
        request: Any = PlanRequest(cascade.root, scan, choices=choices)
        if ask is run_model:
            request = RunRequest(cascade.root, scan, tmp_path / "out", choices=choices)
        with pytest.raises(SettingsError, match="package of steps, for which there is no pass over the whole"):
            ask(request)
    assert not (tmp_path / "out").exists()


def test_models_in_totalsegmentators_layout_are_merged_as_it_merges_them(tmp_path: Path) -> None:
    result = import_model(ImportRequest(PARTS))
    assert result.claim.title == "3 nnU-Net 2 models"
    assert "numbers = [4, 5]" in result.template.replace("4,5", "4, 5")
    assert all(f'label = "{name}"' in result.template for name in STRUCTURES)
    package = imported(PARTS, tmp_path, given(PARTS))
    assert [segment.label for segment in package.manifest.output.segments] == STRUCTURES
    expected = np.load(FOLDERS / "totalsegmentator.npz")["labels"]
    assert len(np.unique(expected)) > 6
    found = ran(package, write_scan("totalsegmentator", tmp_path / "scan.nii"), tmp_path / "out")
    assert (found != expected).mean() <= 1e-4


def test_a_class_map_of_ones_own_numbers_the_segments(tmp_path: Path) -> None:
    """Ribs first, then the organs, then the vertebrae; which lies over which stays as it was."""
    numbers = {"Dataset291": [4, 5, 6], "Dataset292": [7, 8], "Dataset295": [1, 2, 3]}
    names = [*STRUCTURES[5:], *STRUCTURES[:5]]
    models = [
        {"folder": f"{part.name}/nnUNetTrainerNoMirroring nnUNetPlans 3d_fullres", "numbers": numbers[part.name[:10]]}
        for part in sorted(PARTS.iterdir())
    ]
    package = imported(PARTS, tmp_path, given(PARTS, names, models=models))
    recorded = FOLDERS / "totalsegmentator.npz"
    expected = np.array([0, 4, 5, 6, 7, 8, 1, 2, 3])[np.load(recorded)["labels"]]
    assert (labels_of(package, scans(recorded)) != expected).mean() <= 1e-4
    models[0]["numbers"] = [1, 2]
    with pytest.raises(
        PackageInvalid, match=r"numbers of Dataset291\S+ nnUNetPlans 3d_fullres are not 3 whole numbers"
    ):
        do_import(PARTS, tmp_path, given(PARTS, names, models=models))


def test_models_that_answer_the_same_are_a_choice(tmp_path: Path) -> None:
    source = tmp_path / "Dataset900_Noise"
    shutil.copytree(FOLDERS / "cascade", source)
    shutil.copytree(source / LOW, source / "nnUNetTrainer__nnUNetPlans__other")
    plans = source / "nnUNetTrainer__nnUNetPlans__other" / "plans.json"
    text = plans.read_text().replace('"3d_lowres": {', '"3d_lowres": {"x": 0,', 1)
    plans.write_text(text)
    with pytest.raises(SourceRefused, match="2 models of 3d_lowres lie beside it"):
        do_import(source, tmp_path, given(FOLDERS / "cascade"))
    shutil.rmtree(source / FULL)
    result = import_model(ImportRequest(source))
    assert 'model = "?"' in result.template
    with pytest.raises(PackageInvalid, match=r"source\.model is 'neither'"):
        do_import(source, tmp_path, given(FOLDERS / "cascade", model="neither"))
    package = imported(source, tmp_path, given(FOLDERS / "cascade", model=LOW.replace("__", " ")))
    assert [step.name for step in package.manifest.steps] == ["3d-lowres"]


def test_a_cascade_without_its_first_stage_is_refused(tmp_path: Path) -> None:
    shutil.copytree(FOLDERS / "cascade" / FULL, tmp_path / "model" / FULL)
    with pytest.raises(SourceRefused, match="is the second of a cascade, and no model of 3d_lowres"):
        do_import(tmp_path / "model", tmp_path, given(FOLDERS / "cascade"))
    with pytest.raises(SourceRefused, match="makes it the second of a cascade, after 3d_lowres"):
        do_import(tmp_path / "model" / FULL, tmp_path, given(FOLDERS / "cascade"))
