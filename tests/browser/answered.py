"""An answer that no model gave: a label map of the scan's own numbers, kept as a job's result."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from sqlalchemy import insert, select

from hounsfield.department.tables import instances, jobs, results
from hounsfield.reading import load
from hounsfield.usecases.node.imaging import StudyImages
from hounsfield.usecases.node.opening import Node

#: Colours and names of the segments, by number.
SEGMENTS: Mapping[int, tuple[str, list[int]]] = {1: ("Air", [230, 60, 60]), 2: ("Tissue", [60, 190, 90])}


def answer(node: Node, label: Callable[[NDArray[Any]], NDArray[Any]]) -> Any:
    """Give the only study with files an answer, on its whole grid; the labels as NIfTI, voxels (i, j, k).

    Parameters
    ----------
    label
        Numbers of segments from the HU of the scan.
    """
    images = StudyImages(node)
    with node.database.read() as connection:
        study = str(connection.execute(select(instances.c.study_uid)).scalars().first())
    (series,) = (one for one in images.listed(study) if one.modality == "CT" and not one.problem)
    volume: Any = load(images.series(study, series.name))
    numbers = label(volume.array).astype(np.uint8)
    labels = nibabel.Nifti1Image(numbers.transpose(2, 1, 0), volume.geometry.affine_ras)
    labels.header.set_intent("label")
    folder = node.results / "1" / series.name
    folder.mkdir(parents=True)
    labels.to_filename(folder / "labels.nii.gz")
    known = [{"number": n, "label": name, "colour_rgb": rgb} for n, (name, rgb) in SEGMENTS.items() if n in numbers]
    (folder / "result.json").write_text(json.dumps({"segments": known, "findings": [], "class_scores": []}))
    _record(node, study, series.name)
    return labels


def _record(node: Node, study: str, series: str) -> None:
    said = {"name": series, "status": "done", "reason": "", "warnings": [], "figures": {}}
    row = {"id": 1, "study_uid": study, "version": 1, "route": "air", "priority": 1.0, "state": "done"}
    order = {"order_json": json.dumps({"model": "air", "precision": "fp32"}), "created_at": 1.0, "finished_at": 2.0}
    files = {"nifti": "labels.nii.gz", "json": "result.json"}
    kept = [{"kind": kind, "path": f"1/{series}/{name}"} for kind, name in files.items()]
    with node.database.write() as connection:
        connection.execute(insert(jobs), [row | order | {"outcome_json": json.dumps({"series": [said]})}])
        connection.execute(insert(results), [{"job_id": 1, "sha256": "", "size_bytes": 0, **one} for one in kept])
