"""What this machine has for reading, inference and training, and why something is missing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from hounsfield.planning.machine import Machine, read_machine
from hounsfield.planning.units import format_bytes
from hounsfield.plugins import registry
from hounsfield.settings import Settings, load_settings
from hounsfield.version import __version__

State = Literal["ok", "missing", "note"]

#: transfer syntax (PS3.6 table A-1) -> the decoder of imagecodecs that reads it
_CODECS: Final = {
    "JPEG baseline and extended": "JPEG8",
    "JPEG lossless": "LJPEG",
    "JPEG-LS": "JPEGLS",
    "JPEG 2000": "JPEG2K",
    "High-Throughput JPEG 2000": "HTJ2K",
    "RLE": "DICOMRLE",
    "deflated": "DEFLATE",
}
_EXTRAS: Final = {
    "ort": ("onnxruntime",),
    "train": ("torch", "monai", "safetensors"),
    "server": ("sqlalchemy", "fastapi", "uvicorn"),
}


@dataclass(frozen=True)
class Line:
    """One fact of the report; ``state`` is ``"ok"``, ``"missing"`` or ``"note"``."""

    about: str
    state: State
    fact: str
    remedy: str = ""


@dataclass(frozen=True)
class DoctorResult:
    """The report, in the order machine, engines, codecs, extras, store."""

    machine: Machine
    lines: tuple[Line, ...]

    def as_dict(self) -> dict[str, Any]:
        """The report as data."""
        machine = {**asdict(self.machine), "flags": sorted(self.machine.flags)}
        return {"hounsfield": __version__, "machine": machine, "report": [asdict(line) for line in self.lines]}


def doctor(settings: Settings | None = None) -> DoctorResult:
    """Look at the machine; changes nothing and reaches no network."""
    chosen = settings or load_settings()
    machine = read_machine()
    lines = (*_machine(machine), *_engines(), *_codecs(), *_extras(), *_store(chosen))
    return DoctorResult(machine, lines)


def _machine(machine: Machine) -> Iterator[Line]:
    yield Line("hounsfield", "ok", f"{__version__} on Python {platform.python_version()}, {platform.platform()}")
    vector = [name for name in ("avx2", "avx512f", "amx_bf16", "amx_int8") if name in machine.flags]
    yield Line(
        "processor", "ok", f"{machine.cpu_model}, {machine.cores} usable cores, {', '.join(vector) or 'no AVX2'}"
    )
    total, free = format_bytes(machine.total_bytes), format_bytes(machine.available_bytes)
    yield Line("memory", "ok", f"{total}, {free} available")
    if machine.fast_bf16:
        yield Line("bf16", "ok", "AMX: bf16 graphs run several times faster than fp32; fp32 stays fp32 unless asked")
    else:
        yield Line("bf16", "note", "no AMX: bf16 gains nothing here")
    for gpu in machine.accelerators:
        memory = f"{format_bytes(gpu.total_bytes)}, {format_bytes(gpu.free_bytes)} free"
        yield Line("accelerator", "ok", f"{gpu.name}, {memory}")
    if not machine.accelerators:
        yield Line("accelerator", "note", "none found; models run on the processor")


def _engines() -> Iterator[Line]:
    for name, answer in sorted(registry().survey().items()):
        if answer:
            yield Line(f"engine {name}", "ok", "can run")
        else:
            yield Line(f"engine {name}", "missing", answer.reason, answer.install)


def _codecs() -> Iterator[Line]:
    if importlib.util.find_spec("imagecodecs") is None:
        yield Line("codecs", "missing", "compressed DICOM cannot be decoded", "pip install imagecodecs")
        return
    import imagecodecs

    for name, codec in _CODECS.items():
        there = bool(getattr(getattr(imagecodecs, codec, None), "available", False))
        fact = "decoded" if there else f"this build of imagecodecs {imagecodecs.__version__} lacks {codec}"
        yield Line(f"codec {name}", "ok" if there else "missing", fact, "" if there else "pip install -U imagecodecs")


def _extras() -> Iterator[Line]:
    for extra, modules in _EXTRAS.items():
        absent = [name for name in modules if importlib.util.find_spec(name) is None]
        if absent:
            fact = f"not installed: {', '.join(absent)}"
            yield Line(f"extra {extra}", "missing", fact, f"pip install 'hounsfield[{extra}]'")
        else:
            versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in modules)
            yield Line(f"extra {extra}", "ok", versions)


def _store(settings: Settings) -> Iterator[Line]:
    from hounsfield.packages import installed

    packages = installed(settings.packages)
    yield Line("models", "ok" if packages else "missing", f"{len(packages)} installed", "" if packages else "reinstall")
    folder = settings.home
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    yield Line("store", "ok", f"{settings.packages}, {format_bytes(free)} free")
