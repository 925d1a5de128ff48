"""Open a network on an engine, with its linear head cut off where that saves memory."""

from __future__ import annotations

import ctypes
import gc
from dataclasses import dataclass
from typing import Literal

from hounsfield.errors import SettingsError
from hounsfield.inference.engine import Engine, LoadSettings, Network, OnnxGraph, Session
from hounsfield.inference.head import Head, split_head

Accumulate = Literal["auto", "logits", "features"]


@dataclass(frozen=True)
class Loaded:
    """A session, and the head that is to be applied to its answers (``None``: they are the scores)."""

    session: Session
    head: Head | None


def load_network(engine: Engine, network: Network, settings: LoadSettings, accumulate: Accumulate = "auto") -> Loaded:
    """Load a network for a sliding window.

    Parameters
    ----------
    engine, network, settings
        What runs what, and how.
    accumulate
        ``"features"`` cuts the graph before a last 1x1x1 convolution, ``"logits"`` does not,
        ``"auto"`` cuts where there are fewer features than classes.

    Raises
    ------
    EngineError, EngineUnavailable
        From the engine.
    SettingsError
        If features were asked for and the network does not end in such a convolution.
    """
    split = None if accumulate == "logits" else _split(network, settings)
    if split is None and accumulate == "features":
        raise SettingsError("the network does not end in a plain 1x1x1 convolution", "accumulate logits")
    if split is None or (accumulate == "auto" and not split[1].smaller):
        session, head = engine.load(network, settings), None
    else:
        session, head = engine.load(split[0], settings), split[1]
    del split
    _give_back()
    return Loaded(session, head)


def _give_back() -> None:
    """Return to the system what reading and compiling the graph took and freed (glibc keeps it)."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _split(network: Network, settings: LoadSettings) -> tuple[Network, Head] | None:
    if isinstance(network, OnnxGraph):
        return None if network.quantised else split_head(network)
    from hounsfield.inference.engines.torch import split_torch_head

    return split_torch_head(network, settings.channels, settings.window)
