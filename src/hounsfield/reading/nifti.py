"""NIfTI-1 and NIfTI-2 in one file (``.nii``, ``.nii.gz``).

Orientation follows the standard (nifti1.h, "3D image (volume) orientation and location in
space") and nibabel: the sform where its code is positive, else the qform where its code is;
with neither the patient's left and right are not known, and the file is refused. NIfTI says
RAS; this module is the edge where that becomes LPS.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import GeometryRefused, NotReadable, UnsupportedEncoding
from hounsfield.reading.filed import file_reader
from hounsfield.reading.limits import Limits
from hounsfield.reading.series import Issue
from hounsfield.reading.stored import StoredVolume
from hounsfield.volume import Geometry, Quantity

_NIFTI1_BYTES: Final = 348
_NIFTI2_BYTES: Final = 540
_MAGIC1: Final = b"n+1\0"
_MAGIC2: Final = b"n+2\0\r\n\032\n"
_PAIR_MAGICS: Final = (b"ni1\0", b"ni2\0")
_LABEL_INTENT: Final = 1002

# nifti1.h, "Data type codes"
_DTYPES: Final = {
    2: "u1",
    4: "i2",
    8: "i4",
    16: "f4",
    64: "f8",
    256: "i1",
    512: "u2",
    768: "u4",
    1024: "i8",
    1280: "u8",
}
_COLOURS: Final = (128, 2304)  # RGB and RGBA of 8 bits each
# nifti1.h, "Units of spatial and temporal dimensions"
_MM_PER_UNIT: Final = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
_SECONDS_PER_UNIT: Final = {0: 1.0, 8: 1.0, 16: 1e-3, 24: 1e-6}


def is_nifti(head: bytes) -> bool:
    """Whether a file that begins with ``head`` (after inflating, 540 bytes or more) is NIfTI."""
    size = {head[:4], head[:4][::-1]}
    if _NIFTI1_BYTES.to_bytes(4, "little") in size:
        return head[344:348] in (_MAGIC1, b"ni1\0")
    return _NIFTI2_BYTES.to_bytes(4, "little") in size and head[4:8] in (b"n+2\0", b"ni2\0")


def read_nifti_header(path: Path, limits: Limits) -> StoredVolume:
    """What a NIfTI file says of its voxels.

    Raises
    ------
    NotReadable
        If it is truncated, damaged or no NIfTI file.
    UnsupportedEncoding
        If it holds complex numbers, vectors, single bits or a header without voxels.
    GeometryRefused
        If its spacing or orientation is not that of a volume, or is not given at all.
    """
    zipped, head = _read_head(path)
    header = _parse(head, path)
    colour, dtype = _dtype(header, path)
    sizes, times_s, issues = _axes(header, path)
    affine, more = _affine(header, path)
    slope, intercept = _scaling(header)
    offset = int(header["vox_offset"]) if np.isfinite(header["vox_offset"]) else -1
    if offset < len(_MAGIC1) + _NIFTI1_BYTES:
        offset = 352 if int(header["sizeof_hdr"]) == _NIFTI1_BYTES else 544
        issues += (Issue("voxel-offset", "note", f"the header names no place for the voxels; byte {offset} was taken"),)
    return StoredVolume(
        format="nifti",
        data_path=path,
        offset=0 if zipped else offset,
        inflated_offset=offset if zipped else 0,
        encoding="gzip" if zipped else "raw",
        dtype=dtype,
        sizes=sizes,
        axes="ijkt"[: len(sizes)],
        geometry=_geometry((sizes[0], sizes[1], sizes[2]), affine, path),
        times_s=times_s,
        slope=slope,
        intercept=intercept,
        quantity=Quantity.LABEL if int(header["intent_code"]) == _LABEL_INTENT else Quantity.ARBITRARY,
        colour=colour,
        issues=issues + more,
    )


def _read_head(path: Path) -> tuple[bool, bytes]:
    """Whether the file is gzipped, and its first (inflated) bytes."""
    try:
        with path.open("rb") as file:
            zipped = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if not zipped:
                return False, file.read(_NIFTI2_BYTES)
            with gzip.GzipFile(fileobj=file, mode="rb") as inflated:
                return True, inflated.read(_NIFTI2_BYTES)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise NotReadable("its gzip data are damaged or cut", "copy the file again from its source", path) from error


def _parse(head: bytes, path: Path) -> Any:
    """The nibabel header of the first bytes of a file, in the file's own byte order."""
    import nibabel as nib

    if len(head) < _NIFTI1_BYTES or not is_nifti(head):
        raise NotReadable("it does not begin with a NIfTI header", "check that the file is whole", path)
    if head[344:348] in _PAIR_MAGICS or head[4:8] in _PAIR_MAGICS:
        raise UnsupportedEncoding(
            "it is the header of a NIfTI pair (.hdr and .img)", "convert it to one .nii.gz file", path
        )
    second = head[4:8] == _MAGIC2[:4]
    length = _NIFTI2_BYTES if second else _NIFTI1_BYTES
    if len(head) < length:
        raise NotReadable("its header is cut", "copy the file again from its source", path)
    endian = "<" if int.from_bytes(head[:4], "little") == length else ">"
    kind = nib.Nifti2Header if second else nib.Nifti1Header
    return kind(head[:length], endianness=endian, check=False)


def _dtype(header: Any, path: Path) -> tuple[bool, np.dtype[Any]]:
    """Whether the voxels are colours, and their stored dtype."""
    code = int(header["datatype"])
    if code in _COLOURS:
        return True, np.dtype(np.uint8)
    if code not in _DTYPES:
        raise UnsupportedEncoding(
            f"its data type code is {code}, no real number of 8 to 64 bits", "convert it to int16 or float32", path
        )
    return False, np.dtype(header.endianness + _DTYPES[code])


def _axes(header: Any, path: Path) -> tuple[tuple[int, ...], tuple[float, ...], tuple[Issue, ...]]:
    """Sizes (i, j, k[, t]), the times in seconds, and what is odd about them."""
    dim = [int(n) for n in header["dim"]]
    count = dim[0]
    if not 1 <= count <= 7 or min(dim[1 : count + 1]) < 1:
        raise NotReadable(f"its dimensions {dim[: max(1, min(count, 7)) + 1]} make no array", "check the header", path)
    sizes = dim[1 : count + 1] + [1] * (7 - count)
    if any(n > 1 for n in sizes[4:]):
        raise UnsupportedEncoding(
            "each voxel holds several numbers (a vector or tensor)", "write one file per component", path
        )
    if sizes[3] == 1:
        return tuple(sizes[:3]), (), ()
    step, unit = float(header["pixdim"][4]), int(header["xyzt_units"]) & 0x38
    issues: tuple[Issue, ...] = ()
    if unit not in _SECONDS_PER_UNIT:
        raise UnsupportedEncoding(
            "its fourth axis is a spectrum (Hz, ppm or rad/s), not time", "write one file per volume", path
        )
    if not np.isfinite(step) or step <= 0:
        step = 1.0
        issues += (Issue("time-unknown", "warn", "the time between its volumes is not given; 1 s was taken"),)
    elif unit == 0:
        issues += (Issue("time-unit", "warn", "the unit of its time axis is not given; seconds were taken"),)
    seconds = step * _SECONDS_PER_UNIT[unit]
    return tuple(sizes[:4]), tuple(n * seconds for n in range(sizes[3])), issues


def _affine(header: Any, path: Path) -> tuple[NDArray[np.float64], tuple[Issue, ...]]:
    """Index (i, j, k, 1) to RAS mm, and what is odd about it."""
    from nibabel.spatialimages import HeaderDataError

    if float(header["pixdim"][0]) == 0.0:
        header["pixdim"][0] = 1.0  # nifti1.h: "if qfac is 0, use 1"
    sform, sform_code = header.get_sform(coded=True)
    try:
        qform, qform_code = header.get_qform(coded=True)
    except HeaderDataError as error:
        qform, qform_code = None, 0
        if sform is None:
            raise GeometryRefused("its qform is not a rotation with positive spacing", "check it", path) from error
    chosen = qform if sform is None else sform
    if chosen is None:
        raise GeometryRefused(
            "neither its sform nor its qform says how it lies in the patient (both codes are 0), so left and "
            "right are unknown",
            "write the orientation with the tool that made the file",
            path,
        )
    affine = np.array(chosen, dtype=np.float64)
    if not np.isfinite(affine).all():
        raise GeometryRefused("its orientation holds numbers that are not finite", "check the header", path)
    unit = int(header["xyzt_units"]) & 0x07
    issues: tuple[Issue, ...] = ()
    if unit not in _MM_PER_UNIT:
        raise NotReadable(f"its unit of length has the unknown code {unit}", "check the header", path)
    if unit == 0:
        issues += (Issue("length-unit", "note", "the unit of length is not given; millimetres were taken"),)
    affine[:3] *= _MM_PER_UNIT[unit]
    if sform is not None and qform is not None:
        issues += _disagreement(header, np.asarray(sform), np.asarray(qform), (int(sform_code), int(qform_code)))
    return affine, issues


def _disagreement(
    header: Any, sform: NDArray[np.float64], qform: NDArray[np.float64], codes: tuple[int, int]
) -> tuple[Issue, ...]:
    """An issue where the two orientations place the same voxel apart."""
    sizes = np.maximum(np.asarray(header["dim"][1:4], dtype=np.float64), 1)
    corners = np.array(np.meshgrid(*((0.0, n - 1) for n in sizes))).reshape(3, -1)
    corners = np.vstack([corners, np.ones(corners.shape[1])])
    apart = float(np.abs(np.linalg.norm(((sform - qform) @ corners)[:3], axis=0)).max())
    if not apart > 0.1 * float(np.linalg.norm(sform[:3, :3], axis=0).min()):
        return ()
    mirrored = np.linalg.det(sform[:3, :3]) * np.linalg.det(qform[:3, :3]) < 0
    side = ", one of them mirrored" if mirrored else ""
    return (
        Issue(
            "sform-qform",
            "warn",
            f"its sform (code {codes[0]}) and qform (code {codes[1]}) place voxels up to {apart:.3g} apart{side}; "
            "the sform was taken, as the standard says",
            "check left and right before you trust a result",
        ),
    )


def _scaling(header: Any) -> tuple[float, float]:
    """Slope and intercept; a slope of 0 (or none) means that nothing is scaled."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if not np.isfinite(slope) or slope == 0.0:
        return 1.0, 0.0
    return slope, intercept if np.isfinite(intercept) else 0.0


def _geometry(shape_ijk: tuple[int, int, int], affine_ras: NDArray[np.float64], path: Path) -> Geometry:
    try:
        return Geometry.from_affine_ras(shape_ijk, affine_ras)
    except GeometryRefused as error:
        raise GeometryRefused(error.fact, error.remedy, path) from error


READER: Final = file_reader("nifti", (".nii", ".nii.gz"), is_nifti, read_nifti_header)
