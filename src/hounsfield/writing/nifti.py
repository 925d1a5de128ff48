"""Label maps as NIfTI-1 on the scan's own grid."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import OutputError
from hounsfield.findings.maps import ParameterMap
from hounsfield.writing.facts import DEVICE_MODEL, Result
from hounsfield.writing.files import Written, same, write_checked

INTENT_LABEL: Final = 1002
INTENT_ESTIMATE: Final = 1001
_MM_TOLERANCE: Final = 1e-3


def write_nifti(result: Result, path: Path, *, overwrite: bool = False) -> Written:
    """Write the label map as ``.nii.gz`` (or ``.nii``), read it back with nibabel, compare.

    The array is stored as (i, j, k) with the affine of the scan (index to RAS mm), so for a
    NIfTI source each stored voxel (i, j, k) is the source's voxel (i, j, k). Intent code 1002
    (LABEL), data type uint8 or uint16, sform and qform both set (code 1, scanner; a sheared
    grid has no qform and gets code 0). The same result gives the same bytes.

    Raises
    ------
    OutputError, OutputExists, ReadBackFailed
        See ``hounsfield.writing.files``.
    """
    if not path.name.endswith((".nii", ".nii.gz")):
        raise OutputError("the name does not end in .nii or .nii.gz", "choose such a name", path)
    array, affine = _stored(result)
    return _written(array, affine, result, INTENT_LABEL, path, overwrite)


def write_map(result: Result, one: ParameterMap, path: Path, *, overwrite: bool = False) -> Written:
    """Write a map of numbers (float32, NaN where nothing is known) as NIfTI with the scan's affine.

    Intent code 1001 (ESTIMATE); the unit is in ``descrip``. Read back and compared; raises as
    :func:`write_nifti` does.
    """
    array = np.asarray(one.array, np.float32).transpose(2, 1, 0)
    return _written(array, result.labels.geometry.affine_ras, result, INTENT_ESTIMATE, path, overwrite, one.unit.value)


def _written(
    array: NDArray[Any],
    affine: NDArray[np.float64],
    result: Result,
    intent: int,
    path: Path,
    overwrite: bool,
    unit: str = "",
) -> Written:
    def write(temporary: Path) -> None:
        data = _image(array, affine, result, intent, unit).to_bytes()
        with temporary.open("wb") as stream:
            if path.suffix == ".gz":
                with gzip.GzipFile("", "wb", compresslevel=6, fileobj=stream, mtime=0) as packed:
                    packed.write(data)
            else:
                stream.write(data)

    def check(temporary: Path) -> None:
        _compare(temporary, array, affine, intent)

    return write_checked(path, "nifti", write, check, overwrite=overwrite)


def _stored(result: Result) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """(i, j, k) view of the labels, uint8 where they fit, and the RAS affine."""
    labels = result.labels.array
    narrow = np.uint8 if int(labels.max(initial=0)) < 256 else np.uint16
    if int(labels.max(initial=0)) > 65535:
        raise OutputError("labels above 65535 cannot be stored", "use fewer segments")
    return labels.astype(narrow, copy=False).transpose(2, 1, 0), result.labels.geometry.affine_ras


def _image(array: NDArray[Any], affine: NDArray[np.float64], result: Result, intent: int, unit: str) -> Any:
    import nibabel

    image = nibabel.Nifti1Image(array, affine)
    image.header.set_intent(intent, name="hounsfield")
    image.header.set_xyzt_units("mm", "sec")
    told = f"{DEVICE_MODEL} {result.facts.software_version} research use only{f', in {unit}' if unit else ''}"
    image.header["descrip"] = told.encode()[:79]
    known = array[np.isfinite(array)] if array.dtype.kind == "f" else array
    image.header["cal_max"] = float(known.max(initial=0))
    image.set_sform(affine, code=1)
    if result.labels.geometry.is_orthonormal:
        image.set_qform(affine, code=1)
    else:
        image.set_qform(None, code=0)
    return image


def _compare(path: Path, array: NDArray[Any], affine: NDArray[np.float64], intent: int) -> None:
    import nibabel

    image: Any = nibabel.load(path)
    same("the intent code", int(image.header["intent_code"]) == intent, path)
    same("the data type", image.get_data_dtype() == array.dtype, path)
    floating = array.dtype.kind == "f"
    same("the voxels", np.array_equal(np.asanyarray(image.dataobj), array, equal_nan=floating), path)
    corners = np.array([[0, 0, 0, 1], [*(n - 1 for n in array.shape), 1]], dtype=np.float64)
    stored = [image.get_sform()] + ([image.get_qform()] if int(image.header["qform_code"]) else [])
    for one in stored:
        distance = np.abs(corners @ (one - affine).T).max()
        same("the affine", bool(distance <= _MM_TOLERANCE * max(1.0, max(array.shape) / 256)), path)
