"""The tables of the report: measurements, model, scan, figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from hounsfield.findings import CodedConcept, Finding, Findings, Measurement
from hounsfield.findings import terminology as terms
from hounsfield.writing.facts import RecordValue, Result

_UNITS = {"1": "", "[hnsf'U]": "HU", "g/ml{SUVbw}": "SUVbw", "Bq/ml": "Bq/ml"}


def measurement_table(findings: Findings) -> str:
    """One line per finding; columns that no finding fills are left out."""
    if findings.class_scores:
        return score_table(findings)
    if findings.findings and not findings.segments and all(_is_number(one) for one in findings.findings):
        return number_table(findings.findings)
    rows = [(finding, _cells(finding)) for finding in findings.findings]
    columns = [name for name in _COLUMNS if any(cells.get(name) for _, cells in rows)]
    head = "".join(f'<th class="n">{escape(name)}</th>' for name in columns)
    colours = {segment.number: segment.colour_rgb for segment in findings.segments}
    body = []
    for finding, cells in rows:
        colour = colours.get(finding.segment_number or 0, (128, 128, 128))
        kind = "absent" if finding.centre_mm is None else ("part" if finding.component is not None else "")
        values = "".join(f'<td class="n">{escape(cells.get(name) or "–")}</td>' for name in columns)
        body.append(
            f'<tr class="{kind}"><td class="name"><i class="chip" style="background:rgb{colour}"></i>'
            f"{escape(finding.tracking_id)}{_remark(finding)}</td>{values}</tr>"
        )
    diameters = "Diameters run between voxel centres; long and short axis lie in one axial slice. "
    note = (
        f'<p class="note">Volumes count voxels. {diameters if "Longest 3-D (mm)" in columns else ""}Intensities: mean '
        "± population standard deviation. Centre in LPS mm (x to Left, y to Posterior, z to Superior).</p>"
    )
    return (
        f'<div class="scroll"><table><thead><tr><th>Finding</th>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>{note}"
    )


def record_section(record: Sequence[RecordValue]) -> str:
    """The numbers that were read beside or instead of the scan; nothing where none were."""
    if not record:
        return ""
    rows = "".join(
        f'<tr><td class="name">{escape(one.title)}</td><td class="n">'
        f"{'not known' if one.value is None else f'{one.value:g}'}"
        f"{'' if one.unit == '1' or one.value is None else ' ' + escape(one.unit)}</td></tr>"
        for one in record
    )
    return f"<section><h2>The record that was read</h2><table>{rows}</table></section>"


def _is_number(finding: Finding) -> bool:
    """Whether it is a number of the whole image, or quartiles of a map."""
    return finding.centre_mm is None and _find(finding.measurements, terms.FINDING_COUNT, None) is None


def number_table(findings: Sequence[Finding]) -> str:
    """One line per number; of a map its quartiles."""
    rows = []
    for finding in findings:
        cells = [f"{one.title} {number(one.value)} {_unit(one)}".strip() for one in finding.measurements]
        told = "; ".join(cells) or "no voxel was read"
        rows.append(f'<tr><td class="name">{escape(finding.tracking_id)}</td><td>{escape(told)}</td></tr>')
    return (
        f'<div class="scroll"><table><thead><tr><th>Number</th><th>Value</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
        '<p class="note">Numbers are what the model answers; how far they are from known ones stands in the '
        "evidence of the package.</p>"
    )


def _unit(one: Measurement) -> str:
    return _UNITS.get(one.unit.value, one.unit.value)


def score_table(findings: Findings) -> str:
    """One line per class (and point): the probability, and every operating point with what it says."""
    names = list(dict.fromkeys(name for one in findings.class_scores for name, _ in one.operating_points))
    head = "".join(f'<th class="n">{escape(name)}</th>' for name in names)
    body = []
    for one in findings.class_scores:
        thresholds = dict(one.operating_points)
        cells = []
        for name in names:
            value = thresholds.get(name)
            says = "" if value is None else f"{'yes' if one.probability >= value else 'no'} (from {value:.3g})"
            cells.append(f'<td class="n">{escape(says) or "–"}</td>')
        place = "" if one.centre_mm is None else " at ({:.1f}, {:.1f}, {:.1f}) mm".format(*one.centre_mm)
        body.append(
            f'<tr><td class="name">{escape((one.label + place)[:64])}</td><td class="n">{one.probability:.3f}</td>'
            f"{''.join(cells)}</tr>"
        )
    return (
        f'<div class="scroll"><table><thead><tr><th>Class</th><th class="n">Score (0 to 1)</th>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
        '<p class="note">A score is what the model answers. It is the probability of the class only as far as the '
        "evidence of the package shows that it is calibrated. Operating points were fixed beforehand.</p>"
    )


_COLUMNS = (
    "Volume (ml)",
    "Longest 3-D (mm)",
    "Axial long × short (mm)",
    "Mean ± SD",
    "Range",
    "Score (0 to 1)",
    "Centre (mm)",
)


def _remark(finding: Finding) -> str:
    counted = _find(finding.measurements, terms.FINDING_COUNT, None)
    if counted is not None:
        return f" <small>{counted.value:.0f} found</small>"
    if finding.centre_mm is None:
        return " <small>not found</small>"
    count = _find(finding.measurements, terms.COMPONENT_COUNT, None)
    if count is None:
        return ""
    return f" <small>{count.value:.0f} component{'s' * (count.value != 1)}</small>"


def _cells(finding: Finding) -> dict[str, str]:
    def value(concept: CodedConcept, unit: CodedConcept | None = None) -> str:
        found = _find(finding.measurements, concept, None, unit)
        return "" if found is None else number(found.value)

    axes = [value(terms.LONG_AXIS), value(terms.SHORT_AXIS)]
    mean, deviation, low, high = (
        _derived(finding.measurements, how)
        for how in (terms.MEAN, terms.STANDARD_DEVIATION, terms.MINIMUM, terms.MAXIMUM)
    )
    unit = "" if mean is None else _unit(mean)
    spread = f"{number(mean.value)} ± {number(deviation.value)} {unit}".strip() if mean and deviation else ""
    limits = f"{number(low.value)} … {number(high.value)} {unit}".strip() if low and high else ""
    centre = "" if finding.centre_mm is None else ", ".join(f"{n:.1f}" for n in finding.centre_mm)
    return {
        "Volume (ml)": value(terms.VOLUME, terms.MILLILITRE),
        "Longest 3-D (mm)": value(terms.DIAMETER),
        "Axial long × short (mm)": " × ".join(axes) if all(axes) else "",
        "Mean ± SD": spread,
        "Range": limits,
        "Score (0 to 1)": "" if finding.score is None else f"{finding.score:.3f}",
        "Centre (mm)": centre,
    }


def _find(
    measurements: Sequence[Measurement],
    concept: CodedConcept,
    derivation: CodedConcept | None,
    unit: CodedConcept | None = None,
) -> Measurement | None:
    for one in measurements:
        if one.concept == concept and one.derivation == derivation and unit in (None, one.unit):
            return one
    return None


def _derived(measurements: Sequence[Measurement], derivation: CodedConcept) -> Measurement | None:
    return next((one for one in measurements if one.derivation == derivation), None)


def number(value: float) -> str:
    """Three significant digits at least, no more decimals than a reader needs."""
    if value == round(value) or abs(value) >= 100:
        return f"{value:.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3g}"


def facts_tables(result: Result) -> str:
    """Model, limits, scan, plan and figures, side by side."""
    blocks = [_model(result), _limits(result), _scan(result)]
    blocks.append(_table("Plan", list(flattened(result.facts.plan))))
    blocks.append(_table("Figures of this run", list(flattened(result.facts.figures))))
    return f'<div class="facts">{"".join(block for block in blocks if block)}</div>'


def _model(result: Result) -> str:
    facts = result.facts
    rows = [
        ("Package", f"{facts.package_id} {facts.package_version}"),
        ("Package SHA-256", facts.package_digest),
        ("Precision that ran", facts.precision),
        ("Evidence for it", f"unproven: the package has {facts.lacks}" if facts.unproven else "in the package"),
        ("Engine", facts.engine),
        ("Software", f"hounsfield {facts.software_version}"),
        ("Started", facts.started.isoformat(sep=" ", timespec="seconds")),
        ("Finished", facts.finished.isoformat(sep=" ", timespec="seconds")),
        ("Run UID", facts.run_uid),
        ("Licences and credits", facts.attribution),
    ]
    return _table("Model and run", rows)


def _limits(result: Result) -> str:
    if not result.facts.limits:
        return ""
    items = "".join(f"<li>{escape(limit)}</li>" for limit in result.facts.limits)
    return f'<section><h2>Limits of the model</h2><ul class="plain">{items}</ul></section>'


def _scan(result: Result) -> str:
    provenance, geometry = result.volume.provenance, result.labels.geometry
    acquisition = provenance.acquisition
    k, j, i = geometry.shape
    dk, dj, di = geometry.spacing_mm
    scanner = " ".join(part for part in (acquisition.manufacturer, acquisition.manufacturer_model_name) if part)
    rows = [
        ("Format", provenance.format),
        ("Modality", acquisition.modality or "not stated"),
        ("Scanner", scanner),
        ("Voxels (columns, rows, slices)", f"{i} × {j} × {k}"),
        ("Spacing", f"{di:.4g} × {dj:.4g} × {dk:.4g} mm"),
        ("Orientation", f"{geometry.orientation}, {geometry.obliquity_degrees:.1f}° oblique"),
        ("Repairs", "; ".join(provenance.repairs) or "none"),
        ("Study UID", provenance.study_instance_uid or ""),
        ("Series UID", provenance.series_instance_uid or ""),
        ("Voxels SHA-256", provenance.sha256 or ""),
    ]
    return _table("Scan", rows)


def _table(title: str, rows: Sequence[tuple[str, str]]) -> str:
    lines = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows if value)
    return f"<section><h2>{escape(title)}</h2><table><tbody>{lines}</tbody></table></section>" if lines else ""


def flattened(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """(name, value) pairs of nested plain data, with bytes and seconds made readable."""
    for key, value in data.items():
        name = f"{prefix}{str(key).replace('_', ' ')}"
        if isinstance(value, Mapping):
            yield from flattened(value, f"{name}: ")
        else:
            yield _readable(name, value)


def _readable(name: str, value: Any) -> tuple[str, str]:
    if isinstance(value, bool):
        return name, "yes" if value else "no"
    if isinstance(value, (int, float)) and name.endswith("bytes"):
        text = f"{value / 2**30:.2f} GiB" if value >= 2**30 else f"{value / 2**20:.1f} MiB"
        return name.removesuffix("bytes").strip(), text
    if isinstance(value, float):
        return name, f"{value:.4g}" + (" s" if "seconds" in name else "")
    if isinstance(value, (list, tuple)):
        return name, " × ".join(str(one) for one in value)
    return name, "" if value is None else str(value)
