"""A real model reads a real brain: the ICBM-152 average, as two DICOM series of one study.

The scan comes with the nilearn wheel (``pip install --no-deps nilearn``), so that it reaches a
fresh machine from a package registry. The two boxes around the hippocampi, at (±28, -22, -13) mm
in the atlas's RAS space, are written as DICOM MR so that the answer can be standard DICOM.
"""

from __future__ import annotations

import datetime as dt
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from hounsfield.errors import NothingToRead
from hounsfield.findings.measuring import derived_uid
from hounsfield.usecases.events import Note, OnEvent, silent
from hounsfield.usecases.run import RunRequest, RunResult, run_model
from hounsfield.volume import Geometry, Volume

MODEL: Final = "hippocampus-mr"
_FILE: Final = "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
_BOX_VOXELS: Final = (48, 60, 42)
_CENTRES_LPS_MM: Final = {"right": (-28.0, 22.0, -13.0), "left": (28.0, 22.0, -13.0)}


@dataclass(frozen=True)
class DemoResult:
    """Where the demo's scan lies, and what the model said of it."""

    scan: Path
    run: RunResult


def demo(output: Path, on_event: OnEvent = silent) -> DemoResult:
    """Write the demo's scan to ``output/scan`` and the results to ``output/results``.

    Raises
    ------
    NothingToRead
        If the wheel that brings the scan is not installed.
    OutputExists
        If ``output`` is not empty.
    """
    on_event(Note("the scan: ICBM-152 average brain (MNI, McConnell Brain Imaging Centre), T1-weighted MR"))
    write_scan(output / "scan")
    result = run_model(RunRequest(MODEL, output / "scan", output / "results"), on_event)
    return DemoResult(output / "scan", result)


def write_scan(folder: Path) -> str:
    """Write the scan as DICOM MR, one folder per side, and return its Study Instance UID, which is always the same.

    Raises
    ------
    NothingToRead
        If the wheel that brings the scan is not installed.
    """
    from hounsfield.reading import read
    from hounsfield.writing.series import SeriesIdentity, write_mr_series

    brain = read(atlas_path())
    study, frame = derived_uid("demo", "icbm-152/study"), derived_uid("demo", "icbm-152/frame")
    for number, (side, centre_mm) in enumerate(_CENTRES_LPS_MM.items(), start=1):
        identity = SeriesIdentity(
            patient_name="ICBM-152^Average brain",
            patient_id="ICBM-152",
            study_description="Hounsfield demo",
            series_description=f"T1 {side} hippocampus box",
            body_part="BRAIN",
            series_number=number,
            study_instance_uid=study,
            frame_of_reference_uid=frame,
            manufacturer="ICBM-152 atlas",
            when=dt.datetime(2009, 9, 1, 12, 0, 0),
        )
        write_mr_series(box_around(brain, centre_mm), folder / side, identity)
    return study


def atlas_path() -> Path:
    """The atlas inside the installed nilearn wheel, which is found but not imported."""
    spec = importlib.util.find_spec("nilearn")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / _FILE
        if path.is_file():
            return path
    raise NothingToRead("the demo's scan is not here", "install it: pip install --no-deps nilearn")


def box_around(volume: Volume, centre_mm: tuple[float, float, float]) -> Volume:
    """The box of 48 x 60 x 42 voxels around a point, axes along LPS."""
    geometry, order, flips = volume.geometry.reoriented("LPS")
    array = np.flip(volume.array.transpose(order), tuple(axis for axis in range(3) if flips[axis]))
    middle = np.rint(geometry.mm_to_index(centre_mm)).astype(int)
    start = tuple(int(m) - n // 2 for m, n in zip(middle, _BOX_VOXELS, strict=True))
    box = tuple(slice(s, s + n) for s, n in zip(start, _BOX_VOXELS, strict=True))
    inside: Geometry = geometry.cropped((start[0], start[1], start[2]), _BOX_VOXELS)
    return Volume(np.ascontiguousarray(array[box]), inside, provenance=volume.provenance)
