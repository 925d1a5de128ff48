"""What was measured of one graph in one engine on one machine, kept for later plans.

The cache only ever makes a plan better: a record that is damaged, foreign or not plausible is
dropped, and the conservative arithmetic of ``cost`` takes its place.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from hounsfield.errors import OutputError
from hounsfield.planning.graph import GraphCost

_FORMAT = 2  # raised when engines load or run graphs in another way, as then older measurements do not hold
_LARGEST_FILE = 64 * 1024
_PROCESS_BYTES = (20 * 2**20, 8 * 2**30)


@dataclass(frozen=True)
class CalibrationKey:
    """What a measurement depends on; ``window`` is (k, j, i), ``accumulate`` says whether the head is cut off."""

    package_digest: str
    engine: str
    precision: str
    device: str
    cpu: str
    threads: int
    window: tuple[int, int, int]
    batch: int = 1
    accumulate: str = "auto"

    @property
    def file_name(self) -> str:
        """A hash, so that no text of a package or a machine builds a path."""
        text = json.dumps(asdict(self), sort_keys=True)
        return f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"


@dataclass(frozen=True)
class Calibration:
    """One measurement.

    Parameters
    ----------
    key
        What it holds for.
    process_bytes
        Resident memory of the process with the engine imported and nothing loaded.
    load_peak_bytes
        Peak above ``process_bytes`` while the graph was loaded and compiled.
    loaded_bytes
        Resident above ``process_bytes`` once it was loaded.
    workspace_bytes
        Peak of the inferences above the loaded state, the input and output arrays of one call
        included.
    device_bytes
        Peak on the accelerator, 0 on a CPU.
    seconds_per_window
        Median of the timed inferences, divided by the batch.
    load_seconds
        Time to load and compile.
    """

    key: CalibrationKey
    process_bytes: int
    load_peak_bytes: int
    loaded_bytes: int
    workspace_bytes: int
    device_bytes: int
    seconds_per_window: float
    load_seconds: float

    def workspace_for(self, window: tuple[int, int, int], batch: int) -> int:
        """Workspace of another window or batch, in proportion to the voxels."""
        return math.ceil(self.workspace_bytes * self._ratio(window, batch))

    def seconds_for(self, window: tuple[int, int, int]) -> float:
        """Seconds per window of another shape, in proportion to the voxels."""
        return self.seconds_per_window * self._ratio(window, self.key.batch)

    def _ratio(self, window: tuple[int, int, int], batch: int) -> float:
        return math.prod(window) * batch / (math.prod(self.key.window) * self.key.batch)


def plausible(record: Calibration, graph: GraphCost) -> bool:
    """Whether a record can be true of this graph.

    Memory below what the input, the output and half-precision activations take even with
    perfect reuse, or a time below 100 TFLOP/s per thread, cannot have been measured; then the
    plan falls back to the conservative arithmetic.
    """
    key = record.key
    at = graph.scaled(math.prod(key.window) * key.batch)
    byte_counts = (record.process_bytes, record.load_peak_bytes, record.loaded_bytes, record.workspace_bytes)
    if any(count < 0 or count > 2**50 for count in (*byte_counts, record.device_bytes)):
        return False
    times = (record.seconds_per_window, record.load_seconds)
    if not all(math.isfinite(value) and value > 0 for value in times):
        return False
    on_host = key.device == "cpu"
    floor = at.input_bytes + (at.live_bytes // 4 if on_host else 0)
    arithmetic = at.operations / key.batch / (1e14 * key.threads if on_host else 1e16)
    return (
        _PROCESS_BYTES[0] <= record.process_bytes <= _PROCESS_BYTES[1]
        and record.workspace_bytes >= floor
        and record.load_peak_bytes >= record.loaded_bytes
        and record.loaded_bytes + record.device_bytes >= at.weights_bytes // 8
        and record.seconds_per_window >= arithmetic
    )


def save(record: Calibration, folder: Path) -> Path:
    """Write the record into ``folder`` under its key, atomically.

    Raises
    ------
    OutputError
        If the folder cannot be written.
    """
    body = asdict(record)
    text = json.dumps({"format": _FORMAT, "sha256": _digest(body), "record": body}, indent=1, sort_keys=True)
    target = folder / record.key.file_name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder, suffix=".tmp")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(text)
            Path(name).replace(target)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OutputError(
            f"the calibration cannot be kept ({error.strerror or error})", "free space or set another home", folder
        ) from error
    return target


def load(key: CalibrationKey, folder: Path) -> Calibration | None:
    """The record of ``key``, or None if there is none or it is damaged, foreign or malformed."""
    path = folder / key.file_name
    try:
        if path.stat().st_size > _LARGEST_FILE:
            return None
        document = json.loads(path.read_text(encoding="utf-8"))
        body = document["record"]
        if document["format"] != _FORMAT or document["sha256"] != _digest(body):
            return None
        record = _from_dict(body)
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return record if record.key == key else None


def _digest(body: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _from_dict(body: dict[str, object]) -> Calibration:
    fields = dict(body)
    key = fields.pop("key")
    if not isinstance(key, dict):
        raise TypeError("the key of a calibration is a table")
    window = key.pop("window")
    counts = {name: fields[name] for name in fields if name.endswith("_bytes")}
    if not all(type(value) is int for value in [*counts.values(), *window]):
        raise TypeError("byte counts and window sizes are whole numbers")
    times = {name: fields[name] for name in ("seconds_per_window", "load_seconds")}
    if not all(type(value) in (int, float) for value in times.values()):
        raise TypeError("times are numbers")
    return Calibration(key=CalibrationKey(window=tuple(window), **key), **fields)  # type: ignore[arg-type]
