"""Reviewed results as a data set for ``hounsfield train``: scans, labels, and the table that joins them.

Accepted results go out with the model's labels, corrected ones with the person's latest drawing,
rejected ones not at all. No name and no id of a patient goes out: the column ``patient_id`` is a
keyed digest (HMAC-SHA256) that is the same in every export of one node, and nowhere else.
"""

from __future__ import annotations

import csv
import hashlib
import hmac
import json
import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Row

from hounsfield.audit import AuditEvent
from hounsfield.department import described, reviews
from hounsfield.errors import OutputExists, SettingsError
from hounsfield.usecases.node.imaging import StudyImages
from hounsfield.usecases.node.opening import Node
from hounsfield.usecases.node.reviewing import labels_folder
from hounsfield.usecases.node.viewing import result_path

COLUMNS: Final = (
    "case_id",
    "image",
    "label",
    "patient_id",
    "modality",
    "model",
    "verdict",
    "reviewer",
    "label_version",
)


@dataclass(frozen=True)
class Exported:
    """The table, and how many cases stand in it."""

    table: Path
    cases: int


def export_reviews(images: StudyImages, output: Path, who: str, model: str = "") -> Exported:
    """Write every accepted or corrected label map with its scan to a new folder.

    Parameters
    ----------
    model
        Only results of this model, by id or reference; all by default.

    Raises
    ------
    OutputExists
        If something stands at ``output``.
    SettingsError
        If there is nothing to export.
    """
    node = images.node
    with node.database.read() as connection:
        rows = [row for row in reviews.latest(connection) if row.verdict in ("accepted", "corrected")]
    wanted = [row for row in rows if _has_labels(node, row) and (not model or _model(row) == model)]
    if not wanted:
        raise SettingsError("no label map was accepted or corrected yet", "review some results first")
    if output.exists():
        raise OutputExists("something stands there already", "choose another folder", output)
    partial = output.with_name(f".{secrets.token_hex(4)}.{output.name}")
    try:
        for name in ("images", "labels"):
            (partial / name).mkdir(parents=True)
        cases = [_export(images, row, partial) for row in wanted]
        _write_table(partial / "cases.csv", cases)
        partial.rename(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    node.audit(AuditEvent("export", who, {"cases": len(cases), "model": model or "all"}))
    return Exported(output / "cases.csv", len(cases))


def _has_labels(node: Node, row: Row[Any]) -> bool:
    if row.label_path:
        return True
    try:
        return result_path(node, row.job_id, row.series, "nifti").is_file()
    except SettingsError:
        return False


def _model(row: Row[Any]) -> str:
    return str(json.loads(row.order_json)["model"])


def _export(images: StudyImages, row: Row[Any], folder: Path) -> dict[str, Any]:
    """Copy one case; its line of the table."""
    node, case = images.node, f"case-{row.job_id:06d}-{row.series[-6:]}"
    image, label = folder / "images" / f"{case}.nii", folder / "labels" / f"{case}.nii.gz"
    shutil.copyfile(images.volume(row.study_uid, row.series), image)
    corrected = labels_folder(node) / row.label_path if row.label_path else None
    shutil.copyfile(corrected or result_path(node, row.job_id, row.series, "nifti"), label)
    with node.database.read() as connection:
        facts = described.facts_of(connection, row.study_uid)
    person = facts.patient_id if facts is not None and facts.patient_id else row.study_uid
    return {
        "case_id": case,
        "image": str(image.relative_to(folder)),
        "label": str(label.relative_to(folder)),
        "patient_id": hmac.new(_key(node), person.encode(), hashlib.sha256).hexdigest()[:16],
        "modality": images.series(row.study_uid, row.series).modality or "",
        "model": _model(row),
        "verdict": row.verdict,
        "reviewer": row.who,
        "label_version": row.label_version,
    }


def _write_table(path: Path, cases: list[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        table = csv.DictWriter(stream, COLUMNS)
        table.writeheader()
        table.writerows(cases)


def _key(node: Node) -> bytes:
    """The node's own key for digests of patients, made when it is first needed."""
    path = node.root / "export-key"
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_bytes()
    with os.fdopen(handle, "wb") as stream:
        stream.write(secrets.token_bytes(32))
    return path.read_bytes()
