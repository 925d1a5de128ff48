"""Budget → Plan, or DoesNotFit with the smallest budget that would do: pure arithmetic."""

from hounsfield.planning.budget import Budget
from hounsfield.planning.calibration import Calibration, CalibrationKey
from hounsfield.planning.choose import choose
from hounsfield.planning.graph import GraphCost, GraphNode, cost_of
from hounsfield.planning.machine import Accelerator, Machine, read_machine
from hounsfield.planning.need import Footprint, Need, Offer, WholeOffer
from hounsfield.planning.noplan import Knob, NoPlan
from hounsfield.planning.onnx_graph import read_cost
from hounsfield.planning.plan import Plan
from hounsfield.planning.units import format_bytes, format_seconds, parse_bytes, parse_seconds

__all__ = [
    "Accelerator",
    "Budget",
    "Calibration",
    "CalibrationKey",
    "Footprint",
    "GraphCost",
    "GraphNode",
    "Knob",
    "Machine",
    "Need",
    "NoPlan",
    "Offer",
    "Plan",
    "WholeOffer",
    "choose",
    "cost_of",
    "format_bytes",
    "format_seconds",
    "parse_bytes",
    "parse_seconds",
    "read_cost",
    "read_machine",
]
