"""The shipped packages that answer classes: evidence, card and split belong together; they read real scans."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path

import numpy as np
import onnxruntime
import pydicom
import pytest
from PIL import Image
from tests.packages.test_shipped_lung_nodule import EXAMPLES, module

import hounsfield
from hounsfield.packages import ModelPackage, open_package, verify
from hounsfield.reading import read
from hounsfield.usecases.job import Choices
from hounsfield.volume import Place

CLASSES = {"nodule-malignancy-ct": "rated malignant", "pneumonia-cxr": "pneumonia"}
NAMES = tuple(CLASSES)


@pytest.mark.parametrize("name", NAMES)
def test_evidence_card_and_split_belong_together(name: str) -> None:
    package = open_package(name)
    assert verify(package.root).digest == package.digest
    splits = json.loads((EXAMPLES / name / "splits.json").read_text())
    split = hashlib.sha256((EXAMPLES / name / "splits.json").read_bytes()).hexdigest()
    evidence = {precision: package.evidence(precision) for precision in ("fp32", "bf16")}
    for one in evidence.values():
        assert (one.data.use, one.data.cases) == ("test", len(splits["test"]))
        assert one.details["data"]["split_file_sha256"] == split
        assert one.details["training"]["training_cases"] == len(splits["train"])
    filled = module(EXAMPLES / "ship.py").filled
    card = filled((EXAMPLES / name / "card.md").read_text(encoding="utf-8"), evidence)
    assert card == package.card()
    assert "{{" not in card
    (auc,) = [s for s in evidence["fp32"].scores if s.metric == f"{CLASSES[name]} AUC" and s.stratum == "all"]
    assert f"| AUC | {auc.value:.3f} ({auc.low:.3f} to {auc.high:.3f}" in card


def test_the_card_of_the_rated_nodules_names_the_ruler_beside_it() -> None:
    package = open_package("nodule-malignancy-ct")
    told = package.evidence("fp32").details["facts"]["volume_auc_test"]
    assert f"has an AUC of {told}" in package.card()


@pytest.mark.parametrize("name", NAMES)
def test_no_patient_is_in_two_parts(name: str) -> None:
    splits = json.loads((EXAMPLES / name / "splits.json").read_text())
    patients = {part: {case.split("_")[0].split("-nodule-")[0] for case in cases} for part, cases in splits.items()}
    assert sum(map(len, patients.values())) == len(set().union(*patients.values()))


def expected(package: ModelPackage, pixels: np.ndarray) -> float:
    """The probability by Pillow's area mean and onnxruntime, without any code of ours."""
    small = np.asarray(Image.fromarray(pixels.astype(np.float32)).resize((128, 128), Image.Resampling.BOX))
    low, high = np.quantile(small, (0.005, 0.995))
    clipped = np.clip(small, low, high)
    values = ((clipped - clipped.mean()) / clipped.std()).astype(np.float32)
    session = onnxruntime.InferenceSession(str(package.root / "graphs/fp32.onnx"), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {session.get_inputs()[0].name: values[None, None, None]})
    return float(1 / (1 + np.exp(logits[0, 0] - logits[0, 1])))


@pytest.mark.shared_data
def test_pneumonia_reads_dicom_of_both_polarities(shared_data: Path, tmp_path: Path) -> None:
    package = open_package("pneumonia-cxr")
    source = pydicom.dcmread(shared_data / "cxr/rsna-dicom/PatientB.dcm")
    pixels = source.pixel_array.copy()
    source.decompress()
    scores = {}
    for kind in ("MONOCHROME2", "MONOCHROME1"):
        (tmp_path / kind).mkdir()
        source.PhotometricInterpretation = kind
        source.PixelData = (pixels if kind == "MONOCHROME2" else 255 - pixels).tobytes()
        source.save_as(tmp_path / kind / "image.dcm")
        result = hounsfield.run(package.root, tmp_path / kind, tmp_path / f"out-{kind}")
        (files,) = result.outputs.values()
        assert {"sr", "json", "report"} <= set(files)
        (row,) = [one for one in json.loads(files["json"].read_text())["class_scores"] if one["label"] == "pneumonia"]
        scores[kind] = row["probability"]
    assert scores["MONOCHROME1"] == pytest.approx(scores["MONOCHROME2"], abs=1e-4)
    assert scores["MONOCHROME2"] == pytest.approx(expected(package, pixels), abs=0.01)


@pytest.mark.shared_data
def test_a_nodule_that_four_readers_rated_malignant(shared_data: Path, tmp_path: Path) -> None:
    """LIDC-IDRI-0001, in no part of the crops: rated 5, 5, 5 and 4. Beside it, an empty place scores low."""
    whole_ct, data = module(EXAMPLES / "lung-nodule-ct" / "whole_ct.py"), shared_data / "ct-chest-lidc-idri-0001"
    with tarfile.open(data / "LIDC-IDRI-0001.tar.xz") as archive:
        archive.extractall(tmp_path / "ct", filter="data")
    geometry = read(tmp_path / "ct").geometry
    point = whole_ct.centre_mm(whole_ct.outlined(data / "069.xml", geometry), geometry)
    lung = (point[0], point[1] + 45.0, point[2])
    at = Choices(at=(Place(lps_mm=point), Place(lps_mm=lung)))
    result = hounsfield.run("nodule-malignancy-ct", tmp_path / "ct", tmp_path / "out", choices=at)
    (files,) = result.outputs.values()
    assert {"sr", "json", "report"} <= set(files)
    scores = [row for row in json.loads(files["json"].read_text())["class_scores"] if row["label"] == "rated malignant"]
    assert [row["probability"] > 0.5 for row in scores] == [True, False]
