"""Small DICOM scans with known truth, whole and spoiled, and the command line as a user types it."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from hounsfield.findings.measuring import derived_uid
from hounsfield.volume import Geometry, Volume
from hounsfield.writing.series import SeriesIdentity, write_mr_series

CANARY = "Canary^Phantom"
Spoil = Callable[[Dataset], None]


def write_scan(
    folder: Path,
    shape: tuple[int, int, int] = (8, 12, 10),
    *,
    name: str = "",
    modality: str = "MR",
    spacing_mm: tuple[float, float, float] = (2.0, 1.5, 1.0),
    body_part: str = "BRAIN",
) -> Path:
    """A bright ball (4095) in the dark (0) as one DICOM series; ``name`` makes its UIDs."""
    identity = SeriesIdentity(
        patient_name=CANARY,
        patient_id="CANARY-4711",
        study_description="study",
        series_description=f"ball {name}".strip(),
        body_part=body_part,
        series_number=1,
        study_instance_uid=derived_uid("test-study", name),
        frame_of_reference_uid=derived_uid("test-frame", name),
        manufacturer="phantom",
        when=dt.datetime(2026, 1, 1, 12, 0, 0),
    )
    paths = write_mr_series(Volume(ball(shape), Geometry.from_parts(shape, spacing_mm)), folder, identity)
    if modality != "MR":
        for path in paths:
            with pydicom.config.disable_value_validation():
                ds = pydicom.dcmread(path)
                ds.Modality = modality
                ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
                ds.save_as(path)
    return folder


def ball(shape: tuple[int, int, int]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """1 inside a ball a little off the middle of the grid, 0 outside."""
    k, j, i = np.indices(shape)
    middle = [n / 2 + off for n, off in zip(shape, (0.3, -0.6, 0.9), strict=True)]
    far = sum((axis - m) ** 2 for axis, m in zip((k, j, i), middle, strict=True))
    return (far < (min(shape) / 3) ** 2).astype(np.float32)


def spoil(folder: Path, change: Spoil) -> Path:
    """Change every slice of a scan."""
    for path in sorted(folder.iterdir()):
        with pydicom.config.disable_value_validation():
            ds = pydicom.dcmread(path)
            change(ds)
            ds.save_as(path)
    return folder


@dataclass(frozen=True)
class Said:
    """What a command ended with."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """Standard output as JSON."""
        return json.loads(self.out)

    @property
    def line(self) -> str:
        """Standard error, which must be one line."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self
        assert "Traceback" not in self.out + self.err
        return lines[0]


class Terminal:
    """``hounsfield ...`` in this process, through the same ``main`` that the command calls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capfd = monkeypatch, capfd

    def __call__(self, *words: str | Path) -> Said:
        from hounsfield.cli import main

        self._capfd.readouterr()
        self._monkeypatch.setattr("sys.argv", ["hounsfield", *(str(word) for word in words)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        out, err = self._capfd.readouterr()
        return Said(code, out, err)


def left_in(folder: Path) -> list[str]:
    """Everything below a folder, hidden files too; empty when it is not there."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) if folder.exists() else []
