"""What a compression did: as data for the evidence, as a page of Markdown, as lines for the card."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from hounsfield.compression.gate import GateOutcome
from hounsfield.compression.sensitivity import LayerSensitivity
from hounsfield.evaluation.bootstrap import finite
from hounsfield.packages import ModelPackage

_NAMED: Final = 12


@dataclass(frozen=True)
class Attempt:
    """A candidate on the calibration cases: the layers left out, and its worst stratum's mean loss over its margin."""

    excluded: tuple[str, ...]
    loss: float
    where: str


@dataclass(frozen=True)
class Compression:
    """A compressed graph, and how it was made.

    Parameters
    ----------
    graph
        The ONNX file's bytes.
    bytes_before
        Of the fp32 graph's file.
    layers, excluded
        Heavy layers in int8, and those left in fp32.
    sensitivities
        Of each layer by itself, the most sensitive first.
    attempts
        Candidates that were tried on the calibration cases, in order.
    """

    source: str
    source_digest: str
    precision: str
    version: str
    graph: bytes = field(repr=False)
    bytes_before: int
    quantiser: str = ""
    layers: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    sensitivities: tuple[LayerSensitivity, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    windows: int = 0
    calibration_cases: int = 0
    calibration_digest: str = ""

    @classmethod
    def of(cls, package: ModelPackage, precision: str, version: str, model: Any) -> Compression:
        """The compression of a package's fp32 graph to an ONNX model."""
        before = package.graph_path("fp32").stat().st_size
        data: bytes = model.SerializeToString(deterministic=True)
        return cls(package.reference, package.digest, precision, version, data, before)

    @property
    def share(self) -> float:
        """Bytes of the new graph over those of the fp32 graph."""
        return len(self.graph) / self.bytes_before

    def for_card(self, outcome: GateOutcome) -> str:
        """A section for the model card."""
        lines = [f"## The {self.precision} graph", "", *self._made_of()]
        lines += [f"- Gate against fp32: {outcome.verdict}; {outcome.cases} cases, {outcome.patients} patients."]
        return "\n".join(lines)

    def _made_of(self) -> Iterator[str]:
        yield f"- Made from {self.source} (digest `{self.source_digest}`), {self.share:.0%} of the fp32 graph's size."
        if self.quantiser:
            yield f"- {self.quantiser}; {self.windows} windows of {self.calibration_cases} calibration cases."
            left = ", ".join(f"`{name}`" for name in self.excluded[:_NAMED]) or "none"
            left += f" and {len(self.excluded) - _NAMED} more" if len(self.excluded) > _NAMED else ""
            yield f"- {len(self.layers)} layers in int8; left in fp32: {left}."


def compression_details(made: Compression) -> dict[str, Any]:
    """Everything but the graph, as data for JSON."""
    table: dict[str, Any] = {
        "source": made.source,
        "source_digest": made.source_digest,
        "precision": made.precision,
        "version": made.version,
        "graph_bytes": len(made.graph),
        "fp32_graph_bytes": made.bytes_before,
    }
    if not made.quantiser:
        return table
    return {
        **table,
        "quantiser": made.quantiser,
        "calibration_windows": made.windows,
        "calibration_cases": made.calibration_cases,
        "calibration_data_sha256": made.calibration_digest,
        "int8_layers": list(made.layers),
        "fp32_layers": list(made.excluded),
        "sensitivities": [
            {"layer": one.layer, "copies": one.copies, "difference": round(one.difference, 6)}
            for one in made.sensitivities
        ],
        "attempts": [
            {"fp32_layers": list(one.excluded), "worst_loss_over_margin": finite(one.loss), "where": one.where}
            for one in made.attempts
        ],
    }


def compress_markdown(made: Compression, outcome: GateOutcome) -> str:
    """The page: what was made, which layers it costs most in, what was tried, and the verdict."""
    return "\n".join(_lines(made, outcome)) + "\n"


def _lines(made: Compression, outcome: GateOutcome) -> Iterator[str]:
    yield from (f"# {made.source} in {made.precision}", "", f"The gate: **{outcome.verdict}** (gate/gate.md).", "")
    yield from made._made_of()
    if made.sensitivities:
        yield from ("", "## What each layer costs by itself", "")
        yield "One minus the soft Dice to fp32 with only this layer in int8, mean over calibration windows."
        yield "Copies read the same weights; they are measured and left out together."
        yield from ("", "|layer|copies|difference|in the result|", "|---|---|---|---|")
        for one in made.sensitivities:
            kind = "fp32" if one.layer in made.excluded else "int8"
            yield f"|`{one.layer}`|{one.copies}|{one.difference:.5f}|{kind}|"
    if made.attempts:
        yield from ("", "## What was tried on the calibration cases", "")
        yield "The worst stratum's mean loss, as a share of its margin; the first with at most half went to the gate."
        yield from ("", "|layers left in fp32|worst loss over margin|where|", "|---|---|---|")
        for attempt in made.attempts:
            yield f"|{len(attempt.excluded)}|{attempt.loss:.3f}|{attempt.where}|"
    yield from ("", "Research use only.")
