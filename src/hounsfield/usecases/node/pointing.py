"""A reader's point starts a model: a job of its own, before everything else that waits."""

from __future__ import annotations

import functools
import secrets
from typing import Any, Final

from hounsfield.audit import AuditEvent
from hounsfield.department import jobs, studies
from hounsfield.department.jobs import NewJob
from hounsfield.errors import SettingsError
from hounsfield.packages import open_package
from hounsfield.usecases.models import list_models
from hounsfield.usecases.node.imaging import StudyImages
from hounsfield.usecases.node.routing import Order

PRIORITY: Final = 1000.0
Triple = tuple[float, float, float]


@functools.cache
def point_models() -> tuple[dict[str, Any], ...]:
    """The installed models that read the surroundings of a point and answer with voxels."""
    found = []
    for row in list_models().models:
        if row.problem:
            continue
        manifest = open_package(row.reference).manifest
        if manifest.input.point is not None and manifest.output.segments:
            modality = manifest.input.channels[0].modality
            found.append({"reference": row.reference, "title": row.title, "modality": modality})
    return tuple(found)


def ask_at(images: StudyImages, study_uid: str, series: str, model: str, lps_mm: Triple, who: str) -> int:
    """Make the job that reads the surroundings of a point of a series; its number.

    The results stay on the node: they are sent nowhere.

    Raises
    ------
    SettingsError
        If there is no such study, series or model, or the point lies outside the series.
    """
    if model not in {one["reference"] for one in point_models()}:
        raise SettingsError(f"{model} does not read the surroundings of a point", "choose another model")
    found = images.series(study_uid, series)
    if found.geometry is None or not found.geometry.contains_mm(lps_mm):
        raise SettingsError("the point lies outside the series", "put the cross inside it")
    digests = tuple(path.stem for path in found.files)
    order = Order(model, "fp32", "", False, found.is_repairable, False, (), digests, lps_mm)
    name = f"point-{secrets.token_hex(4)}"
    with images.node.database.write(alone=True) as connection:
        version = studies.listed(connection, study_uid=study_uid, most=1)[0].version
        jobs.make(connection, [NewJob(study_uid, version, name, order.to_json(), PRIORITY)])
        made = next(one.id for one in jobs.listed(connection, study_uid=study_uid) if one.route == name)
    images.node.audit(AuditEvent("application-activity", who, {"activity": "point", "job": made, "model": model}))
    return int(made)
