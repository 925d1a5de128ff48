"""From a package and a table to evidence and report, with answers that are known from the arrays."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from evaluation_scenes import make_dataset, write_nifti, write_table

from hounsfield.errors import InputError, NothingToRead, OutputExists, PackageError
from hounsfield.evaluation import dice
from hounsfield.packages import ModelPackage, parse_evidence
from hounsfield.testing.packages import TinyModel, tiny_package
from hounsfield.usecases.evaluate import EvaluateRequest, evaluate
from hounsfield.usecases.job import Choices

NODULE = {
    "number": 1,
    "label": "Nodule",
    "category": {"value": "49755003", "scheme": "SCT", "meaning": "Morphologically Abnormal Structure"},
    "type": {"value": "27925004", "scheme": "SCT", "meaning": "Nodule"},
    "lesion": True,
}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    model = TinyModel(quantity="arbitrary", window=(24, 32, 28), output={"segments": [NODULE]})
    return tiny_package(tmp_path_factory.mktemp("good"), model)


@pytest.fixture(scope="module")
def poorer(tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    model = TinyModel((0.0, 190.0), quantity="arbitrary", window=(24, 32, 28), output={"segments": [NODULE]})
    return tiny_package(tmp_path_factory.mktemp("poor"), model)


def array(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj)


def test_figures_are_those_of_the_arrays_and_evidence_reads_back(tmp_path: Path, package: ModelPackage) -> None:
    table = make_dataset(tmp_path, 6)
    result = evaluate(EvaluateRequest(package.root, table, tmp_path / "out"))
    expected = [
        dice(array(tmp_path / f"image{n:02d}.nii.gz") > 50, array(tmp_path / f"label{n:02d}_1.nii.gz") > 0)
        for n in range(6)
    ]
    assert [case.segments[0].dice for case in result.cases] == pytest.approx(expected)
    assert result.succeeded
    path = result.outputs["evidence"]
    evidence = parse_evidence(path.read_bytes(), path)
    score = evidence.scores[0]
    assert (score.metric, score.segment, score.n) == ("Dice", 1, 6)
    assert score.value == pytest.approx(np.mean(expected))
    assert evidence.graph_sha256 == {"graphs/fp32.onnx": package.files["graphs/fp32.onnx"]}
    assert evidence.data.use == "test"
    assert evidence.details["model"]["digest"] == package.digest
    assert evidence.details["model"]["ran_precision"] == "fp32"
    assert evidence.cost.seconds_per_case > 0
    text = path.read_text()
    assert '"c00"' not in text, "no case is named in what goes into a package"
    assert "p00" not in text
    report = result.outputs["report"].read_text(encoding="utf-8")
    assert report.count("<img ") == 6
    assert f"{np.mean(expected):.3f}" in report
    again = evaluate(EvaluateRequest(package.root, table, tmp_path / "again"))
    assert again.record.data.digest == result.record.data.digest
    assert again.record.summary == result.record.summary


def test_a_failing_case_is_named_counted_and_stops_nobody(tmp_path: Path, package: ModelPackage) -> None:
    table = make_dataset(tmp_path, 5)
    (tmp_path / "image01.nii.gz").write_bytes(b"no image")
    label = array(tmp_path / "label03_1.nii.gz")
    nibabel.save(nibabel.Nifti1Image(label, np.diag([-0.8, -0.8, 1.6, 1.0])), tmp_path / "label03_1.nii.gz")
    result = evaluate(EvaluateRequest(package.root, table, tmp_path / "out"))
    assert not result.succeeded
    assert {one.case_id: one.error for one in result.record.failed} == {"c01": "NotReadable", "c03": "GeometryRefused"}
    assert [case.case_id for case in result.cases] == ["c00", "c02", "c04"]
    report = result.outputs["report"].read_text(encoding="utf-8")
    assert "2 of 5 cases gave no score" in report
    stored = json.loads(result.outputs["json"].read_text())
    assert [one["case_id"] for one in stored["failed"]] == ["c01", "c03"]
    evidence = json.loads(result.outputs["evidence"].read_text())
    assert evidence["details"]["failed_by_error"] == {"NotReadable": 1, "GeometryRefused": 1}
    assert evidence["data"]["cases"] == 3


def test_annotators_give_the_reference_and_stand_beside_the_model(tmp_path: Path, package: ModelPackage) -> None:
    table = make_dataset(tmp_path, 4, annotators=3)
    result = evaluate(EvaluateRequest(package.root, table, tmp_path / "out"))
    row = result.record.summary.agreement[0]
    masks = [[array(tmp_path / f"label{n:02d}_{k}.nii.gz") > 0 for k in (1, 2, 3)] for n in range(4)]
    between = [np.mean([dice(a, b) for a, b in ((m[0], m[1]), (m[0], m[2]), (m[1], m[2]))]) for m in masks]
    assert (row.band, row.cases) == ("all", 4)
    assert row.agreement.between.mean == pytest.approx(np.mean(between))
    consensus = [np.sum(m, axis=0) >= 2 for m in masks]
    found = [array(tmp_path / f"image{n:02d}.nii.gz") > 50 for n in range(4)]
    expected = [dice(f, c) for f, c in zip(found, consensus, strict=True)]
    assert [case.segments[0].dice for case in result.cases] == pytest.approx(expected)


def test_annotators_stand_beside_the_model_in_every_stratum(tmp_path: Path, package: ModelPackage) -> None:
    table = make_dataset(tmp_path, 5, annotators=2)
    request = EvaluateRequest(package.root, table, tmp_path / "out", strata=("sex",), minimum_patients=3, worst=0)
    result = evaluate(request)
    rows = {row.band: row for row in result.record.summary.agreement}
    found = [array(tmp_path / f"image{n:02d}.nii.gz") > 50 for n in range(5)]
    masks = [[array(tmp_path / f"label{n:02d}_{k}.nii.gz") > 0 for k in (1, 2)] for n in range(5)]
    men = [np.mean([dice(found[n], mask) for mask in masks[n]]) for n in (0, 2, 4)]
    assert rows["sex=M"].cases == 3
    assert rows["sex=M"].agreement.with_model.mean == pytest.approx(np.mean(men))
    assert rows["sex=M"].agreement.between.mean == pytest.approx(np.mean([dice(*masks[n]) for n in (0, 2, 4)]))
    assert "sex=F" not in rows, "two patients get no figure"
    stored = json.loads(result.outputs["evidence"].read_text())["scores"]
    (score,) = [s for s in stored if s["metric"] == "Dice with annotators" and s["stratum"] == "sex=M"]
    assert score["value"] == pytest.approx(np.mean(men))


def test_two_packages_are_compared_on_the_same_cases(
    tmp_path: Path, package: ModelPackage, poorer: ModelPackage
) -> None:
    table = make_dataset(tmp_path, 7)
    (tmp_path / "image06.nii.gz").write_bytes(b"no image")
    result = evaluate(EvaluateRequest(package.root, table, tmp_path / "out", against=poorer.root, worst=0))
    assert [one.case_id for one in result.record.compared_failed] == ["c06"]
    assert '"c06"' not in result.outputs["evidence"].read_text(), "no case is named in what goes into a package"
    alone = evaluate(EvaluateRequest(poorer.root, table, tmp_path / "alone", worst=2))
    by_metric = {kind.key: comparison for _, kind, _, comparison, _ in result.record.comparison}
    gap = np.mean([c.segments[0].dice for c in result.cases]) - np.mean([c.segments[0].dice for c in alone.cases])
    assert by_metric["dice"].difference.mean == pytest.approx(gap)
    assert result.record.compared_with.digest == poorer.digest
    report = alone.outputs["report"].read_text(encoding="utf-8")
    assert report.count("<img ") == 2
    worst = sorted(alone.cases, key=lambda c: c.segments[0].dice)[:2]
    assert all(f"<b>{case.case_id}</b>" in report for case in worst)


def test_parts_strata_and_foreign_labels(tmp_path: Path, package: ModelPackage) -> None:
    table = make_dataset(tmp_path, 6)
    label = array(tmp_path / "label00_1.nii.gz").astype(np.uint8)
    label[0, 0, 0] = 7
    write_nifti(tmp_path / "label00_1.nii.gz", label.transpose(2, 1, 0))
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"train": ["c03", "c04", "c05"], "test": ["c00", "c01", "c02"]}))
    request = EvaluateRequest(
        package.root, table, tmp_path / "out", split_file=split, strata=("manufacturer",), minimum_patients=2
    )
    result = evaluate(request)
    assert [case.case_id for case in result.cases] == ["c00", "c01", "c02"]
    assert result.record.data.split_file_sha256 is not None
    assert [table.column for _, table in result.record.summary.strata] == ["manufacturer"] * 2
    assert any("label 7" in note for note in result.record.notes)
    train = evaluate(EvaluateRequest(package.root, table, tmp_path / "train", split_file=split, part="train"))
    assert "evidence" not in train.outputs, "what a model was trained on is no evidence"


def test_one_patient_gives_figures_but_no_evidence(tmp_path: Path, package: ModelPackage) -> None:
    table = make_dataset(tmp_path, 1)
    result = evaluate(EvaluateRequest(package.root, table, tmp_path / "out"))
    assert "evidence" not in result.outputs
    assert "no interval" in result.outputs["report"].read_text(encoding="utf-8")
    assert json.loads(result.outputs["json"].read_text())["summary"]["metrics"][0]["mean"]["low"] is None


def test_what_cannot_begin_is_one_error_and_leaves_nothing(tmp_path: Path, package: ModelPackage) -> None:
    table = make_dataset(tmp_path, 2)
    out = tmp_path / "out"
    with pytest.raises(InputError, match="did you mean 'sex'"):
        evaluate(EvaluateRequest(package.root, table, out, strata=("sexx",)))
    with pytest.raises(PackageError, match="int8"):
        evaluate(EvaluateRequest(package.root, table, out, choices=Choices(precision="int8")))
    for n in range(2):
        (tmp_path / f"image{n:02d}.nii.gz").write_bytes(b"x")
    with pytest.raises(NothingToRead, match="none of the 2 cases"):
        evaluate(EvaluateRequest(package.root, table, out))
    assert not out.exists()
    assert not list(tmp_path.glob(".partial*"))
    with pytest.raises(OutputExists):
        evaluate(EvaluateRequest(package.root, table, tmp_path))


def test_the_command_line_says_the_figures_and_the_failures(tmp_path: Path, package: ModelPackage) -> None:
    import typer
    from typer.testing import CliRunner

    from hounsfield.cli.evaluate import evaluate as command

    app = typer.Typer()
    app.command()(command)
    table = make_dataset(tmp_path, 4)
    (tmp_path / "image02.nii.gz").write_bytes(b"no image")
    answer = CliRunner().invoke(app, [str(package.root), str(table), "-o", str(tmp_path / "out"), "--quiet"])
    assert answer.exit_code == 1
    assert "3 of 4 cases" in answer.output
    assert "failed c02: NotReadable" in answer.output
    assert "ran fp32" in answer.output
    data = CliRunner().invoke(app, [str(package.root), str(table), "-o", str(tmp_path / "json"), "--json"])
    told = json.loads(data.stdout)
    assert told["succeeded"] is False
    assert Path(told["outputs"]["report"]).is_file()


@pytest.mark.shared_data
def test_real_scans_and_their_labels(tmp_path: Path, shared_data: Path) -> None:
    model = TinyModel((0.0, 300.0), modality="MR", quantity="arbitrary", window=(32, 48, 32))
    package = tiny_package(tmp_path / "package", model)
    source = shared_data / "mr-hippocampus-msd"
    names = sorted(path.name for path in (source / "images").glob("*.nii.gz"))[:3]
    rows = [{"image": str(source / "images" / n), "label": str(source / "labels" / n), "patient_id": n} for n in names]
    result = evaluate(EvaluateRequest(package.root, write_table(tmp_path / "t.csv", rows), tmp_path / "out"))
    expected = [dice(array(source / "images" / n) > 150, array(source / "labels" / n) == 1) for n in names]
    assert [case.segments[0].dice for case in result.cases] == pytest.approx(expected, abs=1e-6)
    assert any("label 2" in note for note in result.record.notes)


def test_the_scan_itself_tells_what_the_table_does_not() -> None:
    from hounsfield.usecases.case_scoring import acquired
    from hounsfield.volume import Acquisition

    told = acquired(Acquisition(sex="F", age_years=61.0, manufacturer="GE"))
    assert (told["sex"], told["age_years"], told["manufacturer"], told["site"]) == ("F", "61.0", "GE", "")
