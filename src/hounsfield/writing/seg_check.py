"""Reading a SEG back with pydicom alone: frames to voxels by their own positions."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hounsfield.findings.components import Instances
from hounsfield.volume import Geometry
from hounsfield.writing.facts import Result
from hounsfield.writing.files import same

if TYPE_CHECKING:
    from pydicom import Dataset

_TOLERANCE_VOXELS = 1e-3
_DEFERRED_BYTES = 2**16  # what is larger (the pixels) stays in the file


def check_seg(path: Path, result: Result, instances: Instances) -> None:
    """Raise ReadBackFailed unless the file holds exactly ``instances`` at the right millimetres.

    The voxels are decoded and placed by pydicom and the functional groups of the file, not by
    the library that wrote them, and one frame at a time: unpacked, the frames of a hundred organs
    take more memory than the network did.
    """
    from pydicom import dcmread

    dataset = dcmread(path, defer_size=_DEFERRED_BYTES)
    geometry = result.labels.geometry
    found = read_labels(dataset, _frames(dataset, path), geometry)
    same("the segmentation", bool(np.array_equal(found, instances.array)), path)
    numbers = [int(item.SegmentNumber) for item in dataset.SegmentSequence if int(item.SegmentNumber) > 0]
    same("the list of segments", numbers == [item.number for item in instances.items], path)
    same("the frame of reference", dataset.FrameOfReferenceUID == geometry.frame_of_reference_uid, path)
    same("the study", dataset.StudyInstanceUID == result.volume.provenance.study_instance_uid, path)
    items = [item for item in dataset.SegmentSequence if int(item.SegmentNumber) > 0]
    if result.correction is not None:
        same("the hand that drew it", {item.SegmentAlgorithmType for item in items} == {"MANUAL"}, path)
        return
    digests = [item.SegmentationAlgorithmIdentificationSequence[0].AlgorithmParameters for item in items]
    same("the package digest", all(result.facts.package_digest in text for text in digests), path)


def _frames(dataset: Dataset, path: Path) -> Iterable[NDArray[np.generic]]:
    """The frames, one by one where each begins with a byte of its own (pydicom reads others all together)."""
    from pydicom.pixels.utils import iter_pixels

    rows, columns = int(dataset.Rows), int(dataset.Columns)
    if rows * columns * int(dataset.BitsAllocated) % 8:
        return dataset.pixel_array.reshape(-1, rows, columns)
    return iter_pixels(path)


def read_labels(dataset: Dataset, frames: Iterable[NDArray[np.generic]], geometry: Geometry) -> NDArray[np.uint16]:
    """(slices, rows, columns) of segment numbers on ``geometry``, 0 where nothing is stored.

    Parameters
    ----------
    frames
        The frames of the file in their order, (rows, columns) each.

    Raises
    ------
    ValueError
        If a frame does not lie on a slice of ``geometry``.
    """
    shared = dataset.SharedFunctionalGroupsSequence[0]
    _require_plane(shared, geometry)
    labels = np.zeros(geometry.shape, np.uint16)
    for frame, group in zip(frames, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        k = slice_index(group, geometry)
        if dataset.SegmentationType == "LABELMAP":
            labels[k] = frame
        else:
            identification = _group(group, shared, "SegmentIdentificationSequence")
            labels[k][frame != 0] = int(identification.ReferencedSegmentNumber)
    return labels


def _group(own: Dataset, shared: Dataset, keyword: str) -> Any:
    return (own if keyword in own else shared)[keyword].value[0]


def _require_plane(shared: Dataset, geometry: Geometry) -> None:
    cosines = np.array([float(n) for n in shared.PlaneOrientationSequence[0].ImageOrientationPatient])
    rows, columns = (float(n) for n in shared.PixelMeasuresSequence[0].PixelSpacing)
    steps = np.stack([cosines[3:] * rows, cosines[:3] * columns], axis=1)
    last = np.array(geometry.shape[1:]) - 1
    if np.abs((steps - geometry.affine[:3, 1:3]) * last).max() > _TOLERANCE_VOXELS * min(rows, columns):
        raise ValueError("the plane of the frames is not that of the labels")


def slice_index(group: Dataset, geometry: Geometry) -> int:
    """The slice of ``geometry`` on which a frame lies, by its functional group.

    Raises
    ------
    ValueError
        If it lies on none.
    """
    position = [float(n) for n in group.PlanePositionSequence[0].ImagePositionPatient]
    index = geometry.mm_to_index(position)
    k = round(float(index[0]))
    if np.abs(index - (k, 0, 0)).max() > _TOLERANCE_VOXELS or not 0 <= k < geometry.shape[0]:
        raise ValueError("a frame lies between the slices")
    return k
