"""DICOM series with known truth, written with pydicom."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

HTJ2K_LOSSLESS = "1.2.840.10008.1.2.4.201"
JPEG_LOSSLESS_SV1 = "1.2.840.10008.1.2.4.70"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.57"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"

AXIAL = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
# Orthonormal, far from every axis
OBLIQUE_ROW = np.array([0.8, 0.48, -0.36])
OBLIQUE_COLUMN = np.array([-0.6, 0.64, -0.48])
OBLIQUE = (tuple(OBLIQUE_ROW.tolist()), tuple(OBLIQUE_COLUMN.tolist()))

Edit = Callable[[int, Dataset], None]


def noise(shape: tuple[int, ...], low: int, high: int, dtype: Any, seed: int = 1) -> NDArray[Any]:
    """Reproducible values from ``low`` to ``high``, smooth enough for lossy codecs to bear."""
    return np.random.default_rng(seed).integers(low, high + 1, size=shape).astype(dtype)


def corners(shape: tuple[int, int, int], dtype: Any = np.int16) -> NDArray[Any]:
    """An asymmetric volume: every voxel holds a number of its own index."""
    k, j, i = np.indices(shape)
    return (k * 977 + j * 31 + i * 3).astype(dtype)


def slice_dataset(
    stored: NDArray[Any],
    position: Sequence[float],
    *,
    orientation: tuple[Sequence[float], Sequence[float]] = AXIAL,
    spacing: tuple[float, float] = (1.0, 1.0),
    bits_stored: int | None = None,
    modality: str = "CT",
) -> Dataset:
    """One slice; UIDs of study, series and frame of reference are set by ``write_series``."""
    ds = Dataset()
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = generate_uid()
    ds.Modality = modality
    ds.PatientName = "Phantom^Canary"
    ds.PatientID = "CANARY-4711"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.StudyDate = "20240229"
    ds.SeriesDescription = "phantom"
    ds.ImagePositionPatient = [f"{float(p):.10g}" for p in position]
    ds.ImageOrientationPatient = [f"{float(c):.10g}" for axis in orientation for c in axis]
    ds.PixelSpacing = [f"{s:.10g}" for s in spacing]
    ds.SliceThickness = "1"
    set_pixels(ds, stored, bits_stored)
    return ds


def set_pixels(ds: Dataset, stored: NDArray[Any], bits_stored: int | None = None) -> None:
    """Put native pixels and their description into a dataset."""
    bits = stored.dtype.itemsize * 8
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns = stored.shape[-2:]
    ds.BitsAllocated = bits
    ds.BitsStored = bits_stored or bits
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(stored.dtype.kind == "i")
    ds["PixelData"] = pydicom.DataElement(0x7FE00010, "OB" if bits == 8 else "OW", stored.tobytes())


def write_series(
    folder: Path,
    volume: NDArray[Any],
    *,
    origin: Sequence[float] = (-10.0, 20.0, -30.0),
    orientation: tuple[Sequence[float], Sequence[float]] = AXIAL,
    spacing: tuple[float, float, float] = (2.5, 0.75, 0.5),
    step: Sequence[float] | None = None,
    syntax: str = ExplicitVRLittleEndian,
    bits_stored: int | None = None,
    edit: Edit | None = None,
    leave_out: Sequence[int] = (),
    uids: tuple[str, str, str] | None = None,
    seed: int = 7,
) -> list[Path]:
    """Write a volume as one file a slice, in random file order and with random InstanceNumbers.

    ``step`` is the LPS vector from slice to slice (the normal times the spacing by default).
    Returns the paths in slice order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    normal = np.cross(orientation[0], orientation[1])
    along = np.asarray(step if step is not None else normal * spacing[0], dtype=float)
    study, series, frame = uids or (generate_uid(), generate_uid(), generate_uid())
    order = np.random.default_rng(seed).permutation(len(volume))
    paths = []
    for k, stored in enumerate(volume):
        if k in leave_out:
            continue
        ds = slice_dataset(
            stored,
            np.asarray(origin) + k * along,
            orientation=orientation,
            spacing=spacing[1:],
            bits_stored=bits_stored,
        )
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = study, series, frame
        ds.InstanceNumber = int(order[k]) + 1
        if edit is not None:
            edit(k, ds)
        path = folder / f"IM{order[k]:04d}"
        save(ds, path, syntax)
        paths.append(path)
    return paths


def save(ds: Dataset, path: Path, syntax: str = ExplicitVRLittleEndian) -> None:
    """Write a dataset that holds native little-endian pixels in any transfer syntax."""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    if syntax == ExplicitVRBigEndian:
        itemsize = ds.BitsAllocated // 8
        ds.PixelData = np.frombuffer(ds.PixelData, f"<u{itemsize}").astype(f">u{itemsize}").tobytes()
    elif syntax not in (ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian):
        compress(ds, syntax)
    ds.save_as(path, enforce_file_format=True)


def compress(ds: Dataset, syntax: str) -> None:
    """Replace native pixels by code streams, one fragment a frame."""
    if syntax == RLELossless:
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.compress(syntax, generate_instance_uid=False)
        return
    dtype = np.dtype(f"<u{ds.BitsAllocated // 8}")
    frames = np.frombuffer(ds.PixelData, dtype).reshape(-1, ds.Rows, ds.Columns)
    if ds.PixelRepresentation and ds.BitsStored < ds.BitsAllocated:
        frames = frames & ((1 << ds.BitsStored) - 1)
    ds.PixelData = encapsulate([_code_stream(frame, syntax, ds.BitsStored) for frame in frames])
    ds["PixelData"].VR = "OB"


def _code_stream(frame: NDArray[Any], syntax: str, bits_stored: int) -> bytes:
    if syntax == HTJ2K_LOSSLESS:
        return bytes(imagecodecs.htj2k_encode(np.ascontiguousarray(frame), reversible=True))
    if syntax in (JPEG_LOSSLESS_SV1, JPEG_LOSSLESS):
        return bytes(imagecodecs.ljpeg_encode(np.ascontiguousarray(frame), bitspersample=bits_stored))
    if syntax == JPEGLSLossless:
        return bytes(imagecodecs.jpegls_encode(np.ascontiguousarray(frame)))
    if syntax == JPEG2000Lossless:
        return bytes(imagecodecs.jpeg2k_encode(frame, codecformat="j2k", reversible=True, bitspersample=bits_stored))
    if syntax == JPEG_BASELINE:
        return bytes(imagecodecs.jpeg8_encode(frame.astype(np.uint8), level=98))
    if syntax == JPEG_EXTENDED:
        return bytes(imagecodecs.jpeg8_encode(np.ascontiguousarray(frame), level=98, bitspersample=12))
    raise ValueError(syntax)


def enhanced(
    volume: NDArray[Any],
    *,
    origin: Sequence[float] = (-10.0, 20.0, -30.0),
    orientation: tuple[Sequence[float], Sequence[float]] = AXIAL,
    spacing: tuple[float, float, float] = (2.5, 0.75, 0.5),
    order: Sequence[int] | None = None,
    describe: Callable[[int, Dataset], None] | None = None,
    places: Sequence[int] | None = None,
) -> Dataset:
    """An enhanced CT of many frames; ``places`` gives the slice index of each frame."""
    normal = np.cross(orientation[0], orientation[1])
    order = range(len(volume)) if order is None else order
    ds = slice_dataset(volume[0], origin)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        delattr(ds, keyword)
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = generate_uid(), generate_uid(), generate_uid()
    set_pixels(ds, volume[list(order)])
    ds.NumberOfFrames = len(volume)
    shared = Dataset()
    measures, plane = Dataset(), Dataset()
    measures.PixelSpacing = list(spacing[1:])
    measures.SliceThickness = spacing[0]
    plane.ImageOrientationPatient = [float(c) for axis in orientation for c in axis]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [plane]
    ds.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for k in order:
        place = Dataset()
        where = k if places is None else places[k]
        place.ImagePositionPatient = [float(p) for p in np.asarray(origin) + where * normal * spacing[0]]
        group = Dataset()
        group.PlanePositionSequence = [place]
        if describe is not None:
            describe(k, group)
        groups.append(group)
    ds.PerFrameFunctionalGroupsSequence = groups
    return ds
