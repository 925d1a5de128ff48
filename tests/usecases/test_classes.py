"""Packages that answer classes: of a whole image, around points; run, plan, evaluate, bad input."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
from class_scenes import write_dx, write_image, write_table
from run_scenes import NOON

from hounsfield.errors import InputError, PackageInvalid, SettingsError
from hounsfield.packages import ModelPackage, open_package
from hounsfield.planning import Budget
from hounsfield.testing.classes import TinyClasses, expected_probabilities, tiny_classifier
from hounsfield.testing.packages import TinyModel, tiny_package
from hounsfield.usecases.evaluate import EvaluateRequest, evaluate
from hounsfield.usecases.job import Choices
from hounsfield.usecases.points import read_points
from hounsfield.usecases.run import RunRequest, run_model
from hounsfield.volume import Geometry, Volume
from hounsfield.writing.series import SeriesIdentity, write_mr_series

LEVELS = (0.0, 1.0)


def auc_by_pairs(truth: list[bool], scores: list[float]) -> float:
    """The area under the curve by counting pairs."""
    high = [s for s, t in zip(scores, truth, strict=True) if t]
    low = [s for s, t in zip(scores, truth, strict=True) if not t]
    return sum((a > b) + 0.5 * (a == b) for a in high for b in low) / (len(high) * len(low))


ANYTHING = Choices(allow_unproven=True)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    return tiny_classifier(tmp_path_factory.mktemp("package"), TinyClasses(LEVELS))


def result_json(output: Path) -> dict[str, object]:
    (path,) = output.glob("*/result.json")
    data: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
    return data


def probability(output: Path, place: int = 1) -> float:
    return float(result_json(output)["class_scores"][place]["probability"])  # type: ignore[index]


@pytest.mark.parametrize("mean", [-0.3, 0.6, 1.4])
def test_the_scores_are_those_of_the_mean(tmp_path: Path, package: ModelPackage, mean: float) -> None:
    image = write_image(tmp_path / "one.nii.gz", mean)
    result = run_model(RunRequest(package.root, image, tmp_path / "out", choices=ANYTHING))
    assert result.succeeded
    assert set(result.series[0].outputs) == {"json", "report"}, "no SEG and no label map of something that has none"
    assert probability(tmp_path / "out") == pytest.approx(expected_probabilities(mean, LEVELS)[1], abs=1e-5)
    row = result.series[0].measured[1]
    assert row["called"] == {"middle": mean >= 0.5}


def test_an_image_is_fitted_to_the_window_by_area_means(tmp_path: Path) -> None:
    made = tiny_classifier(tmp_path, TinyClasses(LEVELS, input={"fit": True, "interpolation": "area"}))
    image = write_image(tmp_path / "large.nii.gz", 0.8, (1, 150, 97))
    run_model(RunRequest(made.root, image, tmp_path / "out", choices=ANYTHING))
    assert probability(tmp_path / "out") == pytest.approx(expected_probabilities(0.8, LEVELS)[1], abs=1e-4)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_dx_image_gives_scores_an_sr_and_a_report(tmp_path: Path, photometric: str) -> None:
    """The same brightness gives the same score, whichever way it is stored; dciodvfy finds no error."""
    steps = [{"step": "scale", "low": 0.0, "high": 65535.0}]
    made = tiny_classifier(tmp_path, TinyClasses(LEVELS, input={"fit": True, "intensity": steps}))
    bright = np.full((64, 64), 50000, np.uint16)
    stored = bright if photometric == "MONOCHROME2" else 65535 - bright
    scan = write_dx(tmp_path / "one.dcm", stored, photometric)
    result = run_model(RunRequest(made.root, scan, tmp_path / "out", choices=ANYTHING))
    assert set(result.series[0].outputs) == {"sr", "json", "report"}
    wanted = expected_probabilities(50000 / 65535, LEVELS)[1]
    assert probability(tmp_path / "out") == pytest.approx(wanted, abs=1e-4)
    sr = pydicom.dcmread(result.series[0].outputs["sr"])
    assert _certainty(sr) == pytest.approx(100 * wanted, abs=1e-2)
    assert sr.StudyInstanceUID == "2.25.11"
    assert errors_of(result.series[0].outputs["sr"]) == []


@pytest.mark.shared_data
def test_a_real_chest_x_ray_gives_a_valid_sr(tmp_path: Path, shared_data: Path) -> None:
    """Its patient's age has two letters instead of four: the SR leaves it out rather than repeat the fault."""
    made = tiny_classifier(tmp_path, TinyClasses(LEVELS, input={"fit": True, "interpolation": "area"}))
    scan = shared_data / "cxr" / "rsna-dicom" / "PatientA.dcm"
    result = run_model(RunRequest(made.root, scan, tmp_path / "out", choices=ANYTHING))
    assert errors_of(result.series[0].outputs["sr"]) == []


def errors_of(path: Path) -> list[str]:
    """What dciodvfy finds wrong."""
    done = subprocess.run(["dciodvfy", "-new", path], capture_output=True, text=True, check=False)
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]


def _certainty(item: pydicom.Dataset) -> float | None:
    names = item.get("ConceptNameCodeSequence") or ()
    if names and names[0].CodeValue == "111012":
        return float(item.MeasuredValueSequence[0].NumericValue)
    found = (_certainty(child) for child in item.get("ContentSequence") or ())
    return next((value for value in found if value is not None), None)


def test_several_points_give_a_score_each(tmp_path: Path) -> None:
    """Two cubes of different brightness; each point reads its own surroundings, in mm or as an index."""
    made = tiny_classifier(tmp_path, _around_points())
    scan = _two_cubes(tmp_path)
    at = read_points(["index:10,10,10", "-30,-30,30"])
    result = run_model(RunRequest(made.root, scan, tmp_path / "out", choices=Choices(at=at, allow_unproven=True)))
    rows = [row for row in result.series[0].measured if row["label"] == "class 1"]
    wanted = [expected_probabilities(value, LEVELS)[1] for value in (1.0, -1.0)]
    assert [row["probability"] for row in rows] == pytest.approx(wanted, abs=1e-5)
    assert rows[1]["point_mm"] == [-30, -30, 30]


def _around_points() -> TinyClasses:
    given = {"spacing_mm": (1.0, 1.0, 1.0), "point": {}}
    return TinyClasses(LEVELS, "CT", (8, 8, 8), given, manifest={"domain": {"modality": _anything()}})


def _anything() -> dict[str, object]:
    return {"allowed": ["CT"], "breach": "warn"}


def _two_cubes(folder: Path) -> Path:
    import nibabel

    array = np.zeros((40, 40, 40), np.float32)
    array[:20, :20, :20], array[20:, 20:, 20:] = 1.0, -1.0
    nibabel.save(nibabel.Nifti1Image(array.transpose(2, 1, 0), np.eye(4)), folder / "cubes.nii.gz")
    return folder / "cubes.nii.gz"


def test_segments_around_points_lie_on_the_whole_scan_s_grid(tmp_path: Path) -> None:
    """Two bright balls in a DICOM scan, one marked: the SEG is on the scan's grid and holds that one alone."""
    ball = write_two_balls(tmp_path / "scan")
    given = {
        "channels": [{"name": "mr", "modality": "MR"}],
        "spacing_mm": (1.0, 1.0, 1.0),
        "window": {"shape": (16, 16, 16)},
        "point": {"size_mm": (14.0, 14.0, 14.0)},
    }
    step = {"step": "keep-nearest", "segments": [1], "within_mm": 2.0}
    lesion = {"number": 1, "label": "Ball", "lesion": True, "category": _code(), "type": _code()}
    model = TinyModel(
        (0.0, 4095.0), "MR", manifest={"input": given, "output": {"segments": [lesion], "clean_up": [step]}}
    )
    made = tiny_package(tmp_path / "package", model)
    choices = Choices(at=read_points(["index:10,10,10"]), allow_unproven=True)
    result = run_model(RunRequest(made.root, ball, tmp_path / "out", choices=choices))
    assert result.succeeded, result.series[0].error
    seg = pydicom.dcmread(result.series[0].outputs["seg"])
    assert (seg.Rows, seg.Columns) == (40, 40)
    import nibabel

    labels = np.asarray(nibabel.load(result.series[0].outputs["nifti"]).dataobj).transpose(2, 1, 0)
    assert labels.shape == (24, 40, 40)
    k, j, i = np.argwhere(labels).mean(axis=0)
    assert (k, j, i) == pytest.approx((10, 10, 10), abs=0.2)
    assert np.count_nonzero(labels) == np.count_nonzero(_ball((24, 40, 40), (10, 10, 10)))


def _code() -> dict[str, str]:
    return {"value": "85756007", "scheme": "SCT", "meaning": "Tissue"}


def _ball(shape: tuple[int, int, int], centre: tuple[int, int, int]) -> np.ndarray:
    far = sum((axis - middle) ** 2 for axis, middle in zip(np.indices(shape), centre, strict=True))
    return np.asarray(far <= 9)


def write_two_balls(folder: Path) -> Path:
    shape = (24, 40, 40)
    array = (_ball(shape, (10, 10, 10)) | _ball(shape, (12, 18, 10))).astype(np.float32)
    identity = SeriesIdentity("Phantom", "P", "s", "d", "BRAIN", 1, "2.25.21", "2.25.22", "phantom", NOON)
    write_mr_series(Volume(array, Geometry.from_parts(shape)), folder, identity)
    return folder


def test_a_point_outside_is_refused_with_the_scan_s_reach(tmp_path: Path) -> None:
    made = tiny_classifier(tmp_path, _around_points())
    choices = Choices(at=read_points(["200,0,0"]), allow_unproven=True)
    result = run_model(RunRequest(made.root, _two_cubes(tmp_path), tmp_path / "out", choices=choices))
    assert result.series[0].status == "refused"
    assert "lies outside the scan, which reaches from" in result.series[0].error["fact"]  # type: ignore[index]


def test_a_package_around_points_asks_for_one(tmp_path: Path) -> None:
    made = tiny_classifier(tmp_path, _around_points())
    with pytest.raises(SettingsError, match="none was given; give it with --at"):
        run_model(RunRequest(made.root, _two_cubes(tmp_path), tmp_path / "out", choices=ANYTHING))


def test_a_budget_is_planned_and_kept(tmp_path: Path, package: ModelPackage) -> None:
    image = write_image(tmp_path / "one.nii.gz", 0.5)
    budget = Budget.parse("700MiB")
    result = run_model(RunRequest(package.root, image, tmp_path / "out", choices=ANYTHING, budget=budget))
    figures = result.series[0].figures
    assert result.succeeded
    assert figures["peak_resident_mib"] <= 700
    assert figures["predicted_peak_mib"] <= 700


def test_the_evaluation_agrees_with_counting_pairs(tmp_path: Path, package: ModelPackage) -> None:
    means = np.random.default_rng(3).normal(0.5, 0.6, 40)
    truth = (means + np.random.default_rng(4).normal(0, 0.5, 40)) > 0.5
    rows = [
        {
            "case_id": f"c{n}",
            "image": write_image(tmp_path / f"{n}.nii.gz", mean).name,
            "patient_id": f"p{n // 2}",
            "finding": f"class {int(t)}",
            "site": "ab"[n % 4 // 2],
        }
        for n, (mean, t) in enumerate(zip(means, truth, strict=True))
    ]
    table = write_table(tmp_path / "cases.csv", rows)
    request = EvaluateRequest(package.root, table, tmp_path / "out", against=package.root)
    result = evaluate(request)
    scores = [float(expected_probabilities(mean, LEVELS)[1]) for mean in means]
    data = json.loads(result.outputs["json"].read_text(encoding="utf-8"))
    (one,) = data["summary"]["classes"]
    assert one["auc"]["mean"] == pytest.approx(auc_by_pairs(truth.tolist(), scores))
    brier = float(np.mean([(s - t) ** 2 for s, t in zip(scores, truth, strict=True)]))
    assert one["calibration"]["brier"]["mean"] == pytest.approx(brier, abs=1e-5)
    assert one["points"][0]["true_positives"] == sum(s >= 0.5 and t for s, t in zip(scores, truth, strict=True))
    assert {row["value"] for row in one["strata"][0]["rows"]} == {"a", "b"}
    assert [row["difference"]["mean"] for row in data["comparison"]["rows"]] == [0.0, 0.0]
    assert set(data["proposed_operating_points"]["class 1"]) >= {"Youden", "sensitivity 0.9"}
    evidence = json.loads(result.outputs["evidence"].read_text(encoding="utf-8"))
    assert '"c3"' not in json.dumps(evidence)
    assert evidence["scores"][0]["metric"] == "class 1 AUC"
    assert "<svg" in result.outputs["report"].read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["class 1", "class 1"], "every case is 'class 1', so nothing can be told apart"),
        (["class 1", "class 9"], "finding is 'class 9', not a class of the package"),
    ],
)
def test_a_table_that_says_no_classes_is_refused(
    tmp_path: Path, package: ModelPackage, cells: list[str], message: str
) -> None:
    rows = [
        {"image": write_image(tmp_path / f"{n}.nii.gz", n).name, "patient_id": str(n), "finding": cell}
        for n, cell in enumerate(cells)
    ]
    with pytest.raises(InputError, match=message):
        evaluate(EvaluateRequest(package.root, write_table(tmp_path / "cases.csv", rows), tmp_path / "out"))


def test_an_image_that_is_no_image_is_named_and_stops_no_other(tmp_path: Path, package: ModelPackage) -> None:
    rows = [
        {
            "case_id": f"c{n}",
            "image": write_image(tmp_path / f"{n}.nii.gz", n).name,
            "patient_id": str(n),
            "finding": f"class {n % 2}",
        }
        for n in range(4)
    ]
    (tmp_path / "2.nii.gz").write_bytes(b"not a scan")
    result = evaluate(EvaluateRequest(package.root, write_table(tmp_path / "cases.csv", rows), tmp_path / "out"))
    assert [one.case_id for one in result.record.failed] == ["c2"]
    assert not result.succeeded


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ({"classes": []}, "a classification package needs at least one of"),
        ({"activation": "none", "segments": "same"}, "nothing else beside it"),
    ],
)
def test_a_manifest_whose_task_and_output_disagree_is_refused(
    tmp_path: Path, output: dict[str, object], message: str
) -> None:
    if output.get("segments"):
        code = {"value": "85756007", "scheme": "SCT", "meaning": "Tissue"}
        output = {"segments": [{"number": 1, "label": "x", "category": code, "type": code}]}
    with pytest.raises((PackageInvalid, ValueError), match=message):
        tiny_classifier(tmp_path, TinyClasses(LEVELS, output=output))


def test_a_graph_with_other_ends_is_refused(tmp_path: Path) -> None:
    from hounsfield.packages import build
    from hounsfield.testing.classes import class_graph, classifier_manifest

    files: dict[str, Path | bytes] = {
        "card.md": b"# x\n",
        "graphs/fp32.onnx": class_graph(TinyClasses((0.0, 1.0, 2.0))),
    }
    with pytest.raises(PackageInvalid, match="the output has 3 classes, the manifest means 2"):
        build(tmp_path, classifier_manifest(TinyClasses(LEVELS)), files)
    made = tiny_classifier(tmp_path / "good", TinyClasses(LEVELS))
    assert open_package(made.root).manifest.output.channels == 2
