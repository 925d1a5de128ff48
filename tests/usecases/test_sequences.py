"""Packages that read a sequence over time: maps and numbers from series of one UID per time point, and bad input."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from class_scenes import write_table
from pydicom import dcmread
from run_scenes import write_ball
from scipy.ndimage import uniform_filter
from sequence_scenes import sequence_package, write_dynamic

from hounsfield.errors import InputError, NothingToRead, SettingsError
from hounsfield.evaluation.score_record import ScoreRecord
from hounsfield.packages import ModelPackage
from hounsfield.usecases.evaluate import EvaluateRequest, evaluate
from hounsfield.usecases.job import Choices
from hounsfield.usecases.plan import PlanRequest, plan_run
from hounsfield.usecases.run import RunRequest, RunResult, run_model

ANYTHING = Choices(allow_unproven=True)
EVERY = {"count": 3, "every_voxel": True, "least_signal": 0.01}


def growing(times: int = 3, shape: tuple[int, int, int] = (3, 6, 5)) -> np.ndarray[Any, Any]:
    """Whole numbers that differ in every voxel and grow with time; one voxel is dark."""
    first = 100 + np.arange(np.prod(shape)).reshape(shape)
    array = np.stack([first * (1 + n) for n in range(times)])
    array[:, -1, 2, 3] = 0
    return array


def run_on(package: ModelPackage, scan: Path, out: Path) -> RunResult:
    return run_model(RunRequest(package.root, scan, out, choices=ANYTHING))


def read_map(result: RunResult, number: int) -> np.ndarray[Any, Any]:
    image: Any = nibabel.load(result.series[0].outputs[f"map-{number}"])
    return np.asarray(image.dataobj).transpose(2, 1, 0)


@pytest.mark.parametrize("same_series", [False, True])
def test_maps_of_every_voxel_lie_on_the_scan(tmp_path: Path, same_series: bool) -> None:
    array = growing()
    package = sequence_package(tmp_path / "p", EVERY)
    result = run_on(package, write_dynamic(tmp_path / "scan", array, (0, 8.4, 16.8), same_series), tmp_path / "out")
    assert result.succeeded, result.series
    mean = array.mean(axis=0)
    known = mean > 0
    middle, around = read_map(result, 1), read_map(result, 2)
    assert np.isnan(middle[~known]).all()
    assert np.isnan(middle).sum() == 1
    np.testing.assert_allclose(middle[known], mean[known], rtol=1e-5)
    smooth = np.stack([uniform_filter(one, 3, mode="constant") for one in mean])
    np.testing.assert_allclose(around[known], smooth[known], rtol=1e-5)
    outputs = result.series[0].outputs
    assert set(outputs) == {"sr", "map-1", "map-2", "pm-1", "pm-2", "json", "report"}
    data = json.loads(outputs["json"].read_text(encoding="utf-8"))
    assert [(one["label"], one["unit"], one["voxels"]) for one in data["maps"]] == [
        ("middle", "mmol/l", known.sum()),
        ("around", "mmol/l", known.sum()),
    ]
    quartiles = [one["value"] for one in data["findings"][0]["measurements"]]
    assert quartiles == pytest.approx(np.quantile(mean[known], [0.25, 0.5, 0.75]).tolist(), rel=1e-5)
    assert result.series[0].measured[0]["value"] == pytest.approx(quartiles[1])
    assert "Maps" in outputs["report"].read_text(encoding="utf-8")
    for one in ("sr", "pm-1", "pm-2"):
        done = subprocess.run(["dciodvfy", "-new", outputs[one]], capture_output=True, text=True, check=False)
        assert not [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]
    stored = dcmread(outputs["pm-2"])
    levels = [
        one.PlanePositionSequence[0].ImagePositionPatient[2] / 2 for one in stored.PerFrameFunctionalGroupsSequence
    ]
    numbers = np.frombuffer(stored.FloatPixelData, "<f4").reshape(around.shape)[np.argsort(levels)]
    np.testing.assert_array_equal(numbers[known], around[known])
    assert (numbers[~known] == np.float32(stored.FloatPixelPaddingValue)).all()


def test_numbers_of_the_whole_scan_are_of_its_middle(tmp_path: Path) -> None:
    array = growing(4, (1, 7, 5))
    package = sequence_package(tmp_path / "p", {"count": 2})
    image = nibabel.Nifti1Image(array.transpose(3, 2, 1, 0).astype(np.float32), np.diag([-1.0, -1, 2, 1]))
    image.header["pixdim"][4] = 5.0
    image.header.set_xyzt_units("mm", "sec")
    nibabel.save(image, tmp_path / "scan.nii.gz")
    result = run_on(package, tmp_path / "scan.nii.gz", tmp_path / "out")
    assert result.succeeded, result.series
    rows = {row["label"]: row["value"] for row in result.series[0].measured}
    two = array[[0, 3], 0].mean(axis=0)
    assert rows == pytest.approx({"middle": two[3, 2], "around": two[2:5, 1:4].mean()}, rel=1e-5)
    found = result.series[0].figures
    assert (found["time_points_acquired"], found["time_points_read"]) == (4, 2)


def test_a_missing_time_point_is_told_by_place(tmp_path: Path) -> None:
    package = sequence_package(tmp_path / "p", {**EVERY, "longest_pause_s": 10.0})
    scan = write_dynamic(tmp_path / "scan", growing(4), (0, 8.0, 24.0, 32.0))
    (one,) = run_on(package, scan, tmp_path / "out").series
    assert one.status == "refused"
    assert one.error is not None
    assert "after time point 2 nothing was acquired for 16 s, the model wants at most 10 s" in one.error["fact"]


def test_volumes_too_far_apart_are_no_sequence_and_the_gap_is_named(tmp_path: Path) -> None:
    package = sequence_package(tmp_path / "p", EVERY)
    scan = write_dynamic(tmp_path / "scan", growing(4), (0, 5.0, 10.0, 50.0))
    with pytest.raises(NothingToRead, match="after time point 3 nothing was acquired for 40 s, where 5 s are usual"):
        run_on(package, scan, tmp_path / "out")
    with pytest.raises(NothingToRead, match="no sequence over time among 1 series"):
        run_on(package, write_ball(tmp_path / "ball"), tmp_path / "out2")
    thin = write_dynamic(tmp_path / "thin", growing(3)[:, :2], (0, 5.0, 10.0))
    with pytest.raises(NothingToRead, match="3 cannot be read, the first because 2 slices cannot make a volume"):
        run_on(package, thin, tmp_path / "out3")
    with pytest.raises(SettingsError, match="for which there is no plan"):
        plan_run(PlanRequest(package.root, scan, choices=ANYTHING))


def test_a_sequence_that_is_too_short_is_refused(tmp_path: Path) -> None:
    scan = write_dynamic(tmp_path / "scan", growing(3), (0, 5.0, 10.0))
    for number, (times, words) in enumerate(
        (({"count": 5}, "has 3 time points"), ({"count": 5, "step_s": 4.0}, "lasts 10 s, the model reads 16 s"))
    ):
        package = sequence_package(tmp_path / f"p{number}", {**times, "every_voxel": True})
        (one,) = run_on(package, scan, tmp_path / f"out{number}").series
        assert one.error is not None
        assert words in one.error["fact"]


def test_maps_are_evaluated_voxel_by_voxel(tmp_path: Path) -> None:
    """The known map is 10 above what the package answers in one case, and what it answers in the other."""
    rows, off = [], (0.0, 10.0)
    for number, gap in enumerate(off):
        array = growing() + 50 * number
        scan = write_dynamic(tmp_path / f"scan{number}", array, (0, 5.0, 10.0))
        mean = array.mean(axis=0)
        smooth = np.stack([uniform_filter(one, 3, mode="constant") for one in mean])
        known = np.stack([mean + gap, smooth + gap]).astype(np.float32)
        known[:, 0] = np.nan
        affine = np.diag([-1.0, -1.5, 2.0, 1.0])
        nibabel.save(nibabel.Nifti1Image(known.transpose(3, 2, 1, 0), affine), tmp_path / f"maps{number}.nii.gz")
        rows.append({"image": scan.name, "label": f"maps{number}.nii.gz", "patient_id": f"p{number}"})
    table = write_table(tmp_path / "cases.csv", rows)
    package = sequence_package(tmp_path / "p", EVERY)
    result = evaluate(EvaluateRequest(package.root, table, tmp_path / "evaluation"))
    assert result.succeeded
    assert isinstance(result.record, ScoreRecord)
    for one in result.record.summary.quantities:
        assert one.absolute_error.mean == pytest.approx(5.0, abs=0.1)
        assert one.bias.mean == pytest.approx(-5.0, abs=0.1)
        assert len(one.known) == 2 * 60 - 1, "two of three slices are known, and the dark voxel of one case is not read"
    assert "evidence" in result.outputs


def test_maps_on_another_grid_are_refused(tmp_path: Path) -> None:
    for n in range(2):
        write_dynamic(tmp_path / f"scan{n}", growing() + n, (0, 5.0, 10.0))
    affine = np.diag([-1.0, -1.5, 2.5, 1.0])
    nibabel.save(nibabel.Nifti1Image(np.ones((5, 6, 3, 2), np.float32), affine), tmp_path / "maps.nii.gz")
    table = write_table(
        tmp_path / "cases.csv", [{"image": f"scan{n}", "label": "maps.nii.gz", "patient_id": f"p{n}"} for n in range(2)]
    )
    package = sequence_package(tmp_path / "p", EVERY)
    with pytest.raises(InputError, match="the maps do not lie on the scan's grid"):
        evaluate(EvaluateRequest(package.root, table, tmp_path / "evaluation"))
