"""Stored instances and their frames, as plain values: what assembly works with.

They are made in the parent process from the JSON that a reading child answered, and nothing in
them is trusted: numbers are checked where they are used.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from hounsfield.reading.clocks import datetime_s, moment_s
from hounsfield.reading.elements import Malformed
from hounsfield.reading.headers import read_header
from hounsfield.reading.jail import Refused
from hounsfield.reading.limits import Limits
from hounsfield.reading.multiframe import split_frames

Header = dict[str, Any]

MEDIA_DIRECTORY: Final = "1.2.840.10008.1.3.10"


@dataclass(frozen=True)
class PixelFormat:
    """How the pixels of one instance are stored (PS3.3 C.7.6.3).

    ``kind`` is ``"integer"``, ``"float"`` or ``"double"``; ``samples`` per pixel is 1 for grey.
    """

    kind: str
    rows: int
    columns: int
    samples: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    little: bool
    transfer_syntax_uid: str
    photometric: str

    @property
    def frame_bytes(self) -> int:
        """Size of one uncompressed frame, bytes, rounded up."""
        return (self.rows * self.columns * self.samples * self.bits_allocated + 7) // 8

    @property
    def stored_range(self) -> tuple[int, int]:
        """Smallest and largest value that ``bits_stored`` can hold."""
        if self.signed:
            return -(1 << (self.bits_stored - 1)), (1 << (self.bits_stored - 1)) - 1
        return 0, (1 << self.bits_stored) - 1


@dataclass(frozen=True, eq=False)
class Instance:
    """One stored SOP instance: its header by keyword, and where its pixels are."""

    path: Path
    header: Header
    frame_headers: tuple[Header, ...]
    pixels: str | None
    offset: int
    length: int | None
    available: int
    little: bool
    inflated_from: int | None
    size: int

    @property
    def sop_instance_uid(self) -> str:
        """SOP Instance UID, or an empty text."""
        return str(self.header.get("SOPInstanceUID", ""))

    @property
    def sop_class_uid(self) -> str:
        """SOP Class UID, or an empty text."""
        return str(self.header.get("SOPClassUID", ""))

    @property
    def frame_count(self) -> int:
        """Declared number of frames, at least 0."""
        count = self.header.get("NumberOfFrames", 1)
        return count if isinstance(count, int) and count >= 0 else 0

    @cached_property
    def format(self) -> PixelFormat:
        """How the pixels are stored; missing values are 0, for ``pixel_fault`` to find."""

        def number(keyword: str, default: int = 0) -> int:
            value = self.header.get(keyword, default)
            return value if isinstance(value, int) else default

        allocated = {"float": 32, "double": 64}.get(self.pixels or "", number("BitsAllocated"))
        stored = number("BitsStored", allocated) if self.pixels == "integer" else allocated
        return PixelFormat(
            kind=self.pixels or "integer",
            rows=number("Rows"),
            columns=number("Columns"),
            samples=number("SamplesPerPixel", 1),
            bits_allocated=allocated,
            bits_stored=stored,
            high_bit=number("HighBit", stored - 1),
            signed=number("PixelRepresentation") == 1,
            little=self.little,
            transfer_syntax_uid=str(self.header.get("TransferSyntaxUID", "")),
            photometric=str(self.header.get("PhotometricInterpretation", "MONOCHROME2")),
        )

    @cached_property
    def first_frame(self) -> Frame | None:
        """The first frame; ``None`` without frames. Costs nothing, however many are declared."""
        if self.frame_headers:
            return Frame(self, 1, self.frame_headers[0])
        if "NumberOfFrames" not in self.header:
            return Frame(self, None, {})
        return Frame(self, 1, {}) if self.frame_count else None

    @cached_property
    def frames(self) -> tuple[Frame, ...]:
        """Every frame, in stored order; only for instances whose pixels are there (``pixel_fault``)."""
        if self.frame_headers:
            return tuple(Frame(self, n, own) for n, own in enumerate(self.frame_headers, start=1))
        numbers: Sequence[int | None] = (
            [None] if "NumberOfFrames" not in self.header else range(1, self.frame_count + 1)
        )
        return tuple(Frame(self, number, {}) for number in numbers)


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame of an instance; ``number`` counts from 1, ``None`` in single-frame instances."""

    instance: Instance
    number: int | None
    own: Header = field(repr=False)

    def get(self, keyword: str, default: Any = None) -> Any:
        """The value of the frame's own functional groups, else of the instance."""
        return self.own[keyword] if keyword in self.own else self.instance.header.get(keyword, default)

    def floats(self, keyword: str, count: int) -> tuple[float, ...] | None:
        """``count`` numbers, which may be any floats; ``None`` if there are not so many."""
        value = self.get(keyword)
        values = value if isinstance(value, list) else [value]
        if len(values) != count or not all(isinstance(v, int | float) for v in values):
            return None
        return tuple(float(v) for v in values)

    def number_of(self, keyword: str) -> float | None:
        """The first finite number of a value, or ``None``."""
        value = self.get(keyword)
        if isinstance(value, list):
            value = value[0] if value else None
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else None

    @cached_property
    def position(self) -> tuple[float, ...] | None:
        """ImagePositionPatient: LPS mm of the centre of the first pixel."""
        return self.floats("ImagePositionPatient", 3)

    @cached_property
    def orientation(self) -> tuple[float, ...] | None:
        """ImageOrientationPatient: unit vectors along a row, then along a column."""
        return self.floats("ImageOrientationPatient", 6)

    @cached_property
    def spacing_mm(self) -> tuple[float, ...] | None:
        """PixelSpacing: distance between rows, between columns, mm."""
        return self.floats("PixelSpacing", 2)

    @cached_property
    def image_type(self) -> tuple[str, ...]:
        """FrameType, or ImageType."""
        value = self.own.get("FrameType") or self.instance.header.get("ImageType") or []
        return tuple(str(part) for part in value)

    @cached_property
    def echo_time_ms(self) -> float | None:
        """EffectiveEchoTime or EchoTime, ms."""
        effective = self.number_of("EffectiveEchoTime")
        return self.number_of("EchoTime") if effective is None else effective

    @cached_property
    def acquired_s(self) -> float | None:
        """When it was acquired, seconds on one scale; only differences mean anything."""
        moments = (
            datetime_s(self.own.get("FrameAcquisitionDateTime")),
            datetime_s(self.own.get("FrameReferenceDateTime")),
            moment_s(self.get("AcquisitionDate") or self.get("StudyDate"), self.get("AcquisitionTime")),
            datetime_s(self.get("AcquisitionDateTime")),
            moment_s(self.get("StudyDate"), self.get("ContentTime")),
        )
        return next((moment for moment in moments if moment is not None), None)

    @property
    def rescale(self) -> tuple[float, float]:
        """(slope, intercept); (1, 0) where there is none, NaN where one is there but unusable."""
        return self._single("RescaleSlope", 1.0), self._single("RescaleIntercept", 0.0)

    def _single(self, keyword: str, default: float) -> float:
        if self.get(keyword) is None:
            return default
        value = self.floats(keyword, 1)
        return math.nan if value is None else value[0]


def read_in_child(path: Path, limits: Limits) -> dict[str, Any]:
    """What a child answers about one file, as JSON can carry it.

    Raises
    ------
    Refused
        If the file is not DICOM, is damaged, or is only a directory of others.
    """
    try:
        header, parsed = read_header(path, limits)
        rest, frames = split_frames(header)
    except Malformed as fault:
        raise Refused(str(fault), "header") from None
    except OSError as fault:
        raise Refused(f"it cannot be opened ({fault.strerror})", "header") from None
    if rest.get("SOPClassUID") == MEDIA_DIRECTORY:
        raise Refused("it is a directory of other files (DICOMDIR)", "directory")
    if "SOPClassUID" not in rest and "Rows" not in rest:
        raise Refused("it holds no DICOM object", "header")
    rest["TransferSyntaxUID"] = parsed.transfer_syntax_uid
    return {
        "header": rest,
        "frames": frames,
        "pixels": parsed.pixels,
        "offset": parsed.offset,
        "length": parsed.length,
        "available": parsed.available,
        "little": parsed.little,
        "inflated_from": parsed.inflated_from,
        "size": path.stat().st_size,
    }


def from_answer(path: Path, answer: dict[str, Any]) -> Instance:
    """The instance that a child described."""
    values = dict(answer)
    return Instance(path=path, frame_headers=tuple(values.pop("frames")), **values)
