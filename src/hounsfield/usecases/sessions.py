"""Networks loaded for a run: the last one is kept, so that a folder of scans compiles it once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from hounsfield.errors import PackageInvalid, SettingsError
from hounsfield.packages import ModelPackage, Precision
from hounsfield.planning import Plan
from hounsfield.usecases.job import Choices

_ARITHMETIC = ("fp32", "bf16", "fp16", "int8")


@dataclass(frozen=True)
class Opened:
    """A loaded network: its session, the linear head cut off it if any, and its classes."""

    session: Any
    head: Any
    classes: int


class Sessions:
    """Opens the network of a package as planned, and closes the one before."""

    def __init__(self) -> None:
        self._key: tuple[object, ...] = ()
        self._opened: Opened | None = None

    def open(self, package: ModelPackage, choices: Choices, plan: Plan | None = None) -> Opened:
        """The network, compiled for the package's window.

        Raises
        ------
        PackageInvalid
            If the package has no graph for the precision, or does not prove it and that was not waived.
        EngineUnavailable
            If the engine is not there or cannot run it.
        """
        how = _How.of(choices, plan)
        key = (package.digest, choices.allow_unproven, how)
        if self._opened is None or key != self._key:
            self.close()
            self._opened, self._key = _open(package, choices, how), key
        return self._opened

    def close(self) -> None:
        """Free the network."""
        if self._opened is not None:
            self._opened.session.close()
            self._opened = None


@dataclass(frozen=True)
class _How:
    """What a loaded network depends on besides the package."""

    engine: str
    precision: str
    device: str
    threads: int
    batch: int
    accumulate: str

    @classmethod
    def of(cls, choices: Choices, plan: Plan | None) -> _How:
        if plan is None:
            device = choices.checked_device()
            engine = choices.engine or ("openvino" if device == "cpu" else "torch")
            return cls(engine, choices.precision, device, choices.threads, 1, "auto")
        return cls(plan.engine, plan.precision, plan.device, plan.threads, plan.batch, plan.accumulate)


def _open(package: ModelPackage, choices: Choices, how: _How) -> Opened:
    from hounsfield.inference import LoadSettings, OnnxGraph, engine, load_network
    from hounsfield.usecases.reference_network import reference_network

    precision = proven_precision(package, choices)
    manifest = package.manifest
    settings = LoadSettings(
        precision=precision,
        window=manifest.input.window.shape,
        channels=len(manifest.input.channels),
        batch=how.batch,
        threads=how.threads,
        device=how.device,
    )
    if how.engine == "torch":
        network: Any = reference_network(package)
    else:
        network = OnnxGraph(package.graph_path(precision), quantised=precision == "int8")
    # Probabilities are made of all classes together, so the head stays in the network.
    accumulate = "logits" if manifest.output.restore == "probabilities" else how.accumulate
    loaded = load_network(engine(how.engine), network, settings, accumulate)  # type: ignore[arg-type]
    _demand_integers(loaded.session, precision, how.engine)
    return Opened(loaded.session, loaded.head, manifest.output.channels)


def _demand_integers(session: Any, precision: Precision, engine: str) -> None:
    """Refuse an int8 graph that the engine would compute in floats: neither int8 nor the fp32 that was proven."""
    from hounsfield.errors import EngineUnavailable

    if precision == "int8" and session.precision != "int8":
        ran = session.precision
        session.close()
        raise EngineUnavailable(
            f"{engine} would compute this int8 graph in {ran}",
            "choose another engine, or compress with the quantiser for this one",
        )


def proven_precision(package: ModelPackage, choices: Choices) -> Precision:
    """The chosen precision, if the package has it and proves it (or that was waived).

    Proven means evidence; for a variant beside an fp32 graph a passed gate as well.
    """
    if choices.precision not in _ARITHMETIC:
        raise SettingsError(f"{choices.precision!r} is not a precision", f"use one of: {', '.join(_ARITHMETIC)}")
    precision = cast(Precision, choices.precision)
    package.graph(precision)
    lacking = package.why_unproven(precision)
    if lacking and not choices.allow_unproven:
        proven = ", ".join(package.proven()) or "none"
        raise PackageInvalid(
            fact=f"{package.reference} has {lacking} (proven: {proven})",
            remedy="choose a proven precision, or accept it with --allow-unproven",
            path=package.root,
        )
    return precision
