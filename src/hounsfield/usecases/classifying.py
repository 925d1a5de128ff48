"""Class scores of a whole image, or of the surroundings of points, by one window each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hounsfield.findings import ClassScore, CodedConcept
from hounsfield.inference.activating import probabilities
from hounsfield.packages import ModelPackage
from hounsfield.packages.answers import ClassSpec
from hounsfield.preparing import prepare
from hounsfield.preparing.cutting import window_at
from hounsfield.usecases.events import OnEvent, Progress
from hounsfield.usecases.job import Choices
from hounsfield.usecases.sessions import Sessions
from hounsfield.usecases.spots import Spot
from hounsfield.volume import Geometry, LabelMap

if TYPE_CHECKING:
    from hounsfield.planning import Plan
    from hounsfield.usecases.stages import Labelled, Loaded


def classify(
    loaded: Loaded, package: ModelPackage, choices: Choices, sessions: Sessions, on_event: OnEvent, plan: Plan | None
) -> Labelled:
    """Prepare, run the network once per part, and answer the probabilities of every class."""
    from hounsfield.usecases.stages import Labelled

    manifest = package.manifest
    opened = sessions.open(package, choices, plan)
    began, scores = time.perf_counter(), []
    for number, spot in enumerate(loaded.spots, start=1):
        prepared = prepare(spot.part, manifest.input, lazy=True)
        window = manifest.input.window
        values = window_at(prepared, window.shape, spot.point_mm, window.pad_value)
        (row,) = probabilities(opened.session.infer(np.ascontiguousarray(values)[None]), manifest.output)
        scores += class_scores(manifest.output.classes, row.tolist(), spot)
        on_event(Progress("windows", number, len(loaded.spots)))
    seconds = round(time.perf_counter() - began, 3)
    facts = opened.session.facts()
    figures = {"infer_seconds": seconds, "windows": len(loaded.spots)}
    return Labelled(
        nothing(loaded.whole.geometry),
        f"{facts['engine']} {facts['version']}",
        opened.session.precision,
        facts,
        figures,
        (),
        tuple(scores),
    )


def nothing(geometry: Geometry) -> LabelMap:
    """A label map without a label that takes no memory, for answers that are no labels."""
    return LabelMap(np.broadcast_to(np.uint8(0), geometry.shape), geometry)


def class_scores(classes: Sequence[ClassSpec], values: Sequence[float], spot: Spot | None = None) -> list[ClassScore]:
    """The probabilities with what they mean."""
    return [
        ClassScore(
            concept=CodedConcept(spec.concept.value, spec.concept.scheme, spec.concept.meaning),
            probability=value,
            threshold=spec.operating_points[0].threshold if spec.operating_points else None,
            label=spec.label,
            reported=spec.reported,
            operating_points=tuple((point.name, point.threshold) for point in spec.operating_points),
            centre_mm=None if spot is None else spot.point_mm,
        )
        for spec, value in zip(classes, values, strict=True)
    ]


def score_rows(scores: Sequence[ClassScore]) -> tuple[dict[str, Any], ...]:
    """One row per class for summaries."""
    return tuple(
        {
            "label": one.label,
            "probability": one.probability,
            "point_mm": None if one.centre_mm is None else list(one.centre_mm),
            "called": {name: one.probability >= value for name, value in one.operating_points},
        }
        for one in scores
    )
