"""The report: one HTML file that needs nothing else, for people."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Final

from hounsfield.findings import Finding
from hounsfield.writing.facts import RESEARCH_USE, Result
from hounsfield.writing.figure import chip, figure
from hounsfield.writing.files import Written, write_checked
from hounsfield.writing.map_pictures import map_section
from hounsfield.writing.pictures import (
    Plane,
    Rgb,
    Stage,
    View,
    box_around,
    display_range,
    draw,
    richest_slice,
    useful_planes,
)
from hounsfield.writing.report_check import check_report
from hounsfield.writing.report_style import CSS
from hounsfield.writing.report_tables import facts_tables, measurement_table, record_section

MAX_ROWS: Final = 24
_OVERVIEW_PX: Final = 390
_KEY_PX: Final = 340
_MARGIN_MM: Final = 12.0
_LEAST_MM: Final = 50.0
_LOOKED: Final = (
    "Class-activation map (Grad-CAM) of the reference weights, 0 to 1 of its own largest value. It shows what "
    "moved the score up, coarsely; it does not show where a disease is."
)
_MAPS: Final = "What the model answers for every voxel over the first time point. Clear voxels were not read."
_CSP: Final = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write_report(result: Result, path: Path, *, overwrite: bool = False) -> Written:
    """Write the HTML report, read it back, compare.

    Everything is inside the one file: style, pictures (PNG as data URIs), numbers. A content
    security policy in the page forbids any request. It names no person.

    Raises
    ------
    OutputError, OutputExists, ReadBackFailed
        See ``hounsfield.writing.files``.
    """
    text = page(result)

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    return write_checked(path, "report", write, lambda temporary: check_report(temporary, result), overwrite=overwrite)


def page(result: Result) -> str:
    """The whole page."""
    facts = result.facts
    title = f"{facts.package_title} - hounsfield report"
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_CSP}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title><style>{CSS}</style></head><body>",
            f'<p class="ruo" role="note"><b>{escape(RESEARCH_USE)}</b> Computed without human review.</p>',
            '<input type="checkbox" id="labels" checked><main>',
            _heading(result),
            _warnings(result),
            _pictures(result),
            map_section("Maps", result.findings.maps, _MAPS, result),
            map_section("Where the network looked", result.explanations, _LOOKED, result, True),
            "<section><h2>Measurements</h2>",
            measurement_table(result.findings),
            "</section>",
            record_section(result.record),
            facts_tables(result),
            "</main>",
            f"<footer>{escape(RESEARCH_USE)}. hounsfield {escape(facts.software_version)}, "
            f"run {escape(facts.run_uid)}</footer></body></html>",
            "",
        ]
    )


def _heading(result: Result) -> str:
    facts, acquisition = result.facts, result.volume.provenance.acquisition
    k, j, i = result.labels.geometry.shape
    dk, dj, di = result.labels.geometry.spacing_mm
    parts = [
        acquisition.modality or result.volume.provenance.format.upper(),
        f"{i} × {j} × {k} voxels of {di:.3g} × {dj:.3g} × {dk:.3g} mm",
        f"{facts.package_id} {facts.package_version}",
        f"{facts.precision} on {facts.engine}",
        facts.finished.strftime("%Y-%m-%d %H:%M %Z").strip(),
    ]
    use = f"<p>{escape(facts.intended_use)}</p>" if facts.intended_use else ""
    line = " · ".join(escape(part) for part in parts)
    return f'<header><h1>{escape(facts.package_title)}</h1><p class="line">{line}</p>{use}</header>'


def _warnings(result: Result) -> str:
    boxes = []
    if result.is_empty:
        boxes.append(
            '<div class="box alert"><h2>Nothing was found</h2><p>Not one voxel was labelled. '
            "This does not say that the person is healthy.</p></div>"
        )
    if not result.facts.complete:
        boxes.append('<div class="box alert"><h2>Incomplete</h2><p>Part of what was asked could not be done.</p></div>')
    if result.warnings:
        items = "".join(f"<li>{escape(warning)}</li>" for warning in result.warnings)
        count = len(result.warnings)
        boxes.append(f'<div class="box warn"><h2>{count} warning{"s" * (count > 1)}</h2><ul>{items}</ul></div>')
    return "".join(boxes)


def _pictures(result: Result) -> str:
    stage = Stage.of(result.volume, result.labels)
    colours = {segment.number: segment.colour_rgb for segment in result.findings.segments}
    parts = [
        '<section><h2>Overview <label for="labels">labels on / off</label></h2>',
        _overview(result, stage, colours),
        _legend(result),
        "</section>",
    ]
    shown = [finding for finding in _worth_a_row(result) if finding.centre_mm is not None]
    if shown:
        parts.append("<section><h2>Key slices</h2>")
        parts += [_key_row(stage, finding, colours) for finding in shown[:MAX_ROWS]]
        if len(shown) > MAX_ROWS:
            parts.append(f"<p>{len(shown) - MAX_ROWS} more findings are in the table only.</p>")
        parts.append("</section>")
    return "".join(parts)


def _worth_a_row(result: Result) -> list[Finding]:
    """Whole segments, and of lesion segments the single components."""
    lesions = {segment.number for segment in result.findings.segments if segment.lesion}
    return [
        finding
        for finding in result.findings.findings
        if (finding.component is None and finding.segment_number not in lesions) or finding.component
    ]


def _overview(result: Result, stage: Stage, colours: dict[int, Rgb]) -> str:
    """In each plane the slice with most labelled voxels, whole field of view."""
    start, stop = (0, 0, 0), stage.geometry.shape
    view = View(start, stop, display_range(stage, start, stop), colours, _OVERVIEW_PX)
    middle = stage.index_of(stage.geometry.centre_mm)
    planes = useful_planes(stage, start, stop)
    figures = [figure(draw(stage, plane, _richest(stage, plane, middle, start, stop, None), view)) for plane in planes]
    note = ""
    if stage.geometry.obliquity_degrees > 1:
        note = (
            f'<p class="note">The scan is oblique ({stage.geometry.obliquity_degrees:.0f}°): slices are shown as '
            "stored, letters name the nearest side.</p>"
        )
    return f'<div class="row">{"".join(figures)}</div>{note}'


def _richest(
    stage: Stage,
    plane: Plane,
    index: tuple[int, int, int],
    start: tuple[int, int, int],
    stop: tuple[int, int, int],
    number: int | None,
) -> tuple[int, int, int]:
    """``index``, moved along the axis of ``plane`` to the slice with most voxels of the label."""
    axis = list(Plane).index(plane)
    best = richest_slice(stage, plane, start, stop, number)
    moved = list(index)
    moved[axis] = index[axis] if best is None else best
    return moved[0], moved[1], moved[2]


def _key_row(stage: Stage, finding: Finding, colours: dict[int, Rgb]) -> str:
    """The three planes through one finding, cropped around it."""
    if finding.centre_mm is None:
        return ""
    box_mm = finding.box_mm or (finding.centre_mm, finding.centre_mm)
    start, stop = box_around(stage, box_mm, _MARGIN_MM, _LEAST_MM)
    view = View(start, stop, display_range(stage, start, stop), colours, _KEY_PX)
    index = stage.index_of(finding.centre_mm)
    inner = box_around(stage, box_mm, 0.0, 0.0)
    number = finding.segment_number
    colour = colours.get(number or 0, (128, 128, 128))
    figures = "".join(
        figure(draw(stage, plane, _richest(stage, plane, index, *inner, number), view))
        for plane in useful_planes(stage, start, stop)
    )
    return (
        f"<article><h3>{chip(colour)}{escape(finding.tracking_id)} "
        f'<small>{escape(_summary(finding))}</small></h3><div class="row">{figures}</div></article>'
    )


def _summary(finding: Finding) -> str:
    return ", ".join(f"{one.value:.3g} {one.unit.value}" for one in finding.measurements[:1])


def _legend(result: Result) -> str:
    items = "".join(
        f"<li>{chip(segment.colour_rgb)}{escape(segment.label)}</li>" for segment in result.findings.segments
    )
    return f'<ul class="legend">{items}</ul>'
