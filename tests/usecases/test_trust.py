"""What a package lacks to be trusted is named; an evaluation fills it, and leaves the old package alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from evaluation_scenes import make_dataset
from typer.testing import CliRunner

from hounsfield.cli.evaluate import evaluate
from hounsfield.cli.package import app
from hounsfield.errors import PackageInvalid
from hounsfield.packages import Manifest, ModelPackage, build, verify
from hounsfield.packages.trust import lacks, valid_sct
from hounsfield.testing.packages import TinyModel, tiny_evidence, tiny_files, tiny_manifest, tiny_package
from hounsfield.usecases.trust import FillRequest, fill_evidence

RUN = CliRunner()


def test_check_digits_of_real_codes_hold_and_slips_do_not() -> None:
    real = ("123037004", "85756007", "12738006", "64033007", "39607008", "138875005", "7771000")
    assert all(valid_sct(code) for code in real)
    slips = ("123037005", "85765007", "12738060", "64033070", "1", "", "01234567", "12738006x")
    assert not any(valid_sct(code) for code in slips)


def test_each_gap_is_named(tmp_path: Path) -> None:
    table = tiny_manifest(TinyModel(levels=(0.0, 50.0, 100.0))).model_dump(mode="json", exclude_none=True)
    table["licence"]["data"] = "not stated"
    table["output"]["segments"][0]["type"] = {"value": "85756008", "scheme": "SCT", "meaning": "Tissue"}
    table["output"]["segments"][1]["category"]["scheme"] = "99LOCAL"
    package = build(tmp_path, Manifest.model_validate(table), tiny_files(TinyModel(levels=(0.0, 50.0, 100.0))))
    told = [(one.about, one.fact) for one in lacks(package)]
    assert told == [
        ("evidence", "fp32 has no evidence"),
        ("licence", "the licence of the data is 'not stated'"),
        ("codes", "the type of Level 1, SCT 85756008, is no SNOMED CT identifier (its check digit is wrong)"),
        ("codes", "the category of Level 2 is of the scheme 99LOCAL, which other systems do not know"),
        ("card", "the card has no section Limits"),
        ("card", "the card does not say for whom it works worse"),
        ("signature", "it is unsigned"),
    ]
    assert all(one.remedy for one in lacks(package))
    answer = RUN.invoke(app, ["check", str(package.root)])
    assert answer.exit_code == 1
    assert answer.output.splitlines()[-1] == "tiny-levels-1.0.0: 7 lacking"


def test_two_segments_of_one_meaning_are_named(tmp_path: Path) -> None:
    package = tiny_package(tmp_path, TinyModel(levels=(0.0, 50.0, 100.0)))
    facts = [one.fact for one in lacks(package) if one.about == "codes"]
    assert facts == ["Level 1 and Level 2 carry the same code SCT 85756007"]


def test_an_evaluation_fills_the_package_under_the_next_version(tmp_path: Path) -> None:
    files = tiny_files(TinyModel())
    card = b"# tiny\n\n## Limits\n\n- Not evaluated here: no accuracy is claimed for this package.\n- Tests.\n\n"
    card += b"## How good it is\n\nNot evaluated yet: run `hounsfield evaluate` on cases.\n"
    package = build(tmp_path / "made", tiny_manifest(TinyModel(modality="MR")), {**files, "card.md": card})
    before = package.digest
    table = make_dataset(tmp_path, cases=4)
    verb = typer.Typer()
    verb.command()(evaluate)
    answer = RUN.invoke(
        verb,
        [str(package.root), str(table), "-o", str(tmp_path / "out"), "--fill", str(tmp_path / "filled"), "--quiet"],
    )
    assert answer.exit_code == 0, answer.output
    filled = verify(tmp_path / "filled" / "tiny-levels-1.0.1")
    assert str(filled.root) in answer.output
    evidence = filled.evidence("fp32")
    assert evidence is not None
    assert evidence.data.cases == 4
    assert "Not evaluated" not in filled.card()
    assert evidence.summary() in filled.card()
    assert verify(package.root).digest == before
    facts = [one.fact for one in lacks(filled) if one.about == "evidence"]
    assert facts == ["fp32 was measured on 4 cases only"]


def test_evidence_of_another_graph_fills_nothing(tmp_path: Path) -> None:
    package: ModelPackage = tiny_package(tmp_path / "made")
    path = tmp_path / "evidence.json"
    path.write_bytes(tiny_evidence({"graphs/fp32.onnx": "0" * 64}))
    with pytest.raises(PackageInvalid, match="made for another graph"):
        fill_evidence(FillRequest(package.root, path, tmp_path / "filled"))
    assert not list((tmp_path / "filled").iterdir())
