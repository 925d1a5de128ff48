"""Class scores of images with a record: the image as for any classifier, and beside it the person's numbers."""

from __future__ import annotations

import time

from hounsfield.errors import NothingToRead
from hounsfield.findings import ClassScore
from hounsfield.inference.activating import probabilities
from hounsfield.packages import ModelPackage
from hounsfield.preparing import prepare
from hounsfield.preparing.cutting import window_at
from hounsfield.usecases.classifying import class_scores, nothing
from hounsfield.usecases.events import OnEvent, Progress
from hounsfield.usecases.job import Choices
from hounsfield.usecases.records import checked_record, record_values
from hounsfield.usecases.small_networks import run_small
from hounsfield.usecases.stages import Labelled, Loaded


def fuse(loaded: Loaded, package: ModelPackage, choices: Choices, on_event: OnEvent) -> Labelled:
    """Run the network on each part of the scan with the same record.

    Raises
    ------
    InputError, DomainRefused
        If the record is not one that the package reads.
    """
    manifest = package.manifest
    record, warnings = checked_record(dict(choices.record), manifest.input.record)
    window, scores = manifest.input.window, list[ClassScore]()
    began, ran = time.perf_counter(), None
    for number, spot in enumerate(loaded.spots, start=1):
        prepared = prepare(spot.part, manifest.input, lazy=True)
        image = window_at(prepared, window.shape, spot.point_mm, window.pad_value)[None]
        ran = run_small(package, choices, image, record)
        (row,) = probabilities(ran.values, manifest.output)
        scores += class_scores(manifest.output.classes, row.tolist(), spot)
        on_event(Progress("windows", number, len(loaded.spots)))
    if ran is None:
        raise NothingToRead("no part of the scan was given", "give a scan or a point in it")
    return Labelled(
        nothing(loaded.whole.geometry),
        ran.engine,
        ran.precision,
        {"engine": ran.engine, "precision": ran.precision, "threads": ran.threads, "mode": "images with a record"},
        {"infer_seconds": round(time.perf_counter() - began, 3), "windows": len(loaded.spots)},
        warnings,
        tuple(scores),
        record=record_values(manifest.input.record, record),
    )
