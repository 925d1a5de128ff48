"""The JSON and the HTML report: complete, closed, honest, and without the person."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from writing_phantoms import SEGMENTS, facts, grid, result_for

from hounsfield.errors import OutputExists, ReadBackFailed
from hounsfield.findings import Segment, local_concept
from hounsfield.findings.measuring import measure_segments
from hounsfield.volume import Geometry, LabelMap, Provenance, Quantity, Volume
from hounsfield.writing import RESEARCH_USE, Result, ResultUids, write_json, write_report
from hounsfield.writing import report as report_module
from hounsfield.writing.pictures import Plane, Stage, View, display_range, draw, useful_planes

IDENTITY = ("Phäntom", "PH-1", "19700101", "ACC7", "Phantom study")


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Result:
    folder = tmp_path_factory.mktemp("usual")
    return result_for(folder, warnings=('<b>old</b> & "odd"',), lacks="no evidence for fp32")


@pytest.fixture(scope="module")
def page(usual: Result, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_report(usual, tmp_path_factory.mktemp("page") / "r.html").path.read_text(encoding="utf-8")


def test_json_holds_findings_facts_geometry_and_provenance(usual: Result, tmp_path: Path) -> None:
    data = json.loads(write_json(usual, tmp_path / "r.json").path.read_text(encoding="utf-8"))
    assert data["notice"] == RESEARCH_USE
    liver = data["findings"][0]
    volume = liver["measurements"][0]
    assert (volume["concept"]["value"], volume["unit"]) == ("118565006", "ml")
    assert volume["value"] == usual.findings.findings[0].measurements[0].value
    assert data["package"]["sha256"] == usual.facts.package_digest
    assert data["run"]["precision"] == "fp32"
    assert data["run"]["unproven"] is True
    assert data["run"]["figures"]["seconds"]["infer"] == 9.5
    assert np.array_equal(data["geometry"]["affine_kji_to_lps_mm"], usual.labels.geometry.affine)
    assert data["source"]["series_instance_uid"] == usual.volume.provenance.series_instance_uid
    assert data["result_uids"]["seg_binary_uid"] == usual.uids.seg_binary_uid
    assert data["warnings"] == list(usual.warnings)


def test_neither_json_nor_report_names_the_person_or_a_path(usual: Result, page: str, tmp_path: Path) -> None:
    text = write_json(usual, tmp_path / "r.json").path.read_text(encoding="utf-8")
    for written in (text, page):
        for part in (*IDENTITY, str(usual.volume.provenance.source)):
            assert part not in written


def test_numbers_that_json_does_not_know_are_refused(usual: Result, tmp_path: Path) -> None:
    spoiled = replace(usual, facts=replace(usual.facts, figures={"rate": float("nan")}))
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(spoiled, tmp_path / "r.json")
    assert list(tmp_path.iterdir()) == []


def test_numpy_numbers_in_figures_are_fine(usual: Result, tmp_path: Path) -> None:
    figures = {"peak_bytes": np.int64(5), "rates": np.array([1.5, 2.5])}
    path = write_json(replace(usual, facts=replace(usual.facts, figures=figures)), tmp_path / "r.json").path
    assert json.loads(path.read_text())["run"]["figures"] == {"peak_bytes": 5, "rates": [1.5, 2.5]}


def test_page_is_closed_and_escaped(page: str) -> None:
    assert "default-src 'none'" in page
    assert not re.search(r"(https?:)?//[a-z]", re.sub(r"base64,[A-Za-z0-9+/=]+", "", page))
    assert "<script" not in page
    assert "&lt;b&gt;old&lt;/b&gt; &amp;" in page
    assert "<b>old</b>" not in page


def test_page_says_what_must_be_said(usual: Result, page: str) -> None:
    assert page.count(RESEARCH_USE) >= 2
    for expected in (
        usual.facts.package_digest,
        "fp32",
        "unproven",
        "openvino 2026.1",
        "Trained on 200 cropped scans from one site",
        "700.0 MiB",
        "9.5 s",
        "64 × 64 × 64",
        "Nodule 1",
        "Nodule 2",
        "not found",
        "prefers-color-scheme:dark",
        "@media print",
    ):
        assert expected in page
    assert page.index("warnings") < page.index("Overview") < page.index("Measurements")


def test_every_finding_with_voxels_has_three_planes(page: str) -> None:
    assert page.count('alt="Axial') == page.count('alt="Coronal') == page.count('alt="Sagittal') == 1 + 4


def test_empty_result_is_said_on_top(tmp_path: Path) -> None:
    text = write_report(result_for(tmp_path, empty=True), tmp_path / "r.html").path.read_text(encoding="utf-8")
    assert text.index("Nothing was found") < text.index("Overview")
    assert "This does not say that the person is healthy" in text


@pytest.mark.parametrize("code", ["LPS", "RAS", "PIR", "SAL", "AIL"])
def test_pictures_show_the_right_side_in_true_proportions(code: str) -> None:
    """A bright block at the patient's Right, Anterior, Superior corner, in any storage order."""
    plain = Geometry.from_parts((10, 20, 30), (5.0, 2.0, 1.0), (-15, -20, -25))
    array = np.zeros(plain.shape, np.int16)
    array[6:, :8, :8] = 1000
    geometry, order, flips = plain.reoriented(code)
    turned = np.flip(array.transpose(order), [axis for axis, flip in enumerate(flips) if flip])
    labels = LabelMap((turned > 0).astype(np.uint8), geometry)
    stage = Stage.of(Volume(turned, geometry, Quantity.ARBITRARY), labels)
    view = View((0, 0, 0), stage.geometry.shape, (0.0, 1000.0), {1: (255, 0, 0)}, 300)
    wanted = {Plane.AXIAL: ("RLAP", 30 / 40), Plane.CORONAL: ("RLSI", 30 / 50), Plane.SAGITTAL: ("APSI", 40 / 50)}
    for plane, (letters, proportion) in wanted.items():
        picture = draw(stage, plane, stage.index_of((-13.0, -15.0, 18.0)), view)
        width, height = picture.size_px
        assert picture.letters == letters
        assert width / height == pytest.approx(proportion, rel=0.02)
        grey = np.asarray(Image.open(io.BytesIO(picture.grey_png)), dtype=float)
        overlay = np.asarray(Image.open(io.BytesIO(picture.overlay_png)))
        quarters = {
            "top left": grey[: height // 4, : width // 5].mean(),
            "top right": grey[: height // 4, -width // 5 :].mean(),
            "bottom left": grey[-height // 4 :, : width // 5].mean(),
        }
        assert quarters["top left"] > 240
        assert max(quarters["top right"], quarters["bottom left"]) < 5
        assert overlay[2, 2, 3] > 0
        assert overlay[-3, -3, 3] == 0


def test_slivers_are_left_out_but_never_every_plane() -> None:
    thin = Geometry.from_parts((2, 200, 200))
    labels = LabelMap(np.zeros(thin.shape, np.uint8), thin)
    stage = Stage.of(Volume(labels.array, thin), labels)
    assert useful_planes(stage, (0, 0, 0), thin.shape) == (Plane.AXIAL,)
    assert useful_planes(stage, (0, 90, 90), (2, 100, 100)) == tuple(Plane)
    assert Plane.AXIAL in useful_planes(stage, (0, 5, 0), (1, 6, 200))


def test_window_follows_the_quantity() -> None:
    geometry = Geometry.from_parts((8, 8, 8))
    labels = LabelMap(np.zeros((8, 8, 8), np.uint8), geometry)

    def window(values: np.ndarray, quantity: Quantity) -> tuple[float, float]:
        stage = Stage.of(Volume(values, geometry, quantity), labels)
        return display_range(stage, (0, 0, 0), (8, 8, 8))

    assert window(np.full((8, 8, 8), -800.0), Quantity.HU) == (-1350.0, 150.0)
    assert window(np.full((8, 8, 8), 60.0), Quantity.HU) == (-160.0, 240.0)
    assert window(np.full((8, 8, 8), 2.0), Quantity.SUV_BW) == (0.0, 5.0)
    low, high = window(np.arange(512.0).reshape(8, 8, 8), Quantity.ARBITRARY)
    assert (low, high) == pytest.approx((2.555, 509.978), abs=0.01)
    assert window(np.full((8, 8, 8), np.nan), Quantity.ARBITRARY) == (0.0, 1.0)


def test_nifti_scan_gets_a_report_and_json_too(tmp_path: Path) -> None:
    geometry = grid("LAS", oblique=True)
    array = np.random.default_rng(0).normal(100, 20, geometry.shape)
    labels = LabelMap((array > 155).astype(np.uint8), geometry)
    volume = Volume(array, geometry, provenance=Provenance(format="nifti"))
    segments = (Segment(1, "Hot", local_concept("Hot"), local_concept("Hot"), lesion=True),)
    findings = measure_segments(labels, volume, segments, seed="1")
    result = Result(volume, labels, findings, facts(), ResultUids.for_run("1"))
    text = write_report(result, tmp_path / "r.html").path.read_text(encoding="utf-8")
    assert "oblique" in text
    parts = len(findings.findings) - 1
    assert parts > 24
    assert f"{parts - 24} more findings are in the table only" in text
    data = json.loads(write_json(result, tmp_path / "r.json").path.read_text())
    assert data["source"]["study_instance_uid"] is None


def test_existing_files_and_lost_pictures_are_refused(
    usual: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "r.json").write_text("{}")
    with pytest.raises(OutputExists):
        write_json(usual, tmp_path / "r.json")
    whole = report_module.page(usual)
    for broken in (
        whole.replace(usual.facts.package_digest, ""),
        re.sub(r"base64,[A-Za-z0-9+/]{40}", "base64,", whole, count=1),
        whole.replace("<footer>", '<img src="https://example.org/x.png"><footer>'),
        whole.replace("</table>", "", 1),
    ):
        monkeypatch.setattr(report_module, "page", lambda result, broken=broken: broken)
        with pytest.raises(ReadBackFailed):
            write_report(usual, tmp_path / "r.html")
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]


def test_pictures_decode(page: str) -> None:
    pictures = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", page)
    assert len(pictures) == 2 * 3 * (1 + len(SEGMENTS))
    sizes = {Image.open(io.BytesIO(base64.b64decode(one))).size for one in pictures}
    assert all(max(size) in (340, 390) for size in sizes)
