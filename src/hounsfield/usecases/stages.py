"""What passes between the three stages of one scan's road: read and check, infer, write."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hounsfield.findings import ClassScore, Measurement
from hounsfield.findings.maps import ParameterMap
from hounsfield.reading import Series
from hounsfield.usecases.spots import Spot
from hounsfield.volume import LabelMap, TimeSeries, Volume

if TYPE_CHECKING:
    from hounsfield.usecases.detecting import Detected
    from hounsfield.writing.facts import RecordValue


@dataclass(frozen=True)
class Loaded:
    """A scan that the package may read: the whole, and the parts that are read.

    Of a sequence ``whole`` is the first time point, and ``times`` are all of them.
    """

    whole: Volume
    spots: tuple[Spot, ...]
    warnings: tuple[str, ...]
    seconds: float
    times: TimeSeries | None = None


@dataclass(frozen=True)
class Labelled:
    """Labels on the whole scan's grid, class scores, (label, number) or maps of numbers, and what they took."""

    labels: LabelMap
    engine: str
    precision: str
    plan: Mapping[str, Any]
    figures: Mapping[str, Any]
    warnings: tuple[str, ...] = field(default=())
    scores: tuple[ClassScore, ...] = ()
    detected: tuple[Detected, ...] = ()
    numbers: tuple[tuple[str, Measurement], ...] = ()
    maps: tuple[ParameterMap, ...] = ()
    record: tuple[RecordValue, ...] = ()
    explanations: tuple[ParameterMap, ...] = ()


def result_name(series: Series) -> str:
    """A folder name for the results: a hash for DICOM, the file's own plain name and a hash else."""
    identity = "/".join(series.series_instance_uids) or "/".join(str(path) for path in series.files)
    key = hashlib.sha256(f"{identity}#{_stack(series)}".encode()).hexdigest()[:10]
    if series.format == "dicom" or not series.files:
        return f"series-{key}"
    stem = re.sub(r"(\.nii|\.seg)?\.[A-Za-z0-9]+$", "", series.files[0].name)
    return f"{re.sub(r'[^A-Za-z0-9_-]+', '_', stem)[:40] or 'scan'}-{key[:6]}"


def _stack(series: Series) -> str:
    """What tells apart several volumes of one DICOM series: its grid."""
    if series.geometry is None:
        return series.kind.value
    return f"{series.geometry.shape}{series.geometry.affine.round(4).tolist()}"
