"""A gate's verdict as evidence: the evaluation of the candidate, bound to both graphs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hounsfield.evaluation.dataset import Dataset
from hounsfield.evaluation.record import evidence_bytes
from hounsfield.packages import parse_evidence
from hounsfield.packages.evidence import Evidence, GateProof
from hounsfield.usecases.evaluate import EvaluateRequest, record_of
from hounsfield.usecases.gate import Judged


def proven_evidence(judged: Judged, test: Dataset, asked: EvaluateRequest, made: Mapping[str, Any]) -> Evidence:
    """The evaluation of the candidate on the test cases, with the verdict and how it was made.

    Parameters
    ----------
    asked
        The evaluation that read the candidate.
    made
        Joins the details, as plain JSON.
    """
    evidence = parse_evidence(evidence_bytes(record_of(judged.candidate, None, test, asked)), Path("evidence.json"))
    told = judged.record
    proof = GateProof(
        verdict=told.outcome.verdict,
        against="fp32",
        against_sha256=dict(told.against.graph_sha256),
        rule_sha256=told.gate_sha256,
        data_digest=told.data.digest,
        patients=told.outcome.patients,
        engine=told.candidate.engine,
        against_package=None if told.against.digest == told.candidate.digest else told.against.digest,
    )
    strata = [one.as_dict() for one in told.outcome.strata]
    lesions = {kind: sum(one.change == kind for one in told.outcome.changes) for kind in ("lost", "gained")}
    found = {"strata": strata, "lesions": lesions, "rule": told.rule.model_dump(mode="json")}
    return evidence.model_copy(update={"gate": proof, "details": {**evidence.details, "gate": found, **made}})
