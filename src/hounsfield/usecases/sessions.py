"""Networks loaded for a run: the last one is kept, so that a folder of scans compiles it once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from hounsfield.errors import PackageInvalid, SettingsError
from hounsfield.packages import ModelPackage, Precision
from hounsfield.usecases.job import Choices

_ARITHMETIC = ("fp32", "bf16", "fp16", "int8")


@dataclass(frozen=True)
class Opened:
    """A loaded network: its session, the linear head cut off it if any, and its classes."""

    session: Any
    head: Any
    classes: int


class Sessions:
    """Opens the network of a package as chosen, and closes the one before."""

    def __init__(self) -> None:
        self._key: tuple[object, ...] = ()
        self._opened: Opened | None = None

    def open(self, package: ModelPackage, choices: Choices) -> Opened:
        """The network, compiled for the package's window.

        Raises
        ------
        PackageInvalid
            If the package has no graph for the precision, or no evidence and none was waived.
        EngineUnavailable
            If the engine is not there or cannot run it.
        """
        key = (package.digest, choices.precision, choices.engine, choices.threads)
        if self._opened is None or key != self._key:
            self.close()
            self._opened, self._key = _open(package, choices), key
        return self._opened

    def close(self) -> None:
        """Free the network."""
        if self._opened is not None:
            self._opened.session.close()
            self._opened = None


def _open(package: ModelPackage, choices: Choices) -> Opened:
    from hounsfield.inference import LoadSettings, OnnxGraph, engine, load_network

    precision = proven_precision(package, choices)
    manifest = package.manifest
    settings = LoadSettings(
        precision=precision,
        window=manifest.input.window.shape,
        channels=len(manifest.input.channels),
        threads=choices.threads,
    )
    graph = OnnxGraph(package.graph_path(precision), quantised=precision == "int8")
    loaded = load_network(engine(choices.engine or "openvino"), graph, settings)
    return Opened(loaded.session, loaded.head, manifest.output.classes)


def proven_precision(package: ModelPackage, choices: Choices) -> Precision:
    """The chosen precision, if the package has it and evidence for it (or that was waived)."""
    if choices.precision not in _ARITHMETIC:
        raise SettingsError(f"{choices.precision!r} is not a precision", f"use one of: {', '.join(_ARITHMETIC)}")
    precision = cast(Precision, choices.precision)
    package.graph(precision)
    if package.evidence(precision) is None and not choices.allow_unproven:
        proven = ", ".join(item.precision for item in package.manifest.evidence) or "none"
        raise PackageInvalid(
            fact=f"{package.reference} has no evidence for {precision} (proven: {proven})",
            remedy="choose a proven precision, or accept it with --allow-unproven",
            path=package.root,
        )
    return precision
