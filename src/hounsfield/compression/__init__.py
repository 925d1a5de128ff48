"""Whether a smaller or faster form of a model may stand in for it: the gate, and what it found."""

from hounsfield.compression.gate import Gate, GateOutcome, StratumResult, judge
from hounsfield.compression.gate_file import Criterion, GateRule, parse_gate, read_gate
from hounsfield.compression.lesion_changes import LesionChange, lesion_changes
from hounsfield.compression.noninferiority import Differences, Judgement, Verdict, judge_differences

__all__ = [
    "Criterion",
    "Differences",
    "Gate",
    "GateOutcome",
    "GateRule",
    "Judgement",
    "LesionChange",
    "StratumResult",
    "Verdict",
    "judge",
    "judge_differences",
    "lesion_changes",
    "parse_gate",
    "read_gate",
]
