"""What the header of a NIfTI, NRRD or MetaImage file says of its voxels, and reading these.

The three formats differ in how they say things, not in what they say: so each has a parser
that ends in one `StoredVolume`, and the voxels of all are read here, with limits: the declared
size is checked before anything is allocated, and no more is inflated than was declared.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import math
import re
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import LimitExceeded, NotReadable, UnsupportedEncoding
from hounsfield.reading.series import Issue
from hounsfield.volume import Geometry, Quantity

_CHUNK: Final = 1 << 22
_LARGEST_SKIP: Final = 1 << 26
_DEFLATE_RATIO: Final = 1032  # the most that deflate can shrink (zlib technical details)
_SUFFIXES: Final = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".dcm")
_PLAIN_FIELDS: Final = (
    *("format", "offset", "inflated_offset", "encoding", "sizes", "axes"),
    *("times_s", "slope", "intercept", "modality", "colour"),
)


@dataclass(frozen=True, eq=False)
class StoredVolume:
    """One volume (or one per time point) as a file stores it.

    Parameters
    ----------
    format
        ``"nifti"``, ``"nrrd"`` or ``"mha"``.
    data_path
        The file with the voxels: the header's own, or a plain name beside it.
    offset
        Bytes of the file before the (compressed) voxels.
    inflated_offset
        Bytes to pass over after inflating.
    encoding
        ``"raw"``, ``"gzip"``, ``"bzip2"`` or ``"zlib"``.
    dtype
        As stored, with byte order.
    sizes
        Samples along each stored axis, fastest first.
    axes
        What each stored axis is, fastest first: a permutation of ``"ijk"`` or ``"ijkt"``.
    geometry
        Where one time point lies.
    times_s
        Seconds of each time point, empty for one volume.
    slope, intercept
        ``value = stored * slope + intercept``.
    colour
        Whether each voxel is a colour, so that the file is no measurement.
    """

    format: str
    data_path: Path
    offset: int
    inflated_offset: int
    encoding: str
    dtype: np.dtype[Any]
    sizes: tuple[int, ...]
    axes: str
    geometry: Geometry
    times_s: tuple[float, ...] = ()
    slope: float = 1.0
    intercept: float = 0.0
    quantity: Quantity = Quantity.ARBITRARY
    modality: str | None = None
    colour: bool = False
    issues: tuple[Issue, ...] = ()

    @property
    def stored_bytes(self) -> int:
        """Bytes of all voxels as stored, after inflating."""
        return math.prod(self.sizes) * self.dtype.itemsize

    def at_the_end(self) -> StoredVolume:
        """The same with raw voxels that are the last bytes of the file."""
        offset = self.data_path.stat().st_size - self.stored_bytes
        return replace(self, offset=max(offset, self.offset))

    def as_dict(self) -> dict[str, Any]:
        """All fields as JSON can carry them, for the answer of a child process."""
        return {
            **{name: getattr(self, name) for name in _PLAIN_FIELDS},
            "data_path": str(self.data_path),
            "dtype": self.dtype.str,
            "shape": self.geometry.shape,
            "affine": self.geometry.affine.tolist(),
            "quantity": self.quantity.value,
            "issues": [issue.as_dict() for issue in self.issues],
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> StoredVolume:
        """The value behind `as_dict`."""
        k, j, i = data["shape"]
        plain = {name: data[name] for name in _PLAIN_FIELDS}
        return cls(
            **{**plain, "sizes": tuple(plain["sizes"]), "times_s": tuple(plain["times_s"])},
            data_path=Path(data["data_path"]),
            dtype=np.dtype(data["dtype"]),
            geometry=Geometry((k, j, i), np.array(data["affine"])),
            quantity=Quantity(data["quantity"]),
            issues=tuple(Issue(**issue) for issue in data["issues"]),
        )

    @property
    def result_shape(self) -> tuple[int, ...]:
        """(slices, rows, columns) or (times, slices, rows, columns)."""
        return (*((len(self.times_s),) if self.times_s else ()), *self.geometry.shape)

    @property
    def result_dtype(self) -> np.dtype[Any]:
        """The dtype that holds every value exactly: integers stay integers where they can."""
        return _result_dtype(self.dtype, self.slope, self.intercept)

    @property
    def is_direct(self) -> bool:
        """Whether the stored voxels are, in this order, the values of the array."""
        return self.axes[:3] == "ijk" and self.slope == 1.0 and self.intercept == 0.0

    @property
    def result_bytes(self) -> int:
        """Bytes of the array that `read_array` fills."""
        return math.prod(self.sizes) * self.result_dtype.itemsize


def beside(header_path: Path, name: str) -> Path:
    """The data file that a detached header names: a plain name in the header's own folder.

    Raises
    ------
    NotReadable
        If the name is a path, a list or a pattern, or there is no such regular file; links are
        not followed.
    """
    plain = re.fullmatch(r"[^/\\:\0%*?]{1,255}", name) and name not in (".", "..")
    if not plain or name.upper() == "LIST":
        raise NotReadable(
            "its header names its data by a path, a list or a pattern",
            "put one data file beside the header and name it there",
            header_path,
        )
    path = header_path.parent / name
    if not path.exists():
        path = header_path.parent / unpacked_name(name)  # when both came out of an archive
    if path.is_symlink() or not path.is_file():
        raise NotReadable("the data file that its header names is not beside it", "copy both files", header_path)
    return path


def unpacked_name(name: str) -> str:
    """What a file of an archive is called once unpacked: a hash, and a suffix from a closed list."""
    lower = name.lower()
    suffix = next((end for end in _SUFFIXES if lower.endswith(end)), "")
    return hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:32] + suffix


def numbers(text: str, separator: str | None, path: Path) -> NDArray[np.float64]:
    """The numbers in a field of a header.

    Raises
    ------
    NotReadable
        If a part is no number.
    """
    try:
        return np.array([float(part) for part in text.split(separator)] if text.strip() else [], dtype=np.float64)
    except ValueError as error:
        raise NotReadable("a field of its header that should hold numbers does not", "check it", path) from error


class _Source(Protocol):
    """A stream of inflated bytes."""

    def read(self, size: int = -1, /) -> bytes: ...


def read_array(stored: StoredVolume, max_bytes: int, out: NDArray[Any]) -> None:
    """Read the voxels of a file.

    Parameters
    ----------
    stored
        What the header says.
    max_bytes
        The most that the array may take.
    out
        Filled; (slices, rows, columns), or (times, slices, rows, columns) with time points; of
        `StoredVolume.result_shape` and `StoredVolume.result_dtype`.

    Raises
    ------
    LimitExceeded
        If the array would take more than ``max_bytes``.
    NotReadable
        If the file is shorter than its header says, or its compressed data are damaged.
    """
    check_size(stored, max_bytes)
    shape = tuple(reversed(stored.sizes))
    slow_to_fast = stored.axes[::-1]
    order = tuple(slow_to_fast.index(axis) for axis in ("tkji" if "t" in slow_to_fast else "kji"))
    raw = out if stored.is_direct else np.empty(shape, stored.dtype.newbyteorder("="))
    _fill(stored, raw.reshape(-1).view(np.uint8).data)
    if not stored.dtype.isnative:
        raw.byteswap(inplace=True)
    if raw is not out:
        _scale(raw.transpose(order), out, stored.slope, stored.intercept)


def check_size(stored: StoredVolume, max_bytes: int) -> None:
    """Refuse a file whose declared voxels are too many, or cannot be in a file of its length.

    Raises
    ------
    LimitExceeded, NotReadable
    """
    needed = max(stored.stored_bytes, stored.result_bytes)
    if needed > max_bytes:
        raise LimitExceeded(
            f"its header declares {needed / 2**20:,.0f} MiB of voxels, more than the limit of "
            f"{max_bytes / 2**20:,.0f} MiB",
            "check the header, or raise the limit if the size is right",
            stored.data_path,
        )
    present = stored.data_path.stat().st_size - stored.offset
    possible = present
    if stored.encoding in ("gzip", "zlib"):
        possible = max(present, 0) * _DEFLATE_RATIO
    if stored.encoding != "bzip2" and possible < stored.stored_bytes:
        raise _truncated(stored.data_path, stored.stored_bytes, max(possible, 0))


def _truncated(path: Path, needed: int, present: int) -> NotReadable:
    return NotReadable(
        f"it is truncated: its header declares {needed:,} bytes of voxels, at most {present:,} are there",
        "copy the file again from its source",
        path,
    )


def _fill(stored: StoredVolume, target: memoryview) -> None:
    """Fill ``target`` (bytes) with the inflated voxels."""
    if not 0 <= stored.inflated_offset <= _LARGEST_SKIP:
        raise NotReadable(
            f"its voxels are said to begin {stored.inflated_offset:,} bytes into the data",
            "check the header",
            stored.data_path,
        )
    done = 0
    try:
        with stored.data_path.open("rb") as file:
            file.seek(stored.offset)
            source = _open_source(stored, file)
            left = stored.inflated_offset
            while left and (skipped := source.read(min(left, _CHUNK))):
                left -= len(skipped)
            while done < len(target) and (chunk := source.read(min(len(target) - done, _CHUNK))):
                target[done : done + len(chunk)] = chunk
                done += len(chunk)
            if done == len(target) and stored.encoding != "raw":
                source.read(1)  # makes the stream check its own checksum
    except (EOFError, zlib.error, gzip.BadGzipFile, ValueError) as error:
        raise NotReadable(
            f"its {stored.encoding} data are damaged or cut after {done:,} of {len(target):,} bytes",
            "copy the file again from its source",
            stored.data_path,
        ) from error
    except OSError as error:
        fact = "cannot be opened" if error.errno else f"its {stored.encoding} data are damaged"
        raise NotReadable(f"{fact} ({error.strerror or error})", "check the file", stored.data_path) from error
    if done < len(target):
        raise _truncated(stored.data_path, len(target), done)


def _open_source(stored: StoredVolume, file: Any) -> _Source:
    if stored.encoding == "raw":
        return file  # type: ignore[no-any-return]
    if stored.encoding == "gzip":
        return gzip.GzipFile(fileobj=file, mode="rb")
    if stored.encoding == "bzip2":
        return bz2.BZ2File(file, "rb")
    if stored.encoding == "zlib":
        return _ZlibSource(file)
    raise UnsupportedEncoding(
        f"its voxels are encoded as {stored.encoding!r}", "convert it to raw or gzip", stored.data_path
    )


class _ZlibSource:
    """A zlib stream, inflated only as far as it is read."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._inflater = zlib.decompressobj()
        self._waiting = b""

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` inflated bytes; empty at the end.

        Raises
        ------
        EOFError
            If the file ends before the stream does.
        """
        while not self._inflater.eof:
            data = self._waiting or self._file.read(_CHUNK)
            if not data:
                raise EOFError
            inflated = self._inflater.decompress(data, size)
            self._waiting = self._inflater.unconsumed_tail
            if inflated:
                return inflated
        return b""


def _result_dtype(dtype: np.dtype[Any], slope: float, intercept: float) -> np.dtype[Any]:
    native = dtype.newbyteorder("=")
    if slope == 1.0 and intercept == 0.0:
        return native
    if native.kind in "iu" and float(slope).is_integer() and float(intercept).is_integer():
        bounds = [int(slope) * int(edge) + int(intercept) for edge in (np.iinfo(native).min, np.iinfo(native).max)]
        for name in ("uint8", "int16", "uint16", "int32", "uint32", "int64"):
            info = np.iinfo(name)
            if info.min <= min(bounds) and max(bounds) <= info.max:
                return np.dtype(name)
    return np.dtype(np.float64)


def _scale(source: NDArray[Any], target: NDArray[Any], slope: float, intercept: float) -> None:
    """``target = source * slope + intercept``, one outer index at a time to save memory."""
    if target.dtype.kind in "iu":
        slope, intercept = int(slope), int(intercept)
    for row, out in zip(source, target, strict=True):
        if slope == 1 and intercept == 0:
            out[...] = row
        else:
            np.multiply(row, slope, out=out, dtype=target.dtype, casting="unsafe")
            out += target.dtype.type(intercept)
