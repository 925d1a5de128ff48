"""The shipped chest X-ray model on real DICOM: the SR line by line, both photometric ways, and its explanation."""

from __future__ import annotations

import io
import json
import subprocess
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image

from hounsfield.findings.scoring import operating_concept, threshold_concept
from hounsfield.packages import open_package
from hounsfield.usecases.job import Choices, SeriesResult
from hounsfield.usecases.run import RunRequest, run_model

pytestmark = [pytest.mark.shared_data, pytest.mark.torch]
Line = tuple[int, str, str, str, str]


def read_one(scan: Path, out: Path, explain: bool = False) -> SeriesResult:
    result = run_model(RunRequest("pneumonia-cxr", scan, out, choices=Choices(explain=explain, threads=1)))
    assert result.succeeded, result.series
    return result.series[0]


def lines(item: pydicom.Dataset, depth: int = 0) -> list[Line]:
    """Depth, relationship, value type, code of the name, and the value, of every content item in order."""
    name = item.get("ConceptNameCodeSequence")
    value = ""
    if item.ValueType == "NUM":
        measured = item.MeasuredValueSequence[0]
        value = measured.MeasurementUnitsCodeSequence[0].CodeValue
    elif item.ValueType == "CODE":
        value = item.ConceptCodeSequence[0].CodeValue
    elif item.ValueType == "IMAGE":
        value = item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
    own = (depth, item.get("RelationshipType", ""), item.ValueType, name[0].CodeValue if name else "", value)
    return [own] + [line for child in item.get("ContentSequence") or () for line in lines(child, depth + 1)]


def group_of(sop_instance_uid: str) -> list[Line]:
    """TID 1501 as this house fills it: tracking, finding, algorithm (TID 4019), numbers (TID 300) and evaluations."""
    algorithm = ["111001", "111003", "122405", *["111002"] * 5]
    return [
        (2, "CONTAINS", "CONTAINER", "125007", ""),
        (3, "HAS OBS CONTEXT", "TEXT", "112039", ""),
        (3, "HAS OBS CONTEXT", "UIDREF", "112040", ""),
        (3, "CONTAINS", "CODE", "121071", "233604007"),
        *[(3, "HAS CONCEPT MOD", "TEXT", code, "") for code in algorithm],
        (3, "HAS CONCEPT MOD", "CODE", "111000", "123110"),
        (3, "CONTAINS", "NUM", "111012", "%"),
        (3, "CONTAINS", "NUM", "T_YOUDEN", "%"),
        (3, "CONTAINS", "NUM", threshold_concept("sensitivity 0.9").value, "%"),
        (3, "CONTAINS", "CODE", "INTENDED_USE", "RESEARCH_ONLY"),
        (3, "CONTAINS", "CODE", "OP_YOUDEN", "52101004"),
        (3, "CONTAINS", "CODE", operating_concept("sensitivity 0.9").value, "52101004"),
        (3, "CONTAINS", "IMAGE", "121112", sop_instance_uid),
    ]


def test_both_photometric_ways_give_one_answer_whose_sr_is_complete(tmp_path: Path, shared_data: Path) -> None:
    """The real image is MONOCHROME2; the same one is stored the other way round as MONOCHROME1."""
    scan = shared_data / "cxr" / "rsna-dicom" / "PatientA.dcm"
    header = pydicom.dcmread(scan)
    assert header.PhotometricInterpretation == "MONOCHROME2"
    turned = pydicom.dcmread(scan)
    turned.decompress()
    top = 2**turned.BitsStored - 1
    turned.PixelData = (top - turned.pixel_array).astype(turned.pixel_array.dtype).tobytes()
    turned.PhotometricInterpretation = "MONOCHROME1"
    turned.save_as(tmp_path / "turned.dcm")
    one = read_one(scan, tmp_path / "one", explain=True)
    other = read_one(tmp_path / "turned.dcm", tmp_path / "other")
    scores = [[row["probability"] for row in result.measured] for result in (one, other)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)
    assert sum(scores[0]) == pytest.approx(1.0)
    for result, source in ((one, header), (other, turned)):
        sr = pydicom.dcmread(result.outputs["sr"])
        found = lines(sr)
        start = found.index((2, "CONTAINS", "CONTAINER", "125007", ""))
        group = [found[start], *[line for line in found[start + 1 :] if line[0] > 2][: len(group_of("")) - 1]]
        assert group == group_of(source.SOPInstanceUID)
        assert [line[3] for line in found if line[0] == 1 and line[2] == "CONTAINER"] == [
            "111028",
            "126010",
            "C0034375",
        ]
        assert found[0] == (0, "", "CONTAINER", "126000", "")
        (template,) = sr.ContentTemplateSequence
        assert (template.MappingResource, template.TemplateIdentifier) == ("DCMR", "1500")
        assert sr.StudyInstanceUID == header.StudyInstanceUID
        done = subprocess.run(["dciodvfy", "-new", result.outputs["sr"]], capture_output=True, text=True, check=False)
        assert not [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]
    _check_explanation(one, (1, header.Rows, header.Columns))


def _check_explanation(result: SeriesResult, shape: tuple[int, int, int]) -> None:
    """On the scan's grid, in the page, in the JSON; and equal to MONAI's map on the image that the network saw."""
    image = nibabel.load(result.outputs["explanation-1"])  # type: ignore[attr-defined]
    found = np.asarray(image.dataobj).transpose(2, 1, 0)
    assert found.shape == shape
    assert found.min() >= 0
    assert found.max() == pytest.approx(1.0, abs=0.05)
    data = json.loads(result.outputs["json"].read_text(encoding="utf-8"))
    assert [one["label"] for one in data["explanations"]] == ["pneumonia"]
    assert not any("explanation" in warning for warning in result.warnings), "the torch score is the engine's"
    assert "Where the network looked" in result.outputs["report"].read_text(encoding="utf-8")
    with Image.open(io.BytesIO(result.outputs["picture-1"].read_bytes())) as picture:
        assert picture.mode == "RGB"


def test_the_package_brings_what_an_explanation_needs() -> None:
    package = open_package("pneumonia-cxr")
    assert package.weights_path is not None
    assert package.manifest.architecture is not None


def test_what_cannot_be_explained_is_refused_before_any_scan_is_read(tmp_path: Path) -> None:
    from hounsfield.errors import SettingsError

    with pytest.raises(SettingsError, match="does not answer classes of a whole image"):
        run_model(RunRequest("hippocampus-mr", tmp_path, tmp_path / "out", choices=Choices(explain=True)))
