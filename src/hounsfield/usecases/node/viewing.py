"""A study for the page that shows it: series, what models said of each, what people said of that."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Row

from hounsfield.department import described, jobs, reviews
from hounsfield.errors import SettingsError
from hounsfield.usecases.node.imaging import StudyImages
from hounsfield.usecases.node.opening import Node
from hounsfield.usecases.node.pointing import point_models

#: What a person may download of a result, by the kind that the run gave it.
DOWNLOADS = {
    "seg": "DICOM SEG",
    "sr": "DICOM SR",
    "nifti": "NIfTI labels",
    "json": "JSON",
    "report": "Report",
}


def view_study(images: StudyImages, study_uid: str) -> dict[str, Any]:
    """Everything but voxels that the study's page shows.

    Raises
    ------
    SettingsError
        If there is no such study.
    """
    node = images.node
    series = [one.as_dict() for one in images.listed(study_uid)]
    with node.database.read() as connection:
        rows = sorted(jobs.listed(connection, study_uid=study_uid), key=lambda row: -row.id)
        written = {row.id: jobs.results_of(connection, row.id) for row in rows}
        said = reviews.of_study(connection, study_uid)
        others = described.others_of_person(connection, study_uid)
    answers = [answer for row in rows for answer in _answers(node, row, written[row.id], said)]
    told = ("study_uid", "study_date", "modalities", "description")
    return {
        "study_uid": study_uid,
        "series": series,
        "answers": answers,
        "point_models": list(point_models()),
        "priors": [{key: getattr(one, key) for key in told} for one in others],
    }


def _answers(node: Node, row: Row[Any], written: list[Row[Any]], said: list[Row[Any]]) -> list[dict[str, Any]]:
    """One answer per series that the job read; one without a series when it read none."""
    order = json.loads(row.order_json)
    about = {
        "job": row.id,
        "model": order["model"],
        "route": row.route,
        "version": row.version,
        "state": {"leased": "running", "dead": "failed"}.get(row.state, row.state),
        "reason": row.reason,
        "shadow": bool(row.shadow),
        "precision": order["precision"],
        "at": row.finished_at or row.created_at,
    }
    outcome = json.loads(row.outcome_json) if row.outcome_json else {"series": []}
    found = []
    for one in outcome["series"]:
        kinds = {entry.kind: entry.path for entry in written if Path(entry.path).parent.name == one["name"]}
        theirs = [_review(entry) for entry in said if (entry.job_id, entry.series) == (row.id, one["name"])]
        found.append(
            {
                **about,
                "package": outcome.get("package", order["model"]),
                "series": one["name"],
                "status": one["status"],
                "reason": one["reason"] or row.reason,
                "warnings": one["warnings"],
                "figures": one["figures"],
                "files": [kind for kind in kinds if kind in DOWNLOADS],
                **_content(node.results / kinds["json"] if "json" in kinds else None, kinds),
                "reviews": theirs,
            }
        )
    return found or [{**about, "package": order["model"], "series": "", "status": row.state, **_content(None)}]


def _content(path: Path | None, kinds: Collection[str] = ()) -> dict[str, Any]:
    """Segments, findings, scores and maps from a job's JSON result."""
    empty: dict[str, Any] = {"segments": [], "findings": [], "class_scores": []}
    if path is None or not path.is_file():
        return {**empty, "maps": []}
    data: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    maps = [
        {"kind": f"{what}-{one['number']}", "label": one["label"], "unit": one["unit"], "explains": what != "map"}
        for what in ("explanation", "map")
        for one in data.get(f"{what}s", ())
    ]
    return {**{key: data.get(key, []) for key in empty}, "maps": [one for one in maps if one["kind"] in kinds]}


def _review(row: Row[Any]) -> dict[str, Any]:
    kept = ("id", "verdict", "reason", "who", "at", "seconds", "label_version")
    return {key: getattr(row, key) for key in kept}


def result_path(node: Node, job_id: int, series: str, kind: str) -> Path:
    """The file of a kind that a job wrote of a series.

    Raises
    ------
    SettingsError
        If it wrote none.
    """
    with node.database.read() as connection:
        for row in jobs.results_of(connection, job_id):
            if row.kind == kind and Path(row.path).parent.name == series:
                return node.results / str(row.path)
    raise SettingsError(f"job {job_id} wrote no {kind} of this series", "open the study again")
