"""The lost and gained lesions of a gate as a table of pictures: the reference precision beside the candidate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from html import escape
from typing import Final

from hounsfield.compression.lesion_changes import LesionChange
from hounsfield.evaluation.dataset import Case, Dataset
from hounsfield.evaluation.pictures import Picture, draw_case
from hounsfield.evaluation.scoring import label_map, reference_of
from hounsfield.packages import ModelPackage
from hounsfield.reading import read
from hounsfield.usecases.case_scoring import CaseScorer
from hounsfield.usecases.gate import GateRequest

MOST_PICTURES: Final = 40
_HEAD: Final = """<!doctype html><html lang='en'><meta charset='utf-8'><title>{title}</title>
<style>body{{font:15px system-ui,sans-serif;margin:2rem;color:#1f2933}}td,th{{padding:.4rem .8rem;vertical-align:top;
text-align:left;border-bottom:1px solid #e3e8ee}}img{{display:block}}</style><h1>{title}</h1><p>{words}</p>"""


def lesion_page(
    changes: Sequence[LesionChange], packages: tuple[ModelPackage, ModelPackage], data: Dataset, request: GateRequest
) -> str | None:
    """A page with two pictures for every lesion that was lost or gained; None where none was.

    The cases are read once more with both precisions. It shows voxels of patients' scans, so it is kept as
    they are.

    Parameters
    ----------
    packages
        That of the reference and that of the candidate; mostly the same.
    """
    if not changes:
        return None
    shown = changes[:MOST_PICTURES]
    cases = {case.id: case for case in data.cases}
    columns = []
    for package, precision in zip(packages, (request.against, request.candidate), strict=True):
        choices = replace(request.choices, precision=precision, allow_unproven=True)
        scorer = CaseScorer(package, choices, request.rules)
        try:
            columns.append([_picture(cases[one.case_id], one.segment, scorer, package, request) for one in shown])
        finally:
            scorer.close()
    headings = [request.against, request.candidate]
    if packages[0].digest != packages[1].digest:
        headings = [package.reference for package in packages]
    return "\n".join(_lines(changes, shown, columns, headings))


def _picture(case: Case, segment: int, scorer: CaseScorer, package: ModelPackage, request: GateRequest) -> Picture:
    loaded, labelled = scorer.answer(case)
    annotators = [label_map(read(path)) for path in case.annotators]
    label = None if case.label is None else label_map(read(case.label))
    numbers = [spec.number for spec in package.manifest.output.segments]
    reference = reference_of(label, annotators, numbers, request.rules.consensus_share)
    return draw_case(loaded.whole, labelled.labels, reference, segment)


def _lines(
    changes: Sequence[LesionChange],
    shown: Sequence[LesionChange],
    columns: Sequence[Sequence[Picture]],
    headings: Sequence[str],
) -> Iterator[str]:
    lost = sum(one.change == "lost" for one in changes)
    words = f"{lost} lost and {len(changes) - lost} gained; {len(shown)} shown, smallest first. Green: the reference "
    words += "standard; orange: the model. Each picture is the slice that differs most. Research use only."
    yield _HEAD.format(title="Lesions lost and gained", words=words)
    yield "<table><tr><th>lesion" + "".join(f"<th>{escape(one)}" for one in headings) + "</tr>"
    for one, *pair in zip(shown, *columns, strict=True):
        told = f"<b>{one.change}</b><br>{one.diameter_mm:.1f} mm<br>{escape(one.band)}<br>{escape(one.case_id)}"
        cells = "".join(
            f"<td><img src='{picture.data_url}' width='{picture.width}' height='{picture.height}' "
            f"alt='slice {picture.slice_index + 1} of {escape(one.case_id, quote=True)}'>"
            for picture in pair
        )
        yield f"<tr><td>{told}{cells}</tr>"
    yield "</table></html>"
