"""Sliding windows over inference engines, streaming: memory does not grow with slices or classes."""

from hounsfield.inference.deciding import Decision, decision, step_decision
from hounsfield.inference.engine import (
    Engine,
    LoadSettings,
    Network,
    OnnxGraph,
    Precision,
    Session,
    TorchNetwork,
    engine,
)
from hounsfield.inference.head import Head, split_head
from hounsfield.inference.loading import Loaded, load_network
from hounsfield.inference.parts import segment_in_parts, split_layers
from hounsfield.inference.sliding_window import RunSettings, Segmented, segment, walk_order
from hounsfield.inference.windows import WindowGrid, importance, starts

__all__ = [
    "Decision",
    "Engine",
    "Head",
    "LoadSettings",
    "Loaded",
    "Network",
    "OnnxGraph",
    "Precision",
    "RunSettings",
    "Segmented",
    "Session",
    "TorchNetwork",
    "WindowGrid",
    "decision",
    "engine",
    "importance",
    "load_network",
    "segment",
    "segment_in_parts",
    "split_head",
    "split_layers",
    "starts",
    "step_decision",
    "walk_order",
]
