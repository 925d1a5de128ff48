"""MetaImage, attached (``.mha``) and detached (``.mhd`` with its raw file).

Written from the format's definition (the MetaIO documentation of ITK). Positions are ITK's,
which are LPS millimetres. A detached data file must be a plain name beside its header.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import GeometryRefused, NotReadable, UnsupportedEncoding
from hounsfield.reading.filed import file_reader
from hounsfield.reading.limits import Limits
from hounsfield.reading.series import Issue
from hounsfield.reading.stored import StoredVolume, beside, numbers
from hounsfield.volume import Geometry

_HEADER_BYTES: Final = 1 << 20

_TYPES: Final = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",  # MetaIO writes long as 4 bytes on every platform
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_MODALITIES: Final = {"MET_MOD_CT": "CT", "MET_MOD_MR": "MR"}
_MM_PER_UNIT: Final = {"": 1.0, "?": 1.0, "mm": 1.0, "cm": 10.0, "um": 0.001}
_FIRST_KEYS: Final = (b"ObjectType", b"NDims", b"Comment", b"ObjectSubType")


@dataclass(frozen=True)
class _Header:
    """The keys of a header and where it ends."""

    path: Path
    keys: dict[str, str]
    end: int

    def first(self, *names: str) -> str | None:
        """The value of the first of these names that is given."""
        return next((self.keys[name] for name in names if name in self.keys), None)

    def numbers(self, *names: str) -> NDArray[np.float64] | None:
        text = self.first(*names)
        return None if text is None else numbers(text, None, self.path)

    def flag(self, *names: str) -> bool:
        return (self.first(*names) or "false").lower() in ("true", "1")

    def refused(self, fact: str, remedy: str = "check the header") -> NotReadable:
        return NotReadable(fact, remedy, self.path)


def is_metaimage(head: bytes) -> bool:
    """Whether a file that begins with ``head`` (32 bytes or more) is MetaImage."""
    key, equals, _ = head.partition(b"=")
    return bool(equals) and key.strip() in _FIRST_KEYS


def read_metaimage_header(path: Path, limits: Limits) -> StoredVolume:
    """What a MetaImage file says of its voxels.

    Raises
    ------
    NotReadable
        If a key is missing or makes no sense, or the data file is absent or not beside it.
    UnsupportedEncoding
        If its voxels are text, vectors, or lie in several files.
    GeometryRefused
        If its spacing or orientation is not that of a volume, or is not given.
    """
    header = _parse(path, min(limits.header_bytes, _HEADER_BYTES))
    sizes = _sizes(header)
    if header.flag("BinaryData") is False and "BinaryData" in header.keys:
        raise UnsupportedEncoding("its voxels are written as text", "save it with binary data", path)
    channels = header.first("ElementNumberOfChannels") or "1"
    if not re.fullmatch(r"[1-9]\d{0,3}", channels):
        raise header.refused("its number of channels makes no sense")
    dtype = _dtype(header)
    colour = channels in ("3", "4") and dtype.itemsize == 1
    if channels != "1" and not colour:
        raise UnsupportedEncoding(f"each voxel holds {channels} numbers", "save one file per component", path)
    geometry, issues = _geometry(header, sizes)
    times_s, more = _times(header, sizes)
    data_path, offset, at_end = _place(header)
    slope, intercept = _scaling(header)
    stored = StoredVolume(
        format="mha",
        data_path=data_path,
        offset=offset,
        inflated_offset=0,
        encoding="zlib" if header.flag("CompressedData") else "raw",
        dtype=dtype,
        sizes=tuple(sizes) if len(times_s) else tuple(sizes[:3]),
        axes="ijkt" if len(times_s) else "ijk",
        geometry=geometry,
        times_s=times_s,
        slope=slope,
        intercept=intercept,
        modality=_MODALITIES.get((header.first("Modality") or "").upper()),
        colour=colour,
        issues=issues + more,
    )
    return stored.at_the_end() if at_end else stored


def _parse(path: Path, limit: int) -> _Header:
    keys: dict[str, str] = {}
    end = 0
    with path.open("rb") as file:
        if not is_metaimage(file.read(256)):
            raise NotReadable("it does not begin with a MetaImage header", "check that the file is whole", path)
        file.seek(0)
        while end < limit and (line := file.readline(limit - end)):
            end += len(line)
            name, equals, value = line.decode("utf-8", "replace").partition("=")
            if not equals:
                if name.strip():
                    raise NotReadable("its header has a line without '='", "check the header", path)
                continue
            keys[name.strip()] = value.strip()
            if name.strip() == "ElementDataFile":
                return _Header(path, keys, end)
    raise NotReadable("its header has no ElementDataFile, so it is cut", "copy the file again from its source", path)


def _sizes(header: _Header) -> list[int]:
    words = (header.first("DimSize") or "").split()
    sizes = [int(word) for word in words if word.isascii() and word.isdigit() and len(word) < 12]
    if header.first("NDims") != str(len(sizes)) or not sizes or min(sizes) < 1 or len(sizes) != len(words):
        raise header.refused("its NDims and DimSize do not fit each other")
    if len(sizes) not in (3, 4):
        raise GeometryRefused(f"it has {len(sizes)} dimensions", "save it as a volume of three", header.path)
    return sizes


def _dtype(header: _Header) -> np.dtype[Any]:
    name = (header.first("ElementType") or "").upper()
    if name not in _TYPES:
        raise UnsupportedEncoding(
            f"its ElementType {name[:40]!r} is no number of 8 to 64 bits", "save it as MET_SHORT", header.path
        )
    big = header.flag("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
    return np.dtype((">" if big else "<") + _TYPES[name])


def _geometry(header: _Header, sizes: list[int]) -> tuple[Geometry, tuple[Issue, ...]]:
    count = len(sizes)
    spacing = header.numbers("ElementSpacing", "ElementSize")
    if spacing is None or spacing.shape != (count,):
        raise GeometryRefused("it has no ElementSpacing for each axis", "save it with its spacing", header.path)
    if not (np.isfinite(spacing[:3]).all() and spacing[:3].min() > 0):
        raise GeometryRefused(
            f"its spacing {spacing[:3].tolist()} is not three positive numbers", "check ElementSpacing", header.path
        )
    unit = (header.first("DistanceUnits") or "").strip("[]").lower()
    if unit not in _MM_PER_UNIT:
        raise header.refused(f"its DistanceUnits {unit[:20]!r} are no length")
    rows, issues = _rows(header, count)
    origin = header.numbers("Offset", "Position", "Origin")
    if origin is None:
        origin = np.zeros(count)
        issues += (Issue("origin", "warn", "its position is not given; 0, 0, 0 was taken"),)
    if origin.shape != (count,):
        raise header.refused(f"its Offset is not {count} numbers")
    affine = np.eye(4)
    affine[:3, :3] = (rows[:3, :3] * spacing[:3, None])[::-1].T
    affine[:3, 3] = origin[:3]
    affine[:3] *= _MM_PER_UNIT[unit]
    try:
        return Geometry((sizes[2], sizes[1], sizes[0]), affine), issues
    except GeometryRefused as error:
        raise GeometryRefused(error.fact, error.remedy, header.path) from error


def _rows(header: _Header, count: int) -> tuple[NDArray[np.float64], tuple[Issue, ...]]:
    """The LPS direction of each axis (i, j, k[, t]) as a row of the TransformMatrix."""
    matrix = header.numbers("TransformMatrix", "Rotation", "Orientation")
    said = (header.first("AnatomicalOrientation") or "").upper()
    if matrix is None:
        if said != "RAI":
            raise GeometryRefused(
                "it has no TransformMatrix, so left and right in the patient are unknown",
                "save it with its orientation",
                header.path,
            )
        return np.eye(count), ()
    if matrix.shape != (count * count,):
        raise header.refused(f"its TransformMatrix is not {count * count} numbers")
    rows = matrix.reshape(count, count)
    if count == 4 and (np.abs(rows[3, :3]).max() > 1e-6 or np.abs(rows[:3, 3]).max() > 1e-6):
        raise GeometryRefused("its fourth axis is not apart from space", "save it as a series in time", header.path)
    return rows, _orientation_issue(rows[:3, :3], said)


def _orientation_issue(rows: NDArray[np.float64], said: str) -> tuple[Issue, ...]:
    """MetaImage letters name where an axis comes *from*, so "RAI" is our "LPS"."""
    if not re.fullmatch(r"[RLAPIS]{3}", said):
        return ()
    meant = said.translate(str.maketrans("RLAPIS", "LRPASI"))
    wrong = False
    for row, letter in zip(rows, meant, strict=True):
        axis = {"L": 0, "R": 0, "P": 1, "A": 1, "S": 2, "I": 2}[letter]
        sign = 1 if letter in "LPS" else -1
        wrong = wrong or row[axis] * sign < 0.5
    if not wrong:
        return ()
    message = f"its AnatomicalOrientation {said} does not fit its TransformMatrix; the matrix was taken"
    return (Issue("orientation", "warn", message, "check left and right before you trust a result"),)


def _times(header: _Header, sizes: list[int]) -> tuple[tuple[float, ...], tuple[Issue, ...]]:
    if len(sizes) == 3 or sizes[3] == 1:
        return (), ()
    spacing = header.numbers("ElementSpacing", "ElementSize")
    step = 1.0 if spacing is None else float(spacing[3])
    if not np.isfinite(step) or step <= 0:
        raise header.refused(f"the spacing of its time axis is {step}")
    issue = Issue("time-unit", "warn", "the format has no unit for its time axis; seconds were taken")
    return tuple(n * step for n in range(sizes[3])), (issue,)


def _place(header: _Header) -> tuple[Path, int, bool]:
    """The data file, the bytes before the voxels, and whether these are its last bytes."""
    name = header.keys["ElementDataFile"]
    local = name.upper() == "LOCAL"
    path = header.path if local else beside(header.path, name)
    skip = header.first("HeaderSize") or "0"
    if not re.fullmatch(r"-1|\d{1,10}", skip):
        raise header.refused("its HeaderSize makes no sense")
    if skip == "-1" and header.flag("CompressedData"):
        raise header.refused("its HeaderSize of -1 does not fit compressed data")
    return path, (header.end if local else max(0, int(skip))), skip == "-1"


def _scaling(header: _Header) -> tuple[float, float]:
    slope = header.numbers("ElementToIntensityFunctionSlope")
    intercept = header.numbers("ElementToIntensityFunctionOffset")
    values = (1.0 if slope is None else float(slope[0]), 0.0 if intercept is None else float(intercept[0]))
    if not np.isfinite(values).all() or values[0] == 0.0:
        raise header.refused("its ElementToIntensityFunction is not finite")
    return values


READER: Final = file_reader("mha", (".mha", ".mhd"), is_metaimage, read_metaimage_header)
