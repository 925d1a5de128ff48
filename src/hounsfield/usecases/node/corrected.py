"""A person's corrected labels as DICOM SEG: drawn by hand, over a model's answer, referring to the same images."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import Row

from hounsfield.errors import GeometryRefused, SettingsError
from hounsfield.reading import load, read
from hounsfield.usecases.node.imaging import StudyImages
from hounsfield.usecases.node.reviewing import labels_folder, version_row
from hounsfield.usecases.node.viewing import result_path
from hounsfield.version import __version__
from hounsfield.volume import LabelMap, Volume

if TYPE_CHECKING:
    from hounsfield.findings import CodedConcept, Segment
    from hounsfield.writing import Result, ResultFacts


def corrected_seg(images: StudyImages, job_id: int, series: str, version: int) -> Path:
    """The SEG of a label version: written and read back when it is first asked for, then kept.

    Its UIDs follow from the version, so that writing it again makes the same instance.

    Raises
    ------
    SettingsError
        If there is no such version.
    OutputError
        If the scan has no frame of reference to attach to, or there is no room.
    """
    from hounsfield.writing import write_seg

    row = version_row(images.node, job_id, series, version)
    path = labels_folder(images.node) / f"{job_id}-{series}-v{version}.dcm"
    if not path.is_file():
        write_seg(_result(images, row), path, overwrite=True)
    return path


def _result(images: StudyImages, row: Row[Any]) -> Result:
    """The drawn labels as a result of the same scan."""
    from hounsfield.findings.measuring import measure_segments
    from hounsfield.writing import Correction, Result, ResultUids

    found = images.series(row.study_uid, row.series)
    whole = load(found, repair=not found.is_loadable)
    drawn = read(labels_folder(images.node) / row.label_path)
    if not isinstance(whole, Volume) or not drawn.geometry.is_close(whole.geometry, 1e-2):
        raise GeometryRefused("the labels lie on another grid than the series", "open the study again")
    labels = LabelMap(np.ascontiguousarray(drawn.array.astype(np.uint8)), whole.geometry)
    data = json.loads(result_path(images.node, row.job_id, row.series, "json").read_text(encoding="utf-8"))
    seed = f"{data['run']['uid']}/labels/{row.label_version}/{row.label_sha256}"
    findings = measure_segments(labels, whole, tuple(_segment(one) for one in data["segments"]), seed=seed)
    correction = Correction(row.who, row.label_version, row.seconds)
    return Result(whole, labels, findings, _facts(data, row), ResultUids.for_run(seed), correction=correction)


def _facts(data: dict[str, Any], row: Row[Any]) -> ResultFacts:
    """What the answer that was corrected said of itself, with the time of the correction."""
    from hounsfield.writing import ResultFacts

    package, run = data["package"], data["run"]
    at = datetime.fromtimestamp(row.at, UTC)
    return ResultFacts(
        package_id=package["id"],
        package_version=package["version"],
        package_title=package["title"],
        package_digest=package["sha256"],
        precision=run["precision"],
        engine=run["engine"],
        software_version=__version__,
        run_uid=run["uid"],
        started=at,
        finished=at,
        attribution=package["attribution"],
    )


def _segment(data: dict[str, Any]) -> Segment:
    from hounsfield.findings import Segment

    red, green, blue = data["colour_rgb"]
    category, meant, modifier = (_concept(data[name]) for name in ("category", "type", "modifier"))
    if category is None or meant is None:
        raise SettingsError("the result does not say what its segments are", "run the model again")
    return Segment(data["number"], data["label"], category, meant, modifier, data["lesion"], (red, green, blue))


def _concept(data: dict[str, str] | None) -> CodedConcept | None:
    from hounsfield.findings import CodedConcept

    return None if data is None else CodedConcept(**data)
