"""The evaluation of scores or numbers as one HTML page, in the form of the segmentation report."""

from __future__ import annotations

from html import escape

from hounsfield.evaluation.detection_summary import DetectionSummary
from hounsfield.evaluation.figures import Curve, Frame, padded, point_plot
from hounsfield.evaluation.quantities import QuantitySummary
from hounsfield.evaluation.report import failed_section, head_section, page, shown, table
from hounsfield.evaluation.score_record import ScoreRecord
from hounsfield.evaluation.score_sections import class_section, detection_section


def render_scores(record: ScoreRecord) -> str:
    """The page as HTML text; every word from outside is escaped."""
    title = f"{record.model.reference} on {record.data.name}"
    parts = [
        head_section(record, title),
        failed_section(record),
        *(class_section(one) for one in record.summary.classes),
        *(_quantity(one) for one in record.summary.quantities),
        *(_detection(one) for one in record.summary.detections),
        _comparison(record),
        _proposed(record),
        _method(record),
    ]
    return page(title, parts)


def _quantity(one: QuantitySummary) -> str:
    unit = "" if one.unit == "1" else f" {one.unit}"
    low, high = padded([*one.known, *one.found])
    frame = Frame(low, high, low, high, f"known{unit}", f"found{unit}", width=360, height=340)
    rows = [
        ["bias (found minus known)", shown(one.bias, -1)],
        ["absolute error", shown(one.absolute_error, -1)],
        ["limits of agreement", f"{one.limits[0]:.3g} to {one.limits[1]:.3g}"],
        ["concordance (Lin)", shown(one.concordance)],
    ]
    return (
        f"<section><h2>{escape(one.name)}{escape(unit)}</h2>"
        + table(("figure", "value"), rows)
        + f"<div class='plots'>{point_plot([Curve(one.name, list(one.known), list(one.found))], frame)}</div></section>"
    )


def _detection(one: DetectionSummary) -> str:
    rows = [[band, str(n), str(hit)] for band, n, hit in one.by_size]
    sizes = table(("diameter", "targets", "hit at any score"), rows)
    return detection_section(one.name, one.froc, one.cpm, one.rule, [found for _, found in one.at_rates]) + (
        f"<section><h3>{escape(one.name)} by size</h3>{sizes}</section>"
    )


def _comparison(record: ScoreRecord) -> str:
    if record.compared_with is None:
        return ""
    rows = [
        [
            row.label,
            row.metric,
            str(row.cases),
            shown(row.comparison.difference, 4),
            f"{row.comparison.p_value:.3g}",
            f"{row.p_value_holm:.3g}",
        ]
        for row in record.comparison
    ]
    tests = sorted({row.comparison.test for row in record.comparison})
    other = record.compared_with
    return (
        f"<section><h2>Against {escape(other.reference)} ({escape(other.precision)})</h2>"
        f"<p>{escape(record.model.reference)} minus the other, on the cases that both answered.</p>"
        + table(("answer", "metric", "cases", "difference", "p", "p (Holm)"), rows, left=(1,))
        + f"<p class='quiet'>Two-sided {escape('; '.join(tests))}. "
        f"{len(record.compared_failed)} cases gave the other model no answer.</p></section>"
    )


def _proposed(record: ScoreRecord) -> str:
    rows = [[name, point, f"{t:.4g}"] for name, points in record.proposed.items() for point, t in points.items()]
    if not rows:
        return ""
    return (
        "<section><h2>Thresholds that these data would choose</h2>"
        + table(("class", "rule", "threshold"), rows, left=(1,))
        + "<p class='quiet'>For operating points of the package, when this is a validation part. On the data that "
        "chose them they prove nothing.</p></section>"
    )


def _method(record: ScoreRecord) -> str:
    lines = [
        "AUC: chance that a positive case scores above a negative one, ties half. A case is called where its score is "
        "at least the threshold.",
        "Calibration: ten bins of equal width; the error of a small sample is biased upwards.",
        "Intervals: 95 %, percentile bootstrap over patients; exact (Clopper-Pearson) where all or none succeed.",
        f"Seed {record.seed}.",
    ]
    return (
        f"<section><h2>How it was measured</h2><ul>{''.join(f'<li>{escape(one)}</li>' for one in lines)}</ul></section>"
    )
