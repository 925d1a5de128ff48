"""One series to read with one package, and what became of it: plain values that cross processes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from hounsfield.errors import HounsfieldError, SettingsError
from hounsfield.planning import Plan
from hounsfield.volume import Place

Status = Literal["done", "refused", "failed", "skipped"]
SegChoice = Literal["binary", "both"]


@dataclass(frozen=True)
class Choices:
    """What the user chose for every series of a run.

    Parameters
    ----------
    precision
        The arithmetic of the network; fp32 unless asked otherwise.
    engine
        Name of the engine, empty to let the plan choose.
    at
        Marked points: read only the region around each that the package wants.
    repair
        Resample tilted or uneven series instead of refusing them.
    seg
        Which DICOM SEG to write: ``"binary"``, or ``"both"`` for a label map beside it. The SR always
        refers to the binary one, because validators know no SR on a label map yet.
    allow_unproven
        Accept a precision without evidence or without a passed gate; the result says so.
    threads
        CPU threads, 0 for all.
    device
        ``cpu`` (or empty), or a GPU: ``cuda``, ``cuda:N``. Never chosen silently.
    mode
        ``"window"`` slides the package's window; ``"whole"`` runs the exact equivalent of one pass
        over the whole volume.
    record
        (name, value) pairs that the package reads beside the scan.
    explain
        Write a class-activation map for each reported class.
    captures
        Also write key images as Secondary Capture.
    """

    precision: str = "fp32"
    engine: str = ""
    at: tuple[Place, ...] = ()
    repair: bool = False
    seg: SegChoice = "binary"
    allow_unproven: bool = False
    threads: int = 0
    mode: Literal["window", "whole"] = "window"
    record: tuple[tuple[str, Any], ...] = ()
    explain: bool = False
    captures: bool = False
    device: str = ""

    def checked_device(self) -> str:
        """The device, written out.

        Raises
        ------
        SettingsError
            If there is no device of this kind, or the engine or the mode knows only the processor.
        """
        from hounsfield.inference.accelerator import checked_device

        device = checked_device(self.device)
        if device != "cpu" and self.engine == "openvino":
            raise SettingsError("openvino runs on the processor", "leave --engine out, or choose torch")
        if device != "cpu" and self.mode == "whole":
            raise SettingsError("the whole-volume mode runs on the processor", "leave --device or --whole out")
        return device

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Choices:
        """The choices from ``dataclasses.asdict``."""
        at = tuple(Place.from_dict(one) for one in data["at"])
        return cls(**{**data, "at": at, "record": tuple((name, value) for name, value in data["record"])})


@dataclass(frozen=True)
class Job:
    """One series for a worker process.

    Parameters
    ----------
    package, package_digest
        Folder of the package, and what its digest must be.
    source
        What the user gave, for messages.
    files
        The files of the series.
    name
        Folder of the results below ``output``; also finds the series among those in the files.
    plan
        How to carry it out.
    budget_bytes, device_budget_bytes
        Memory of the host and of the GPU that the worker must stay within, ``None`` for no limit.
    warnings
        What is already known to be wrong, for the result.
    keep_network
        Keep the network loaded for the next job, which costs its memory while results are written.
    """

    package: Path
    package_digest: str
    source: Path
    files: tuple[Path, ...]
    name: str
    output: Path
    choices: Choices
    plan: Plan | None = None
    budget_bytes: int | None = None
    warnings: tuple[str, ...] = ()
    keep_network: bool = False
    device_budget_bytes: int | None = None

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(
            {
                "package": str(self.package),
                "package_digest": self.package_digest,
                "source": str(self.source),
                "files": [str(path) for path in self.files],
                "name": self.name,
                "output": str(self.output),
                "choices": asdict(self.choices),
                "plan": None if self.plan is None else self.plan.as_dict(),
                "budget_bytes": self.budget_bytes,
                "warnings": list(self.warnings),
                "keep_network": self.keep_network,
                "device_budget_bytes": self.device_budget_bytes,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Job:
        """The job from :meth:`to_json`."""
        data = json.loads(text)
        return cls(
            package=Path(data["package"]),
            package_digest=data["package_digest"],
            source=Path(data["source"]),
            files=tuple(Path(path) for path in data["files"]),
            name=data["name"],
            output=Path(data["output"]),
            choices=Choices.from_dict(data["choices"]),
            plan=None if data["plan"] is None else Plan.from_dict(data["plan"]),
            budget_bytes=data["budget_bytes"],
            warnings=tuple(data["warnings"]),
            keep_network=data["keep_network"],
            device_budget_bytes=data["device_budget_bytes"],
        )


@dataclass(frozen=True)
class SeriesResult:
    """What became of one series.

    Parameters
    ----------
    name
        The folder of its results below the output folder; never made from DICOM tags.
    series
        One line that says which series it is.
    status
        ``"done"``; ``"refused"`` by geometry or domain; ``"failed"``, also for damaged files;
        ``"skipped"`` because an earlier run finished it.
    outputs
        Kind (``"seg"``, ``"sr"``, ``"nifti"``, ``"json"``, ``"report"`` ...) to file.
    measured
        One row per finding, for summaries: label, ml, and so on.
    error
        ``HounsfieldError.as_dict()`` when refused or failed.
    """

    name: str
    series: str
    status: Status
    outputs: Mapping[str, Path] = field(default_factory=dict)
    measured: tuple[Mapping[str, Any], ...] = ()
    warnings: tuple[str, ...] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)
    error: Mapping[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """The result as plain data."""
        data = asdict(self)
        data["outputs"] = {kind: str(path) for kind, path in self.outputs.items()}
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SeriesResult:
        """The result from :meth:`as_dict`."""
        return cls(
            name=data["name"],
            series=data["series"],
            status=data["status"],
            outputs={kind: Path(path) for kind, path in data["outputs"].items()},
            measured=tuple(data["measured"]),
            warnings=tuple(data["warnings"]),
            figures=data["figures"],
            error=data["error"],
        )

    @classmethod
    def not_done(cls, name: str, series: str, error: HounsfieldError) -> SeriesResult:
        """A refusal (geometry, domain, kind), or a failure (damage, limits, and everything else)."""
        from hounsfield.errors import DomainRefused, InputError, LimitExceeded, NotReadable, UnsupportedEncoding

        damaged = isinstance(error, NotReadable | UnsupportedEncoding | LimitExceeded)
        status: Status = "refused" if isinstance(error, DomainRefused | InputError) and not damaged else "failed"
        return cls(name, series, status, error=error.as_dict())
