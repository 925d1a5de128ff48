"""Quantise a package's network with the windows that it reads, and leave out layers that cost too much."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hounsfield.compression.compress_report import Attempt, Compression
from hounsfield.compression.gate import Gate, judge
from hounsfield.compression.gate_file import read_gate
from hounsfield.compression.layers import heavy_layers, named, quantised_layers, with_copies, with_float
from hounsfield.compression.quantising import Quantised, quantise
from hounsfield.compression.sensitivity import LayerSensitivity, layer_sensitivities
from hounsfield.errors import SettingsError
from hounsfield.evaluation.dataset import Dataset
from hounsfield.inference.engine import Floats, LoadSettings, OnnxGraph, Precision, engine
from hounsfield.packages import ModelPackage
from hounsfield.usecases.drafting import draft_package
from hounsfield.usecases.evaluate import ReadCases, read_all
from hounsfield.usecases.events import Note, OnEvent, Progress
from hounsfield.usecases.gate import GateRequest, asked_of
from hounsfield.usecases.recording import RecordingSessions

#: A layer is left out while a stratum of the calibration cases loses more than this share of its margin.
TOLERATED_SHARE = 0.5
_SENSITIVITY_WINDOWS = 8


@dataclass(frozen=True)
class Quantising:
    """How to quantise; as of :class:`hounsfield.usecases.compress.CompressRequest`."""

    quantiser: str
    windows: int
    exclude: tuple[str, ...]
    plain: bool
    version: str


def quantise_package(
    package: ModelPackage,
    calibration: Dataset,
    judging: GateRequest,
    how: Quantising,
    scratch: Path,
    on_event: OnEvent,
) -> Compression:
    """The int8 graph: plain, or without the layers that cost too much on the calibration cases.

    Raises
    ------
    PackageInvalid
        If the quantiser cannot take the graph.
    SettingsError
        If a layer to exclude is not in the graph.
    NothingToRead
        If no calibration case could be scored.
    """
    from hounsfield.packages.onnx_file import read_graph

    original = named(read_graph(package.root, package.graph("fp32").file))
    _demand_layers(how.exclude, original)
    reference, windows = _read_calibration(package, calibration, judging, how.windows, on_event)
    on_event(Note(f"quantising with {len(windows)} windows of {len(calibration.cases)} calibration cases"))
    plain = quantise(original, windows, how.quantiser, how.exclude)
    found = _sensitivities(plain, original, windows, package, judging, on_event)
    trial = _Trial(package, calibration, judging, how, scratch, reference, on_event)
    attempts, made = trial.search(plain, original, [one.layer for one in found])
    return replace(
        Compression.of(package, "int8", how.version, made.model),
        quantiser=plain.quantiser,
        layers=made.layers,
        excluded=made.excluded,
        sensitivities=found,
        attempts=attempts,
        windows=len(windows),
        calibration_cases=len(calibration.cases),
        calibration_digest=calibration.digest(),
    )


def _demand_layers(names: Sequence[str], model: Any) -> None:
    known = [layer.name for layer in heavy_layers(model)]
    for name in names:
        if name not in known:
            raise SettingsError(f"the graph has no layer {name!r}", f"its layers are: {', '.join(known)}")


def _read_calibration(
    package: ModelPackage, calibration: Dataset, judging: GateRequest, most: int, on_event: OnEvent
) -> tuple[ReadCases, list[Floats]]:
    """Every calibration case in fp32: its scores, where it has labels, and the windows that were read."""
    recorded = RecordingSessions(most)
    asked = asked_of(judging, "fp32", read_gate(judging.gate))
    return read_all(package, asked.choices, calibration, asked, on_event, recorded), recorded.windows


def _sensitivities(
    plain: Quantised,
    original: Any,
    windows: Sequence[Floats],
    package: ModelPackage,
    judging: GateRequest,
    on_event: OnEvent,
) -> tuple[LayerSensitivity, ...]:
    name = judging.choices.engine or "openvino"
    every = max(1, len(windows) // _SENSITIVITY_WINDOWS)

    def answer(model: Any, given: Sequence[Floats]) -> Iterator[Floats]:
        quantised = bool(quantised_layers(model))
        precision: Precision = "int8" if quantised else "fp32"
        shape = given[0].shape
        settings = LoadSettings(
            precision, (shape[2], shape[3], shape[4]), shape[1], threads=judging.choices.threads, requests=1
        )
        session = engine(name).load(OnnxGraph(model.SerializeToString(), quantised), settings)
        try:
            for window in given:
                yield session.infer(window)
        finally:
            session.close()

    def told(done: int, total: int) -> None:
        on_event(Progress("layers", done, total))

    chosen = windows[::every][:_SENSITIVITY_WINDOWS]
    return layer_sensitivities(plain.model, original, plain.layers, chosen, answer, package.manifest.output, told)


class _Trial:
    """Candidates on the calibration cases, one after the other, until none loses too much."""

    def __init__(
        self,
        package: ModelPackage,
        calibration: Dataset,
        judging: GateRequest,
        how: Quantising,
        scratch: Path,
        reference: ReadCases,
        on_event: OnEvent,
    ) -> None:
        self._package, self._calibration, self._judging, self._how = package, calibration, judging, how
        self._scratch, self._reference, self._on_event = scratch, reference, on_event
        self._rule = read_gate(judging.gate)

    def search(self, plain: Quantised, original: Any, order: Sequence[str]) -> tuple[tuple[Attempt, ...], Quantised]:
        """Leave out none, 1, 2, 4 ... of the most sensitive layers, up to half: the first that does, else the best."""
        attempts: list[tuple[Attempt, Quantised]] = []
        count = 0
        while True:
            out = tuple(sorted(with_copies(original, order[:count])))
            model = with_float(plain.model, original, out)
            candidate = replace(plain, model=model, layers=quantised_layers(model), excluded=(*plain.excluded, *out))
            if self._how.plain:
                return (), candidate
            loss, where = self._loss(candidate)
            attempts.append((Attempt(candidate.excluded, loss, where), candidate))
            self._on_event(Note(f"{count} layers left out: at worst {loss:.2f} of a margin lost ({where})"))
            count = max(1, 2 * count)
            if loss <= TOLERATED_SHARE or count > len(order) // 2:
                break
        best = min(attempts, key=lambda pair: (pair[0].loss > TOLERATED_SHARE, pair[0].loss, len(pair[0].excluded)))
        return tuple(attempt for attempt, _ in attempts), best[1]

    def _loss(self, candidate: Quantised) -> tuple[float, str]:
        """The largest mean loss of any stratum on the calibration cases, as a share of its margin, and where."""
        made = Compression.of(self._package, "int8", self._how.version, candidate.model)
        draft = draft_package(self._package, made, Path(self._scratch) / f"trial-{len(candidate.excluded)}")
        asked = asked_of(self._judging, "int8", self._rule)
        read = read_all(draft, asked.choices, self._calibration, asked, self._on_event)
        outcome = judge(Gate(self._rule, self._reference.cases, read.cases))
        if outcome.lost_cases:
            return float("inf"), "a case could not be read"
        told = [(-one.judgement.mean / one.margin, one) for one in outcome.strata if one.judgement.patients]
        if not told:
            return 0.0, "no stratum has a case"
        loss, worst = max(told, key=lambda pair: pair[0])
        return loss, f"{worst.metric}, {worst.segment.label}, {worst.stratum}"
