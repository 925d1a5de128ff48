"""Located findings of a detector: its heat-maps window by window, peaks in millimetres, near ones merged."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import PackageInvalid
from hounsfield.findings import CodedConcept, Finding, Measurement
from hounsfield.findings import terminology as terms
from hounsfield.findings.measuring import derived_uid
from hounsfield.findings.peaks import Peak, find_peaks
from hounsfield.packages import ModelPackage
from hounsfield.packages.answers import BoxSpec
from hounsfield.packages.manifest import WindowSpec
from hounsfield.planning.need import starts
from hounsfield.preparing import Prepared
from hounsfield.usecases.classifying import nothing
from hounsfield.usecases.events import OnEvent, Progress
from hounsfield.usecases.job import Choices
from hounsfield.usecases.sessions import Sessions

if TYPE_CHECKING:
    from hounsfield.planning import Plan
    from hounsfield.usecases.stages import Labelled, Loaded

Triple = tuple[float, float, float]
FLOOR = 0.02


@dataclass(frozen=True)
class Detected:
    """One located lesion: number of its kind, score, LPS centre and size along the network's axes, mm."""

    kind: int
    score: float
    centre_mm: Triple
    size_mm: Triple
    box_mm: tuple[Triple, Triple]

    @property
    def diameter_mm(self) -> float:
        """Of the ball whose volume is that of the ellipsoid in the box."""
        return float(math.prod(self.size_mm) ** (1 / 3))


def detect(
    loaded: Loaded, package: ModelPackage, choices: Choices, sessions: Sessions, on_event: OnEvent, plan: Plan | None
) -> Labelled:
    """Run the network over every part of the scan and answer what it finds, best first."""
    from hounsfield.usecases.inferring import prepared_part
    from hounsfield.usecases.stages import Labelled

    opened = sessions.open(package, choices, plan)
    began, found, windows = time.perf_counter(), [], 0
    for spot in loaded.spots:
        prepared = prepared_part(spot.part, package, plan)
        corners = _corners(prepared, package.manifest.input.window)
        for number, corner in enumerate(corners, start=1):
            values = _window(prepared, package.manifest.input.window, corner)
            answer = opened.session.infer(values[None])[0]
            found += _in_window(np.asarray(answer), corner, prepared, package)
            on_event(Progress("windows", number, len(corners)))
        windows += len(corners)
    facts = opened.session.facts()
    return Labelled(
        nothing(loaded.whole.geometry),
        f"{facts['engine']} {facts['version']}",
        opened.session.precision,
        facts,
        {"infer_seconds": round(time.perf_counter() - began, 3), "windows": windows},
        detected=merged(found),
    )


def _corners(prepared: Prepared, window: WindowSpec) -> list[tuple[int, int, int]]:
    lines = [
        starts(max(n, w), w, window.overlap, window.positions)
        for n, w in zip(prepared.shape, window.shape, strict=True)
    ]
    return [(k, j, i) for k, j, i in itertools.product(*lines)]


def _window(prepared: Prepared, window: WindowSpec, corner: tuple[int, int, int]) -> NDArray[np.float32]:
    stops = [min(n, c + w) for n, c, w in zip(prepared.shape, corner, window.shape, strict=True)]
    k, j, i = (slice(c, stop) for c, stop in zip(corner, stops, strict=True))
    values = prepared.read((k, j, i))
    if values.shape[1:] == window.shape:
        return np.ascontiguousarray(values)
    out = np.full((values.shape[0], *window.shape), window.pad_value, np.float32)
    out[:, : values.shape[1], : values.shape[2], : values.shape[3]] = values
    return out


def _in_window(
    answer: NDArray[np.float32], corner: tuple[int, int, int], prepared: Prepared, package: ModelPackage
) -> list[Detected]:
    boxes, shape = package.manifest.output.boxes, package.manifest.input.window.shape
    stride = shape[1] // answer.shape[2]
    if answer.shape[0] != len(boxes) + 6 or any(n != m * stride for n, m in zip(shape, answer.shape[1:], strict=True)):
        raise PackageInvalid(
            f"the graph answers {answer.shape} for a window of {shape}", "export it with one stride for all axes"
        )
    peaks = find_peaks(answer, len(boxes), stride, FLOOR)
    return [_placed(peak, corner, prepared) for peak in peaks if _inside(peak, corner, prepared)]


def _inside(peak: Peak, corner: tuple[int, int, int], prepared: Prepared) -> bool:
    return all(c + p <= n - 0.5 for c, p, n in zip(corner, peak.centre, prepared.shape, strict=True))


def _placed(peak: Peak, corner: tuple[int, int, int], prepared: Prepared) -> Detected:
    geometry = prepared.geometry
    index = np.asarray(corner) + np.asarray(peak.centre)
    centre = geometry.index_to_mm(index)
    k, j, i = (size * spacing for size, spacing in zip(peak.size, geometry.spacing_mm, strict=True))
    half = np.abs(geometry.direction) @ np.array([k, j, i]) / 2
    low, high = (centre - half).tolist(), (centre + half).tolist()
    x, y, z = centre.tolist()
    return Detected(
        peak.kind, peak.score, (x, y, z), (k, j, i), ((low[0], low[1], low[2]), (high[0], high[1], high[2]))
    )


def merged(found: Sequence[Detected]) -> tuple[Detected, ...]:
    """The best first; one that lies within the radius of a better one of its kind is the same lesion."""
    kept: list[Detected] = []
    for one in sorted(found, key=lambda item: -item.score):
        near = (
            math.dist(one.centre_mm, other.centre_mm) <= max(other.diameter_mm, one.diameter_mm) / 2
            for other in kept
            if other.kind == one.kind
        )
        if not any(near):
            kept.append(one)
    return tuple(kept)


def detection_findings(detected: Sequence[Detected], boxes: Sequence[BoxSpec], seed: str) -> tuple[Finding, ...]:
    """Per kind how many there are, then each of them with diameter and certainty."""
    found = []
    for kind, spec in enumerate(boxes):
        concept = CodedConcept(spec.type.value, spec.type.scheme, spec.type.meaning)
        own = [one for one in detected if one.kind == kind and one.score >= spec.least_score]
        count = Measurement(terms.FINDING_COUNT, float(len(own)), terms.NO_UNITS)
        uid = derived_uid(seed, f"tracking/box/{kind}")
        found.append(Finding(spec.label, uid, concept, measurements=(count,)))
        for number, one in enumerate(own, start=1):
            measured = (
                Measurement(terms.DIAMETER, one.diameter_mm, terms.MILLIMETRE, terms.BALL_OF_BOX),
                Measurement(terms.CERTAINTY, one.score * 100, terms.PERCENT),
            )
            uid = derived_uid(seed, f"tracking/box/{kind}/{number}")
            found.append(
                Finding(
                    f"{spec.label} {number}"[:64],
                    uid,
                    concept,
                    centre_mm=one.centre_mm,
                    box_mm=one.box_mm,
                    measurements=measured,
                    score=one.score,
                )
            )
    return tuple(found)
