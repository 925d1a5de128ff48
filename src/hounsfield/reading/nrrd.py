"""NRRD, attached (``.nrrd``) and detached (``.nhdr``).

Written from the format's definition (teem.sourceforge.net/nrrd/format.html). Read are the
encodings raw, gzip and bzip2 in the anatomical spaces RAS, LAS and LPS; a detached data file
must be a plain name beside its header, so that a header cannot point anywhere else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import GeometryRefused, NotReadable, UnsupportedEncoding
from hounsfield.reading.filed import file_reader
from hounsfield.reading.limits import Limits
from hounsfield.reading.series import Issue
from hounsfield.reading.stored import StoredVolume, beside, numbers
from hounsfield.volume import Geometry, Quantity

_HEADER_BYTES: Final = 1 << 22

_TYPES: Final = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_DTYPE_OF: Final = {name: code for code, names in _TYPES.items() for name in names}
_ENCODINGS: Final = {"raw": "raw", "gz": "gzip", "gzip": "gzip", "bz2": "bzip2", "bzip2": "bzip2"}
_SIGNS: Final = {
    "left-posterior-superior": (1, 1, 1),
    "lps": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1),
    "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1),
    "las": (1, -1, 1),
}
_MM_PER_UNIT: Final = {"mm": 1.0, "millimeter": 1.0, "cm": 10.0, "m": 1000.0, "um": 0.001, "": 1.0}
_SECONDS_PER_UNIT: Final = {"s": 1.0, "sec": 1.0, "ms": 1e-3, "us": 1e-6}
_SPATIAL_KINDS: Final = ("domain", "space", "???", "none", "")
_TIME_KINDS: Final = ("list", "time", "domain", "???", "none", "")
_COLOUR_KINDS: Final = ("rgb-color", "hsv-color", "xyz-color", "rgba-color", "3-color", "4-color")


@dataclass(frozen=True)
class _Header:
    """The fields of a header, lower case, its key-value pairs, and where it ends."""

    path: Path
    fields: dict[str, str]
    pairs: dict[str, str]
    end: int

    def words(self, name: str) -> list[str]:
        return self.fields.get(name, "").split()

    def quoted(self, name: str) -> list[str]:
        return [text.strip().lower() for text in re.findall(r'"([^"]*)"', self.fields.get(name, ""))]

    def refused(self, fact: str, remedy: str = "check the header") -> NotReadable:
        return NotReadable(fact, remedy, self.path)


def is_nrrd(head: bytes) -> bool:
    """Whether a file that begins with ``head`` (8 bytes or more) is NRRD."""
    return head[:7] == b"NRRD000" and head[7:8].isdigit()


def read_nrrd_header(path: Path, limits: Limits) -> StoredVolume:
    """What an NRRD file says of its voxels.

    Raises
    ------
    NotReadable
        If a field is missing or makes no sense, or the data file is absent or not beside it.
    UnsupportedEncoding
        If it holds text, blocks, vectors, or its voxels lie in several files.
    GeometryRefused
        If it does not say where the voxels lie in the patient.
    """
    header = _parse(path, min(limits.header_bytes, _HEADER_BYTES))
    sizes = _sizes(header)
    encoding = _encoding(header)
    vectors = _directions(header, len(sizes))
    axes, kept, colour = _axes(header, sizes, vectors)
    data_path, offset, inflated_offset = _place(header, encoding)
    times_s, issues = _times(header, axes, [sizes[n] for n in kept], kept)
    stored = StoredVolume(
        format="nrrd",
        data_path=data_path,
        offset=offset,
        inflated_offset=inflated_offset,
        encoding=encoding,
        dtype=_dtype(header),
        sizes=tuple(sizes[n] for n in kept),
        axes=axes,
        geometry=_geometry(header, [sizes[n] for n in kept], [vectors[n] for n in kept], axes),
        times_s=times_s,
        quantity=Quantity.LABEL if _is_segmentation(header) else Quantity.ARBITRARY,
        modality=_modality(header),
        colour=colour,
        issues=issues,
    )
    return _from_the_end(stored, header)


def _parse(path: Path, limit: int) -> _Header:
    with path.open("rb") as file:
        text = file.read(limit)
    if not is_nrrd(text):
        raise NotReadable("it does not begin with an NRRD header", "check that the file is whole", path)
    blank = re.search(rb"\r?\n\r?\n", text)
    end = len(text) if blank is None else blank.end()
    if blank is None and len(text) == limit:
        raise NotReadable(f"its header has no end within {limit:,} bytes", "check the file", path)
    fields: dict[str, str] = {}
    pairs: dict[str, str] = {}
    for line in text[:end].decode("utf-8", "replace").splitlines()[1:]:
        if line.startswith("#"):
            continue
        key, colon, value = line.partition(":")
        if value.startswith("="):
            pairs[key.strip()] = value[1:].strip()
        elif colon:
            name = key.strip().lower()
            if name in fields:
                raise NotReadable(f"its header gives the field {name[:40]!r} twice", "check the header", path)
            fields[name] = value.strip()
    return _Header(path, fields, pairs, end)


def _sizes(header: _Header) -> list[int]:
    sizes = [int(word) for word in header.words("sizes") if word.isascii() and word.isdigit() and len(word) < 12]
    if header.fields.get("dimension") != str(len(sizes)) or not sizes or min(sizes) < 1:
        raise header.refused("its dimension and sizes do not fit each other")
    return sizes


def _encoding(header: _Header) -> str:
    name = header.fields.get("encoding", "").lower()
    if name not in _ENCODINGS:
        raise UnsupportedEncoding(
            f"its encoding {name[:40]!r} is not raw, gzip or bzip2", "save it with gzip encoding", header.path
        )
    return _ENCODINGS[name]


def _dtype(header: _Header) -> np.dtype[np.generic]:
    name = header.fields.get("type", "").lower()
    if name not in _DTYPE_OF:
        raise UnsupportedEncoding(
            f"its type {name[:40]!r} is no number of 8 to 64 bits", "convert it to short or float", header.path
        )
    code = _DTYPE_OF[name]
    if code.endswith("1"):
        return np.dtype(code)
    endian = header.fields.get("endian", "").lower()
    if endian not in ("little", "big"):
        raise header.refused("it does not say its byte order (endian)")
    return np.dtype(("<" if endian == "little" else ">") + code)


def _directions(header: _Header, count: int) -> list[NDArray[np.float64] | None]:
    """For each axis its step in the header's own space, ``None`` for axes not in space."""
    space = header.fields.get("space", "").lower()
    text = header.fields.get("space directions", "")
    if space not in _SIGNS or not text:
        said = f"its space is {space[:40]!r}" if space else "it names no space"
        raise GeometryRefused(
            f"{said}, so left and right in the patient are unknown",
            "save it as left-posterior-superior with space directions and space origin",
            header.path,
        )
    parts = re.findall(r"none|\([^()]*\)", text)
    if len(parts) != count:
        raise header.refused(f"it has {count} axes but {len(parts)} space directions")
    vectors = [None if part == "none" else numbers(part.strip("()"), ",", header.path) for part in parts]
    if any(vector is not None and vector.shape != (3,) for vector in vectors):
        raise header.refused("its space directions are not vectors of three numbers")
    return vectors


def _axes(header: _Header, sizes: list[int], vectors: list[NDArray[np.float64] | None]) -> tuple[str, list[int], bool]:
    """The meaning of the axes that are kept, which these are, and whether voxels are colours."""
    kinds = header.fields.get("kinds", " ".join("?" * 0 for _ in sizes)).lower().split() or [""] * len(sizes)
    if len(kinds) != len(sizes):
        raise header.refused(f"it has {len(sizes)} axes but {len(kinds)} kinds")
    if sum(vector is not None for vector in vectors) != 3:
        raise GeometryRefused("it does not have three axes in space", "save it as a volume", header.path)
    names = iter("ijk")
    axes, colour = "", False
    kept: list[int] = []
    for n, (size, kind, vector) in enumerate(zip(sizes, kinds, vectors, strict=True)):
        if vector is not None and kind in _SPATIAL_KINDS:
            axes, kept = axes + next(names), [*kept, n]
        elif kind in _COLOUR_KINDS and n == 0:
            colour = True
        elif vector is None and size == 1:
            continue
        elif vector is None and kind in _TIME_KINDS and "t" not in axes and not colour:
            axes, kept = axes + "t", [*kept, n]
        else:
            raise UnsupportedEncoding(
                f"its axis {n} of kind {kind[:40]!r} is neither space nor time",
                "save one file per component",
                header.path,
            )
    return axes, kept, colour


def _place(header: _Header, encoding: str) -> tuple[Path, int, int]:
    """The data file, the bytes before the data, and those to pass over after inflating."""
    fields = header.fields
    name = fields.get("data file", fields.get("datafile"))
    path, offset = header.path, header.end
    if name is not None:
        path, offset = beside(header.path, name), 0
    lines = fields.get("line skip", fields.get("lineskip", "0"))
    skip = fields.get("byte skip", fields.get("byteskip", "0"))
    if lines != "0":
        raise UnsupportedEncoding("it skips lines of its data file", "save it without line skip", header.path)
    if not re.fullmatch(r"-1|\d{1,10}", skip) or (skip == "-1" and encoding != "raw"):
        raise header.refused("its byte skip makes no sense")
    if encoding == "raw":
        return path, offset + max(0, int(skip)), 0
    return path, offset, int(skip)


def _from_the_end(stored: StoredVolume, header: _Header) -> StoredVolume:
    """Byte skip -1 means that the voxels are the last bytes of the file."""
    if header.fields.get("byte skip", header.fields.get("byteskip")) != "-1":
        return stored
    return stored.at_the_end()


def _geometry(header: _Header, sizes: list[int], vectors: list[NDArray[np.float64] | None], axes: str) -> Geometry:
    signs = np.array(_SIGNS[header.fields["space"].lower()], dtype=np.float64)
    units = header.quoted("space units") or [""]
    if len(set(units)) != 1 or units[0] not in _MM_PER_UNIT:
        raise header.refused(f"its space units {units!r} are not one unit of length"[:120])
    origin = numbers(header.fields.get("space origin", "").strip("()"), ",", header.path)
    if origin.shape != (3,):
        raise GeometryRefused("it has no space origin of three numbers", "save it with its origin", header.path)
    affine = np.eye(4)
    for column, axis in enumerate("kji"):
        affine[:3, column] = vectors[axes.index(axis)]
    affine[:3, 3] = origin
    affine[:3] *= signs[:, None] * _MM_PER_UNIT[units[0]]
    shape = tuple(sizes[axes.index(axis)] for axis in "kji")
    try:
        return Geometry((shape[0], shape[1], shape[2]), affine)
    except GeometryRefused as error:
        raise GeometryRefused(error.fact, error.remedy, header.path) from error


def _times(
    header: _Header, axes: str, sizes: list[int], kept: list[int]
) -> tuple[tuple[float, ...], tuple[Issue, ...]]:
    """Seconds of each volume after the first: from 3D Slicer's MultiVolume labels, or the axis spacing."""
    if "t" not in axes:
        return (), ()
    place = axes.index("t")
    count = sizes[place]
    if any(key.lower().startswith("dwmri_") for key in header.pairs):
        raise UnsupportedEncoding("it is a diffusion series, not a series in time", "save one volume", header.path)
    labels = header.pairs.get("MultiVolume.FrameLabels", "").split(",")
    unit = header.pairs.get("MultiVolume.FrameIdentifyingDICOMTagUnits", "").lower()
    if len(labels) == count and unit in _SECONDS_PER_UNIT:
        values = numbers(",".join(labels), ",", header.path) * _SECONDS_PER_UNIT[unit]
        if (np.diff(values) > 0).all():
            return tuple((values - values[0]).tolist()), ()
    spacings, units = header.words("spacings"), header.quoted("units")
    axis = kept[place]
    if len(spacings) > axis and len(units) > axis and units[axis] in _SECONDS_PER_UNIT:
        step = float(numbers(spacings[axis], ",", header.path)[0]) * _SECONDS_PER_UNIT[units[axis]]
        if step > 0:
            return tuple(n * step for n in range(count)), ()
    issue = Issue("time-unknown", "warn", "the times of its volumes are not given; 1 s apart was taken")
    return tuple(float(n) for n in range(count)), (issue,)


def _is_segmentation(header: _Header) -> bool:
    """Whether it is a 3D Slicer segmentation (``.seg.nrrd``)."""
    return any(re.fullmatch(r"Segment\d+_ID", key) for key in header.pairs)


def _modality(header: _Header) -> str | None:
    text = header.pairs.get("modality", header.pairs.get("DICOM.Modality", "")).upper()
    return text if text in ("CT", "MR", "PT") else None


READER: Final = file_reader("nrrd", (".nrrd", ".nhdr"), is_nrrd, read_nrrd_header)
