"""What a network of sequences answers: classes or numbers of the whole scan, or numbers of every voxel."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from hounsfield.errors import InputError
from hounsfield.findings import CodedConcept, Measurement
from hounsfield.findings.maps import ParameterMap
from hounsfield.inference.activating import probabilities, quantities
from hounsfield.inference.named import NamedAnswer
from hounsfield.packages import ModelPackage
from hounsfield.packages.answers import QuantitySpec
from hounsfield.packages.tables import Code
from hounsfield.preparing.cutting import cut
from hounsfield.preparing.sequence import PreparedSequence, prepare_sequence
from hounsfield.usecases.classifying import class_scores, nothing
from hounsfield.usecases.events import OnEvent, Progress
from hounsfield.usecases.job import Choices
from hounsfield.usecases.small_networks import run_small
from hounsfield.usecases.stages import Labelled, Loaded
from hounsfield.volume import Geometry

_VOXELS_AT_ONCE = 4096
_BRIGHT = 0.99


def read_sequence(loaded: Loaded, package: ModelPackage, choices: Choices, on_event: OnEvent) -> Labelled:
    """Prepare the sequence, run the network, and answer what the package's output says.

    Raises
    ------
    InputError
        If the sequence is not what the package reads.
    """
    manifest = package.manifest
    if loaded.times is None or manifest.input.times is None:
        raise InputError("the scan is one volume, the model reads a sequence over time", "give the whole sequence")
    prepared = prepare_sequence(loaded.times, manifest.input)
    began, output = time.perf_counter(), manifest.output
    if manifest.input.times.every_voxel:
        answers, ran = _every_voxel(prepared, package, choices, on_event)
        maps = _maps(answers, output.quantities, prepared, loaded.whole.geometry)
        return replace(_answered(loaded, prepared, ran, began), maps=maps)
    ran = _whole(prepared, package, choices)
    empty = _answered(loaded, prepared, ran, began)
    if output.classes:
        (row,) = probabilities(ran.values, output)
        return replace(empty, scores=tuple(class_scores(output.classes, row.tolist())))
    (row,) = quantities(ran.values, output)
    numbers = tuple(
        (spec.label, Measurement(_concept(spec.concept), value, _concept(spec.unit)))
        for spec, value in zip(output.quantities, row.tolist(), strict=True)
    )
    return replace(empty, numbers=numbers)


def _answered(loaded: Loaded, prepared: PreparedSequence, ran: NamedAnswer, began: float) -> Labelled:
    """What ran and what it took; the answer itself is still to come."""
    facts = {"engine": ran.engine, "precision": ran.precision, "threads": ran.threads, "mode": "sequence"}
    acquired = 0 if loaded.times is None else len(loaded.times.times_s)
    figures: dict[str, Any] = {
        "infer_seconds": round(time.perf_counter() - began, 3),
        "time_points_acquired": acquired,
        "time_points_read": len(prepared.values),
    }
    return Labelled(nothing(loaded.whole.geometry), ran.engine, ran.precision, facts, figures, prepared.warnings)


def _whole(prepared: PreparedSequence, package: ModelPackage, choices: Choices) -> NamedAnswer:
    """One window in the middle of the scan, rounded as training rounds it."""
    window = package.manifest.input.window
    start = [round((have - want) / 2) for have, want in zip(prepared.values.shape[1:], window.shape, strict=True)]
    return run_small(package, choices, cut(prepared.values, start, window.shape, window.pad_value)[None, :, None])


def _every_voxel(
    prepared: PreparedSequence, package: ModelPackage, choices: Choices, on_event: OnEvent
) -> tuple[NDArray[np.float32], NamedAnswer]:
    """(quantities, k, j, i) float32 on the network's grid, NaN where there is no signal before contrast."""
    spec, output = package.manifest.input, package.manifest.output
    least = 0.1 if spec.times is None else spec.times.least_signal
    seen = prepared.before >= least * float(np.quantile(prepared.before, _BRIGHT))
    places = np.argwhere(seen & (prepared.before > 0))
    if not len(places):
        raise InputError("there is no signal before contrast in any voxel", "check the sequence")
    around = [(0, 0), *((size // 2, size // 2) for size in spec.window.shape)]
    padded = np.pad(prepared.values, around, constant_values=spec.window.pad_value)
    windows = sliding_window_view(padded, spec.window.shape, axis=(1, 2, 3))
    out = np.full((len(output.quantities), *prepared.before.shape), np.nan, np.float32)
    for first in range(0, len(places), _VOXELS_AT_ONCE):
        k, j, i = places[first : first + _VOXELS_AT_ONCE].T
        image = np.ascontiguousarray(windows[:, k, j, i].swapaxes(0, 1)[:, :, None])
        ran = run_small(package, choices, image)
        out[:, k, j, i] = quantities(ran.values, output).T
        on_event(Progress("voxels", min(first + _VOXELS_AT_ONCE, len(places)), len(places)))
    return out, ran


def _maps(
    answers: NDArray[np.float32], specs: tuple[QuantitySpec, ...], prepared: PreparedSequence, geometry: Geometry
) -> tuple[ParameterMap, ...]:
    """The answers on the scan's own grid."""
    turned = [prepared.prepared.orient.invert(one, geometry) for one in answers]
    return tuple(
        ParameterMap(spec.label, _concept(spec.concept), _concept(spec.unit), np.ascontiguousarray(one))
        for spec, one in zip(specs, turned, strict=True)
    )


def _concept(code: Code) -> CodedConcept:
    return CodedConcept(code.value, code.scheme, code.meaning)
