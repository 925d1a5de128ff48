"""Plots are well-formed SVG whose marks lie where the numbers say; pictures hang the radiological way."""

from __future__ import annotations

import io
import math
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from hounsfield.evaluation import ClassCases, ScanDetections, cpm_interval, froc, sensitivity_interval, summarise_class
from hounsfield.evaluation.detection import CPM_RATES
from hounsfield.evaluation.figures import Bar, Curve, Frame, curve_plot, interval_plot, nice_ticks, point_plot
from hounsfield.evaluation.pictures import FOUND_RGB, REFERENCE_RGB, draw_case
from hounsfield.evaluation.record import class_scores
from hounsfield.evaluation.score_sections import class_section, detection_section
from hounsfield.packages.evidence import Score
from hounsfield.volume import Geometry, LabelMap, Volume

SVG = "{http://www.w3.org/2000/svg}"


def circles(text: str) -> list[tuple[float, float]]:
    root = ElementTree.fromstring(text)  # noqa: S314
    return [(float(c.get("cx")), float(c.get("cy"))) for c in root.iter(f"{SVG}circle")]


def test_ticks() -> None:
    assert nice_ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert nice_ticks(-37, 61) == [-20, 0, 20, 40, 60]
    assert nice_ticks(2, 2) == [2]


def test_intervals_lie_in_order_and_text_is_escaped() -> None:
    text = interval_plot(
        [Bar("<a>", 0.2, 0.1, 0.3), Bar("b", 0.8, 0.7, 0.9), Bar("c", 0.5, math.nan, math.nan)], "Dice"
    )
    (x1, y1), (x2, y2), (x3, y3) = circles(text)
    assert x1 < x3 < x2
    assert y1 < y2 < y3
    assert x3 - x1 == pytest.approx((x2 - x1) / 2, abs=0.2)
    assert "<a>" not in text


def test_points_lie_where_the_axes_say_and_infinite_ones_are_left_out() -> None:
    frame = Frame(0, 10, 0, 1, "x", "y", width=200, height=100, left=50, right=50, top=10, bottom=40)
    shown = circles(point_plot([Curve("", [0, 10, 5], [0, 1, math.inf])], frame))
    assert shown == [(50.0, 60.0), (150.0, 10.0)]


def test_a_stepped_curve_rises_in_steps() -> None:
    frame = Frame(0, 2, 0, 1, "x", "y", width=200, height=100, left=0, right=0, top=0, bottom=0)
    root = ElementTree.fromstring(curve_plot([Curve("", [0, 1, 2], [0, 0.5, 1], steps=True)], frame))  # noqa: S314
    points = root.find(f"{SVG}polyline").get("points").split()
    assert points == ["0.0,100.0", "100.0,100.0", "100.0,50.0", "200.0,50.0", "200.0,0.0"]


@pytest.mark.parametrize("code", ["LPS", "RAS", "PIR"])
def test_the_picture_shows_the_worst_slice_with_the_patients_left_at_the_right(code: str) -> None:
    grid = Geometry.from_parts((10, 40, 40), (3.0, 1.0, 1.0))
    scan, truth, ours = (np.zeros(grid.shape, np.uint8) for _ in range(3))
    truth[7, 10:20, 25:35] = 1
    ours[7, 10:20, 5:15] = 1
    truth[3, 10:12, 10:12] = ours[3, 10:12, 10:12] = 1
    moved, order, flips = grid.reoriented(code)
    turned = [np.flip(a.transpose(order), [n for n in range(3) if flips[n]]) for a in (scan, ours, truth)]
    picture = draw_case(Volume(turned[0], moved), LabelMap(turned[1], moved), LabelMap(turned[2], moved), 1)
    assert (picture.slice_index, picture.slices) == (7, 10)
    pixels = np.asarray(Image.open(io.BytesIO(picture.png)))
    reference, found = ((pixels == colour).all(axis=2).nonzero() for colour in (REFERENCE_RGB, FOUND_RGB))
    assert found[1].max() < reference[1].min(), "left of the patient (high i) is at the right"
    assert reference[0].mean() < pixels.shape[0] / 2, "anterior is at the top"


def test_a_case_without_any_voxel_and_a_flat_scan_still_draw() -> None:
    grid = Geometry.from_parts((3, 8, 8))
    nothing = LabelMap(np.zeros(grid.shape, np.uint8), grid)
    assert draw_case(Volume(np.full(grid.shape, 7.0), grid), nothing, nothing, 1).width > 0


class Checker(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in ("meta", "img", "br", "line", "circle", "polyline"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("line", "circle", "polyline"):
            assert self.open.pop() == tag


def well_formed(text: str) -> bool:
    checker = Checker()
    checker.feed(text)
    return not checker.open


def class_cases(n: int = 80) -> ClassCases:
    random = np.random.default_rng(0)
    truth = random.random(n) < 0.4
    scores = np.clip(random.normal(0.4, 0.15, n) + 0.2 * truth, 0, 1)
    names = tuple(f"p{k}" for k in range(n))
    sites = tuple("north" if k < 40 else "south" if k < 76 else "" for k in range(n))
    return ClassCases("pneumonia <x>", tuple(truth.tolist()), tuple(scores.tolist()), names, {"site": sites})


def test_a_class_in_one_section() -> None:
    from sklearn.metrics import roc_auc_score

    cases = class_cases()
    summary = summarise_class(cases, {"chosen": 0.5}, ["site"])
    assert summary.auc.mean == pytest.approx(roc_auc_score(cases.positive, cases.scores))
    rows = {row.value: row for row in summary.strata[0].rows}
    north = roc_auc_score(cases.positive[:40], cases.scores[:40])
    assert rows["north"].interval.mean == pytest.approx(north)
    assert rows["north"].minus_others.mean == pytest.approx(
        north - roc_auc_score(cases.positive[40:], cases.scores[40:])
    )
    assert rows["not known"].interval is None
    text = class_section(summary)
    assert well_formed(text)
    assert "<x>" not in text
    assert f"{summary.auc.mean:.3f}" in text
    assert summary.as_dict()["points"][0]["name"] == "chosen"
    scores = class_scores(summary)
    assert {(s["metric"], s["stratum"]) for s in scores} >= {
        ("pneumonia <x> AUC", "all"),
        ("pneumonia <x> AUC", "site=north"),
    }
    assert all(Score.model_validate(score) for score in scores)


def test_one_class_only_and_scores_that_are_no_probabilities() -> None:
    cases = ClassCases("c", (True,) * 12, tuple(float(n) for n in range(12)), tuple("abcdefghijkl"), {})
    summary = summarise_class(cases, {"five": 5.0})
    assert summary.auc is None
    assert summary.calibration is None
    assert summary.points[0].specificity is None
    assert "no probabilities" in class_section(summary)


def test_detections_in_one_section() -> None:
    scans = [ScanDetections((0.9, 0.4), (0, 1), (0.6, 0.1), 3, 0), ScanDetections((), (), (0.3,), 1, 0)]
    names = ["a", "b"]
    rates = [sensitivity_interval(scans, names, rate) for rate in CPM_RATES]
    text = detection_section("nodules", froc(scans), cpm_interval(scans, names), "within the radius", rates)
    assert well_formed(text)
    assert "4 targets in 2 scans" in text
