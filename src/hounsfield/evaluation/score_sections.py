"""Parts of the report for models that answer scores: classes (ROC, calibration) and detections (FROC)."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from hounsfield.evaluation.bootstrap import Interval
from hounsfield.evaluation.class_summary import ClassSummary
from hounsfield.evaluation.detection import CPM_RATES, Froc
from hounsfield.evaluation.figures import BLUE, Curve, Frame, curve_plot
from hounsfield.evaluation.report import shown, stratum_section, table


def class_section(summary: ClassSummary) -> str:
    """One class as an HTML section: AUC, operating points, ROC and reliability plots, strata."""
    points = [
        [
            point.name,
            f"{point.threshold:.3g}",
            shown(point.sensitivity),
            shown(point.specificity),
            shown(point.ppv),
            shown(point.npv),
        ]
        for point in summary.points
    ]
    head = ("operating point", "threshold", "sensitivity", "specificity", "PPV", "NPV")
    prevalence = summary.positives / (summary.positives + summary.negatives)
    return (
        f"<section><h2>{escape(summary.name)}</h2><p>AUC {shown(summary.auc)}, average precision "
        f"{summary.average_precision:.3f}; {summary.positives} positive and {summary.negatives} negative cases.</p>"
        + table(head, points)
        + f"<p class='quiet'>PPV and NPV hold at this sample's prevalence of {prevalence:.1%}.</p>"
        + f"<div class='plots'>{_roc(summary)}{_reliability(summary)}</div>"
        + _calibration(summary)
        + "".join(stratum_section(summary.name, one) for one in summary.strata)
        + "</section>"
    )


def detection_section(name: str, curve: Froc, cpm: Interval, rule: str, at_rates: Sequence[Interval]) -> str:
    """Detections as an HTML section: the FROC plot, and sensitivity at the seven rates of the CPM."""
    most = max([8.0, *curve.false_per_scan.tolist()])
    frame = Frame(0.0, min(most, 16.0), 0.0, 1.0, "false positives per scan", "sensitivity")
    line = Curve("", [0.0, *curve.false_per_scan], [0.0, *curve.sensitivity], BLUE, steps=True)
    rows = [[f"{rate:g}", shown(interval)] for rate, interval in zip(CPM_RATES, at_rates, strict=True)]
    return (
        f"<section><h2>{escape(name)}</h2><p>CPM {shown(cpm)}; {curve.targets} targets in {curve.scans} scans.</p>"
        f"<div class='plots'>{curve_plot([line], frame)}"
        + table(("false positives per scan", "sensitivity"), rows)
        + f"</div><p class='quiet'>Rule: {escape(rule)}.</p></section>"
    )


def _roc(summary: ClassSummary) -> str:
    if summary.auc is None:
        return ""
    frame = Frame(0.0, 1.0, 0.0, 1.0, "1 − specificity", "sensitivity", width=360, height=340)
    return curve_plot(
        [Curve("", (1 - summary.roc.specificity).tolist(), summary.roc.sensitivity.tolist())], frame, True
    )


def _reliability(summary: ClassSummary) -> str:
    if summary.calibration is None:
        return ""
    frame = Frame(0.0, 1.0, 0.0, 1.0, "predicted probability", "observed share", width=360, height=340)
    bins = summary.calibration.bins
    return curve_plot([Curve("", [b.predicted for b in bins], [b.observed for b in bins], marks=True)], frame, True)


def _calibration(summary: ClassSummary) -> str:
    if summary.calibration is None:
        return "<p class='quiet'>The scores are no probabilities, so their calibration has no meaning.</p>"
    found = summary.calibration
    counts = ", ".join(f"{one.low:.1f}-{one.high:.1f}: {one.cases}" for one in found.bins)
    return (
        f"<p>Brier score {shown(found.brier)}, expected calibration error {shown(found.ece)}, mean prediction minus "
        f"observed {shown(found.bias)}.</p><p class='quiet'>Cases per bin: {escape(counts)}.</p>"
    )
