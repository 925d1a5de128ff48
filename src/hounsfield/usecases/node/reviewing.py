"""A person judges what a model said: accepts or rejects it, or draws what is right as a new label version."""

from __future__ import annotations

import hashlib
import json
import math
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from sqlalchemy import Row

from hounsfield.audit import AuditEvent
from hounsfield.department import jobs, reviews
from hounsfield.department.reviews import NewReview
from hounsfield.errors import InputError, SettingsError
from hounsfield.usecases.node.opening import Node
from hounsfield.usecases.node.viewing import result_path
from hounsfield.writing.files import whole_file

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hounsfield.volume import Geometry

Verdict = Literal["accepted", "rejected"]
MOST_LABEL_BYTES: Final = 2 * 2**30
_LONGEST_REASON: Final = 1000
_MOST_SECONDS: Final = 86400.0


@dataclass(frozen=True)
class Judged:
    """What a person says of one series of a job's result."""

    job_id: int
    series: str
    who: str
    reason: str = ""
    seconds: float = 0.0


def judge(node: Node, judged: Judged, verdict: Verdict) -> int:
    """Note that a result was accepted or rejected; the number of the note.

    Raises
    ------
    SettingsError
        If there is no such result, or a rejection gives no reason.
    """
    reason = _reason(judged, needed=verdict == "rejected")
    with node.database.write() as connection:
        study = _study_of(connection, judged)
        number = reviews.add(connection, _review(judged, study, verdict, reason))
    _record(node, judged, {"verdict": verdict})
    return number


def labels_folder(node: Node) -> Path:
    """Where corrected labels lie."""
    folder = node.root / "labels"
    folder.mkdir(exist_ok=True, mode=0o700)
    return folder


async def receive_labels(node: Node, body: AsyncIterator[bytes]) -> Path:
    """Write a drawing to a temporary file, which the caller removes.

    Raises
    ------
    InputError
        If it is larger than any label map of a scan.
    """
    path = node.files.incoming / f"{secrets.token_hex(16)}.nii"
    size = 0
    try:
        with path.open("xb") as stream:
            async for block in body:
                size += len(block)
                if size > MOST_LABEL_BYTES:
                    raise InputError("the drawing is larger than any label map", "load the page again")
                stream.write(block)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


def save_labels(node: Node, drawing: Path, judged: Judged) -> int:
    """Keep a drawing as the next label version of a result; its version.

    Parameters
    ----------
    drawing
        A NIfTI file, still to be trusted: its grid must be the result's, its labels the model's.

    Raises
    ------
    SettingsError
        If there is no such result, or no reason is given.
    InputError
        If the drawing cannot be read, lies on another grid, or has labels that the model does not know.
    """
    reason = _reason(judged, needed=True)
    array, geometry = _checked(node, drawing, judged)
    folder = labels_folder(node)
    with node.database.write(alone=True) as connection:
        study = _study_of(connection, judged)
        version = reviews.next_version(connection, judged.job_id, judged.series)
        path = folder / f"{judged.job_id}-{judged.series}-v{version}.nii.gz"
        write_labels(array, geometry, path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        review = _review(judged, study, "corrected", reason, (version, path.name, digest))
        reviews.add(connection, review)
    changed = {"verdict": "corrected", "label_version": version, "sha256": digest}
    _record(node, judged, changed)
    return version


def label_path(node: Node, job_id: int, series: str, version: int) -> Path:
    """The file of a label version.

    Raises
    ------
    SettingsError
        If there is no such version.
    """
    return labels_folder(node) / str(version_row(node, job_id, series, version).label_path)


def version_row(node: Node, job_id: int, series: str, version: int) -> Row[Any]:
    """The correction that made a label version.

    Raises
    ------
    SettingsError
        If there is no such version.
    """
    with node.database.read() as connection:
        row = reviews.version_of(connection, job_id, series, version)
    if row is None:
        raise SettingsError(f"there is no version {version} of these labels", "open the study again")
    return row


def _checked(node: Node, drawing: Path, judged: Judged) -> tuple[NDArray[np.uint8], Geometry]:
    """The drawn labels (slices, rows, columns) on the result's grid."""
    import numpy as np

    from hounsfield.reading import read

    before = read(result_path(node, judged.job_id, judged.series, "nifti"))
    known = {one["number"] for one in json.loads(_json_of(node, judged))["segments"]}
    drawn = read(drawing)
    if not drawn.geometry.is_close(before.geometry, 1e-2):
        raise InputError("the drawing lies on another grid than the result", "load the page again and draw on it")
    values = np.unique(drawn.array)
    unknown = [value for value in values.tolist() if value != 0 and value not in known]
    if unknown:
        raise InputError(f"the drawing has the labels {unknown[:5]}, which the model does not know", "draw again")
    return drawn.array.astype(np.uint8), before.geometry


def write_labels(array: NDArray[np.uint8], geometry: Geometry, path: Path) -> None:
    """Write labels (slices, rows, columns) as NIfTI-1 with intent LABEL, whole or not at all.

    Raises
    ------
    OutputError
        If there is no room, or a file of this name is there already.
    """
    import nibabel

    image: Any = nibabel.Nifti1Image(array.transpose(2, 1, 0), geometry.affine_ras)
    image.header.set_intent("label", name="hounsfield")
    image.header.set_xyzt_units("mm", "sec")
    image.set_sform(geometry.affine_ras, code=1)
    with whole_file(path, overwrite=True) as temporary:
        image.to_filename(temporary)


def _json_of(node: Node, judged: Judged) -> str:
    return result_path(node, judged.job_id, judged.series, "json").read_text(encoding="utf-8")


def _study_of(connection: Any, judged: Judged) -> str:
    rows = jobs.listed(connection, job_id=judged.job_id)
    written = {Path(row.path).parent.name for row in jobs.results_of(connection, judged.job_id)}
    if not rows or judged.series not in written:
        raise SettingsError("there is no such result", "open the study again")
    return str(rows[0].study_uid)


def _review(
    judged: Judged, study: str, verdict: str, reason: str, label: tuple[int, str, str] = (0, "", "")
) -> NewReview:
    return NewReview(
        job_id=judged.job_id,
        study_uid=study,
        series=judged.series,
        verdict=verdict,
        reason=reason,
        who=judged.who,
        seconds=min(_MOST_SECONDS, max(0.0, judged.seconds)) if math.isfinite(judged.seconds) else 0.0,
        label_version=label[0],
        label_path=label[1],
        label_sha256=label[2],
    )


def _reason(judged: Judged, *, needed: bool) -> str:
    reason = judged.reason.strip()[:_LONGEST_REASON]
    if needed and not reason:
        raise SettingsError("a reason is missing", "say why in a few words")
    return reason


def _record(node: Node, judged: Judged, facts: dict[str, Any]) -> None:
    what = {"activity": "review", "job": judged.job_id, "series": judged.series, **facts}
    node.audit(AuditEvent("application-activity", judged.who, what))
