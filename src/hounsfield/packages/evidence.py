"""``evidence/*.json``: how one graph did on data that it was not trained on.

Bound to its graph by sha256: evidence of another graph, or of the same graph changed afterwards,
does not count. The part under ``details`` is free (plain JSON).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from hounsfield.errors import PackageInvalid
from hounsfield.packages.manifest import Count, Finite, Positive, Precision, Text, _Table
from hounsfield.packages.manifest_text import refuse_expressions

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Word = Annotated[str, Field(min_length=1, max_length=64)]


class DataUsed(_Table):
    """The data that was read, and whether any choice had been made on it."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    digest: Sha256
    cases: Count
    use: Literal["test", "validation", "external"]


class Score(_Table):
    """One metric over the cases of one stratum, with its 95 % interval.

    ``segment`` is the label's number in the manifest; absent for a score over all of them.
    ``unit`` is a UCUM unit, ``1`` for a fraction.
    """

    metric: Word
    segment: Count | None = None
    stratum: Word = "all"
    n: Count
    value: Finite
    low: Finite
    high: Finite
    unit: Word = "1"

    @model_validator(mode="after")
    def _ordered(self) -> Score:
        if not self.low <= self.value <= self.high:
            raise ValueError("the value lies outside its interval")
        return self


class Cost(_Table):
    """Medians on the machine that is named."""

    machine: Annotated[str, Field(min_length=1, max_length=200)]
    seconds_per_case: Positive
    peak_mib: Positive | None = None


class GateProof(_Table):
    """The verdict of a clinical gate on this precision (docs/concepts/gate.md), and what it was given against.

    Parameters
    ----------
    against, against_sha256
        The precision that it must not be worse than, and the files of its graph.
    against_package
        Digest of the package that holds that graph, where it is another one: a student's teacher.
    rule_sha256
        Of the gate file.
    data_digest, patients
        The cases that both read.
    engine
        The engine that computed the candidate.
    """

    verdict: Literal["pass", "fail", "undecided"]
    against: Precision
    against_sha256: Annotated[dict[str, Sha256], Field(min_length=1)]
    rule_sha256: Sha256
    data_digest: Sha256
    patients: Annotated[int, Field(ge=0)]
    engine: Text
    against_package: Sha256 | None = None


class Evidence(_Table):
    """The whole of an ``evidence/*.json``; without ``gate`` the precision was evaluated, but passed none."""

    format: Literal[1]
    precision: Precision
    graph_sha256: Annotated[dict[str, Sha256], Field(min_length=1)]
    engine: Text
    data: DataUsed
    scores: Annotated[tuple[Score, ...], Field(min_length=1)]
    cost: Cost | None = None
    gate: GateProof | None = None
    details: Annotated[dict[str, Any], Field(default_factory=dict)]

    def summary(self) -> str:
        """One line for tables, such as ``Dice 0.87, 0.85 (test, n=52)``."""
        overall = [score for score in self.scores if score.stratum == "all"] or list(self.scores)
        metric = overall[0].metric
        values = ", ".join(f"{score.value:.3g}" for score in overall if score.metric == metric)
        passed = {"pass": "passed", "fail": "failed", "undecided": "undecided"}
        told = "" if self.gate is None else f", gate {passed[self.gate.verdict]}"
        return f"{metric} {values} ({self.data.use}, n={self.data.cases}{told})"


def parse_evidence(data: bytes, path: Path) -> Evidence:
    """Read the bytes of an evidence file.

    Raises
    ------
    PackageInvalid
        If it is not JSON of this form, or holds NaN or infinity; names the key.
    PackageRefused
        If a text looks like an expression.
    """
    try:
        table = json.loads(data.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise PackageInvalid(
            fact=f"it is not strict JSON ({str(error)[:120]})", remedy="write it again", path=path
        ) from error
    refuse_expressions(table, path, keys=False)
    try:
        return Evidence.model_validate(table)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise PackageInvalid(
            fact=f"{where[:120]}: {first['msg'][:160]}", remedy="correct the value or the key", path=path
        ) from None


def evidence_json(evidence: Evidence) -> bytes:
    """The canonical bytes of an evidence file."""
    table = evidence.model_dump(mode="json", exclude_none=True)
    return (json.dumps(table, indent=1, sort_keys=True, allow_nan=False) + "\n").encode("ascii")


def check_binding(evidence: Evidence, expected: Mapping[str, str], path: Path) -> None:
    """Raise PackageInvalid unless the evidence names exactly the graph's files and their sha256."""
    if evidence.graph_sha256 != dict(expected):
        raise PackageInvalid(
            fact="it was made for another graph than the one in the package",
            remedy="evaluate this graph and write its own evidence",
            path=path,
        )


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")
