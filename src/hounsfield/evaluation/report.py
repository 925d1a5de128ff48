"""The evaluation as one HTML page: figures, tables, plots and the worst cases, nothing loaded from outside."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from hounsfield.evaluation.bootstrap import Interval
from hounsfield.evaluation.figures import (
    BLUE,
    INK,
    ORANGE,
    Bar,
    Curve,
    Frame,
    interval_plot,
    padded,
    point_plot,
)
from hounsfield.evaluation.lesion_tables import LesionTable
from hounsfield.evaluation.pictures import Picture
from hounsfield.evaluation.record import EvaluationRecord, FailedCase, metric_name, rules_as_dict
from hounsfield.evaluation.score_record import ScoreRecord
from hounsfield.evaluation.scoring import ScoredSegment
from hounsfield.evaluation.strata import StrataTable
from hounsfield.evaluation.summary import ScoredCase

_STYLE: Final = """
:root{color-scheme:light}body{font:15px/1.5 system-ui,sans-serif;color:#1f2933;margin:0;background:#f4f6f8}
main{max-width:1120px;margin:0 auto;padding:24px}section{background:#fff;border:1px solid #e3e8ee;border-radius:8px;
padding:18px 22px;margin:16px 0}h1{font-size:24px;margin:0 0 4px}h2{font-size:18px;margin:0 0 10px}h3{font-size:15px;
margin:18px 0 6px}.banner{background:#fff4e5;border:1px solid #f0c48a;border-radius:8px;padding:10px 16px}
.bad{background:#fdecea;border-color:#e8a49b}table{border-collapse:collapse;margin:6px 0;font-size:14px}
th,td{padding:5px 12px;text-align:right;border-bottom:1px solid #e3e8ee;vertical-align:top}th{color:#52606d;
font-weight:600}th:first-child,td:first-child{text-align:left}td.left,th.left{text-align:left}.quiet{color:#66727f}
.scroll,.plots{overflow-x:auto}.plots{display:flex;flex-wrap:wrap;gap:18px;align-items:flex-start}
.cases{display:grid;grid-template-columns:repeat(auto-fill,minmax(300px,1fr));gap:16px}figure{margin:0}
figure img{border-radius:4px;background:#000;max-width:100%}figcaption{font-size:13px}
.key{display:inline-block;width:12px;height:12px;border-radius:2px;margin:0 4px 0 12px;vertical-align:-1px}
dl{display:grid;grid-template-columns:max-content 1fr;gap:2px 18px;margin:0}dt{color:#66727f}dd{margin:0;
overflow-wrap:anywhere}svg{max-width:100%;height:auto}@media print{section{break-inside:avoid}}
"""
_POLICY: Final = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@dataclass(frozen=True)
class WorstCase:
    """One of the lowest Dice: which case and segment, its scores in words, and its picture."""

    case_id: str
    segment: ScoredSegment
    dice: float
    hd95_mm: float
    picture: Picture


def render(record: EvaluationRecord, cases: Sequence[ScoredCase], worst: Sequence[WorstCase] = ()) -> str:
    """The page as HTML text; every word from outside is escaped."""
    title = f"{record.model.reference} on {record.data.name}"
    parts = [
        head_section(record, title),
        failed_section(record),
        _metrics(record, cases),
        *(_lesions(segment, table) for segment, table in record.summary.lesions),
        _annotators(record),
        _strata(record),
        _comparison(record),
        _worst(worst),
        _method(record),
    ]
    return page(title, parts)


def page(title: str, parts: Sequence[str]) -> str:
    """The sections as a whole page that loads nothing."""
    frame = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        f"<meta http-equiv='Content-Security-Policy' content=\"{_POLICY}\">",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main>",
        *parts,
        "</main></body></html>",
    ]
    return "\n".join(part for part in frame if part)


def shown(interval: Interval | None, digits: int = 3) -> str:
    """``0.874 (0.851 to 0.893)``, or a dash."""
    if interval is None or not math.isfinite(interval.mean):
        return "–"
    if not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return f"{_number(interval.mean, digits)} (no interval)"
    return f"{_number(interval.mean, digits)} ({_number(interval.low, digits)} to {_number(interval.high, digits)})"


def _number(value: float, digits: int) -> str:
    """With so many decimals, or three significant figures where ``digits`` is negative."""
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    text = f"{value:.{digits}f}" if digits >= 0 else f"{value:.3g}"
    return text.replace("-", "−") if float(text) else text.lstrip("-")


def head_section(record: EvaluationRecord | ScoreRecord, title: str) -> str:
    """What was evaluated on what, by whom, and the notes."""
    data, summary = record.data, record.summary
    facts = {
        "model": f"{record.model.title} ({record.model.reference})",
        "package digest": record.model.digest,
        "graph and engine": f"{record.model.precision} graph; {record.model.engine}; ran {record.model.ran_precision}",
        "data": f"{data.name}, part {data.part!r} ({data.use}); digest {data.digest}",
        "split file": data.split_file_sha256 or "none (column of the table)",
        "cases": f"{summary.cases} scored of {data.cases}, {summary.patients} patients; {len(record.failed)} failed",
        "time and memory": _effort(record),
        "made": f"{record.created}, hounsfield {record.software_version}, seed {record.seed}",
    }
    rows = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in facts.items())
    notes = "".join(f"<li>{escape(note)}</li>" for note in record.notes)
    return (
        f"<h1>{escape(title)}</h1><p class='banner'>Research use only. These figures hold for this data set; "
        f"brackets are 95 % intervals over patients.</p><section><dl>{rows}</dl>"
        + (f"<h3>Notes</h3><ul>{notes}</ul>" if notes else "")
        + "</section>"
    )


def _effort(record: EvaluationRecord | ScoreRecord) -> str:
    peak = "" if record.effort.peak_mib is None else f", peak {record.effort.peak_mib:.0f} MiB"
    return f"{record.effort.seconds_per_case:.3g} s per case (median){peak}; {record.effort.machine}"


def failed_section(record: EvaluationRecord | ScoreRecord) -> str:
    """The cases that gave no score, by name; empty where there are none."""
    if not record.failed:
        return ""
    count = f"{len(record.failed)} of {record.data.cases} cases gave no score"
    return (
        f"<section class='bad'><h2>{count}</h2>"
        + _failed_table("They are in no figure below, which hold for the others only:", record.failed)
        + "</section>"
    )


def _failed_table(lead: str, failed: Sequence[FailedCase]) -> str:
    if not failed:
        return ""
    rows = [[one.case_id, one.error, one.message] for one in failed]
    return f"<p>{escape(lead)}</p>" + table(("case", "error", "what happened"), rows, left=(1, 2))


def _metrics(record: EvaluationRecord, cases: Sequence[ScoredCase]) -> str:
    rows = [
        [
            row.segment.label,
            metric_name(row.name, record.rules) + (f" ({row.unit})" if row.unit != "1" else ""),
            shown(row.mean, row.digits),
            shown(row.median, row.digits),
            str(record.summary.cases - row.infinite),
            str(row.infinite or ""),
            str(row.empty or ""),
        ]
        for row in record.summary.metrics
    ]
    bars = [
        Bar(row.segment.label, row.mean.mean, row.mean.low, row.mean.high, shown(row.mean))
        for row in record.summary.metrics
        if row.metric == "dice" and row.mean is not None
    ]
    overview = interval_plot(bars, "mean Dice", min([*(b.low for b in bars if b.low == b.low), 0.5]), 1.0)
    plots = [plot for place in range(len(cases[0].segments)) for plot in _case_plots(cases, place)]
    present = [
        [entry.segment.label, shown(entry.sensitivity), shown(entry.specificity)] for entry in record.summary.presence
    ]
    return (
        "<section><h2>Segmentation</h2>"
        + table(("segment", "metric", "mean", "median", "cases", "infinite", "both empty"), rows, left=(1,))
        + "<p class='quiet'>Infinite: model or reference is empty, so there is no distance; not in the mean, but in "
        "the median. Both empty: neither has a voxel, counted as agreement.</p>"
        + f"<div class='plots'>{overview}</div><div class='plots'>{''.join(plots)}</div>"
        + "<h3>Is the segment there at all?</h3>"
        + table(("segment", "sensitivity", "specificity"), present)
        + "</section>"
    )


def _case_plots(cases: Sequence[ScoredCase], place: int) -> list[str]:
    scores = [case.segments[place] for case in cases]
    label = scores[0].segment.label
    reference = [one.reference_ml for one in scores]
    x_low, x_high = padded(reference)
    dice = Frame(max(0.0, x_low), x_high, 0.0, 1.0, f"reference volume, ml ({label})", "Dice")
    low, high = padded([one.volume_error_ml for one in scores] + [0.0])
    error = Frame(max(0.0, x_low), x_high, low, high, f"reference volume, ml ({label})", "found minus reference, ml")
    bias = sum(one.volume_error_ml for one in scores) / len(scores)
    return [
        point_plot([Curve(label, reference, [one.dice for one in scores])], dice),
        point_plot(
            [Curve(label, reference, [one.volume_error_ml for one in scores], ORANGE)],
            error,
            [(0.0, ""), (bias, f"mean {bias:+.3g} ml")],
        ),
    ]


def _lesions(segment: ScoredSegment, lesions: LesionTable) -> str:
    rows = [
        [
            row.band,
            str(row.reference),
            str(row.hit),
            str(row.false),
            shown(row.sensitivity),
            shown(row.precision),
            shown(row.f1),
            shown(row.dice),
        ]
        for row in lesions.rows
    ]
    bars = [
        Bar(row.band, row.sensitivity.mean, row.sensitivity.low, row.sensitivity.high, f"n = {row.reference}")
        for row in lesions.rows
        if row.sensitivity is not None
    ]
    empty = [row.band for row in lesions.rows[1:] if not row.reference]
    return (
        f"<section><h2>Lesion by lesion: {escape(segment.label)}</h2>"
        + table(
            ("size", "reference", "found", "false", "sensitivity", "precision", "F1", "Dice (missed = 0)"),
            rows,
        )
        + (f"<p>No reference lesion at all in: {escape(', '.join(empty))}.</p>" if empty else "")
        + f"<p>False lesions per case: {shown(lesions.false_per_case, 2)}. Split reference lesions: {lesions.splits}; "
        f"found lesions that merge several: {lesions.merges}.</p>"
        + (f"<div class='plots'>{interval_plot(bars, 'lesion sensitivity', 0.0, 1.0)}</div>" if bars else "")
        + f"<p class='quiet'>Rule: {escape(lesions.rule)}. False lesions are sorted by their own size.</p></section>"
    )


def _annotators(record: EvaluationRecord) -> str:
    if not record.summary.agreement:
        return ""
    rows, bars = [], []
    for row in record.summary.agreement:
        found = row.agreement
        difference = found.model_minus_between
        rows.append(
            [
                row.segment.label,
                row.band,
                str(row.cases),
                shown(found.between),
                shown(found.with_model),
                shown(difference.difference),
                f"{difference.p_value:.3g}",
            ]
        )
        name = f"{row.segment.label}, {row.band}"
        bars.append(Bar(f"{name}: annotators", found.between.mean, found.between.low, found.between.high, "", INK))
        model = found.with_model
        bars.append(Bar(f"{name}: model", model.mean, model.low, model.high, f"n = {row.cases}", BLUE))
    head = ("segment", "size or stratum", "cases", "annotator–annotator", "model–annotator", "difference", "p")
    return (
        "<section><h2>Annotators beside the model (Dice)</h2>"
        + table(head, rows, left=(1,))
        + f"<div class='plots'>{interval_plot(bars, 'mean pairwise Dice')}</div></section>"
    )


def _strata(record: EvaluationRecord) -> str:
    if not record.summary.strata:
        return ""
    body = "".join(stratum_section(segment.label, one) for segment, one in record.summary.strata)
    least = record.summary.strata[0][1].minimum_patients
    return (
        "<section><h2>For whom it works worse</h2>"
        + body
        + f"<p class='quiet'>Groups of fewer than {least} patients are counted but get no figure. Many groups are "
        "compared here: expect one in twenty intervals to exclude zero by chance.</p></section>"
    )


def stratum_section(name: str, one: StrataTable) -> str:
    """One table by a column, with its plot where two groups or more have a figure."""
    what = one.metric if one.metric == "AUC" else f"mean {one.metric}"
    rows = [
        [
            row.value,
            str(row.cases),
            str(row.patients),
            shown(row.interval) if row.interval else "too few",
            shown(row.minus_others),
        ]
        for row in one.rows
    ]
    bars = [
        Bar(row.value, row.interval.mean, row.interval.low, row.interval.high, f"{row.patients} patients")
        for row in one.rows
        if row.interval is not None
    ]
    plot = f"<div class='plots'>{interval_plot(bars, what)}</div>" if len(bars) > 1 else ""
    column = one.column.replace("_", " ")
    head = (column, "cases", "patients", what, "minus all others")
    return f"<h3>{escape(name)}: {escape(one.metric)} by {escape(column)}</h3>" + table(head, rows) + plot


def _comparison(record: EvaluationRecord) -> str:
    if record.compared_with is None:
        return ""
    rows = [
        [
            segment.label,
            kind.name,
            str(cases),
            shown(found.difference, kind.digits + 1 if kind.digits >= 0 else -1),
            f"{found.p_value:.3g}",
            f"{adjusted:.3g}",
        ]
        for segment, kind, cases, found, adjusted in record.comparison
    ]
    tests = sorted({row[3].test for row in record.comparison})
    return (
        f"<section><h2>Against {escape(record.compared_with.reference)} ({escape(record.compared_with.precision)})</h2>"
        + f"<p>{escape(record.model.reference)} ({escape(record.model.precision)}) minus the other, on the cases that "
        "both answered with a finite value.</p>"
        + table(("segment", "metric", "cases", "difference", "p", "p (Holm)"), rows, left=(1,))
        + f"<p class='quiet'>Two-sided {escape('; '.join(tests))}.</p>"
        + _failed_table(f"{record.compared_with.reference} gave no score for", record.compared_failed)
        + "</section>"
    )


def _worst(worst: Sequence[WorstCase]) -> str:
    if not worst:
        return ""
    figures = "".join(
        f"<figure><img src='{one.picture.data_url}' width='{one.picture.width}' height='{one.picture.height}' "
        f"alt='slice {one.picture.slice_index + 1} of {escape(one.case_id, quote=True)}'>"
        f"<figcaption><b>{escape(one.case_id)}</b>, {escape(one.segment.label)}: Dice {one.dice:.3f}, "
        f"HD95 {_number(one.hd95_mm, 1)} mm<br><span class='quiet'>slice {one.picture.slice_index + 1} of "
        f"{one.picture.slices}, the one that differs most</span></figcaption></figure>"
        for one in worst
    )
    key = (
        "<p><span class='key' style='background:#00c8aa'></span>reference "
        "<span class='key' style='background:#ff8a1f'></span>model</p>"
    )
    return f"<section><h2>The worst cases</h2>{key}<div class='cases'>{figures}</div></section>"


def _method(record: EvaluationRecord) -> str:
    rules = rules_as_dict(record.rules)
    lines = [
        f"Lesion matching: {rules['matching_in_words']}.",
        f"NSD: share of surface voxels within {record.rules.tolerance_mm:g} mm of the other surface.",
        "HD95: the larger of the two directed 95th percentiles of surface distance, between voxel centres.",
        f"Where annotators are given and no label, the reference is what at least "
        f"{record.rules.consensus_share:.0%} of them outlined.",
        f"Intervals: {rules['intervals']}.",
    ]
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<section><h2>How it was measured</h2><ul>{items}</ul></section>"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int] = ()) -> str:
    """An HTML table; columns are right-aligned but the first and those in ``left``."""
    cells = "".join(
        f"<th class='left'>{escape(name)}</th>" if place in left else f"<th>{escape(name)}</th>"
        for place, name in enumerate(head)
    )
    body = "".join(
        "<tr>"
        + "".join(
            f"<td class='left'>{escape(cell)}</td>" if place in left else f"<td>{escape(cell)}</td>"
            for place, cell in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    return f"<div class='scroll'><table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>"
