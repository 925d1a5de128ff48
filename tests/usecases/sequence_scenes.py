"""Dynamic series with known voxels, and a package of sequences whose answer is known exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hounsfield.packages import Manifest, ModelPackage, build
from hounsfield.packages.manifest import FORMAT_VERSION


def write_dynamic(
    folder: Path, array: np.ndarray[Any, Any], times_s: Sequence[float], same_series: bool = False
) -> Path:
    """(times, slices, rows, columns) whole numbers as MR instances; each time point is a series of its own."""
    import pydicom
    from pydicom.uid import ExplicitVRLittleEndian

    folder.mkdir(parents=True)
    for point, (volume, seconds) in enumerate(zip(array, times_s, strict=True)):
        for level, pixels in enumerate(volume):
            one = pydicom.Dataset()
            one.file_meta = pydicom.dataset.FileMetaDataset()
            one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
            one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = f"2.25.{1000 + 100 * point + level}"
            one.StudyInstanceUID, one.FrameOfReferenceUID = "2.25.5", "2.25.6"
            one.SeriesInstanceUID = "2.25.7" if same_series else f"2.25.{700 + point}"
            one.PatientName, one.PatientID, one.Modality = "Phantom", "P", "MR"
            one.PatientBirthDate, one.PatientSex, one.StudyID, one.AccessionNumber = "19700101", "O", "1", ""
            one.ReferringPhysicianName, one.StudyDate, one.StudyTime = "", "20260101", "120000"
            one.SeriesNumber, one.InstanceNumber = point + 1, level + 1
            one.SeriesDescription = f"dynamic TT={seconds:g}s"
            one.ScanningSequence, one.SequenceVariant, one.ScanOptions, one.MRAcquisitionType = "GR", "SP", "", "3D"
            one.AcquisitionDate = "20260101"
            one.AcquisitionTime = f"1200{int(seconds):02d}.{round(1e6 * (seconds % 1)):06d}"
            one.RepetitionTime, one.EchoTime, one.FlipAngle = 5.0, 1.5, 20.0
            one.SliceThickness, one.PixelSpacing = 2.0, [1.5, 1.0]
            one.ImageOrientationPatient, one.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0.0, 0.0, 2.0 * level]
            one.ImageType = ["ORIGINAL", "PRIMARY", "M"]
            one.Rows, one.Columns, one.SamplesPerPixel = *pixels.shape, 1
            one.PhotometricInterpretation, one.PixelRepresentation = "MONOCHROME2", 0
            one.BitsAllocated = one.BitsStored = 16
            one.HighBit, one.PixelData = 15, pixels.astype("<u2").tobytes()
            one.save_as(folder / f"{point:02d}-{level}.dcm", enforce_file_format=True)
    return folder


def sequence_package(
    folder: Path, times: Mapping[str, Any], window: tuple[int, int, int] = (1, 3, 3), output: Any = None
) -> ModelPackage:
    """Two numbers: the mean over time of the voxel in the middle, and the mean over time and window."""
    quantities = [
        {
            "label": label,
            "concept": {"value": label.upper(), "scheme": "99TEST", "meaning": label},
            "unit": {"value": "mmol/l", "scheme": "UCUM", "meaning": "mmol/l"},
        }
        for label in ("middle", "around")
    ]
    table: dict[str, Any] = {
        "format": FORMAT_VERSION,
        "id": "tiny-sequence",
        "version": "1.0.0",
        "title": "Means over time",
        "task": "dynamic",
        "intended_use": "Tests only.",
        "licence": {"weights": "CC0-1.0", "data": "none"},
        "input": {
            "channels": [{"name": "dce", "modality": "MR"}],
            "window": {"shape": window},
            "times": dict(times),
        },
        "domain": {"modality": {"allowed": ["MR"], "breach": "refuse"}},
        "output": {"activation": "none", "quantities": quantities} if output is None else output,
        "graphs": [{"precision": "fp32", "file": "graphs/fp32.onnx", "input": "image", "output": "answers"}],
    }
    files: dict[str, Path | bytes] = {
        "card.md": b"# tiny-sequence\n\nFor tests.\n",
        "graphs/fp32.onnx": _graph(window),
    }
    return build(folder, Manifest.model_validate(table), files)


def _graph(window: tuple[int, int, int]) -> bytes:
    """(batch, times, 1, k, j, i) to (batch, 2)."""
    from onnx import TensorProto, helper, numpy_helper

    voxels = int(np.prod(window))
    pick = np.zeros((voxels, 2), np.float32)
    pick[voxels // 2, 0] = 1.0
    pick[:, 1] = 1.0 / voxels
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["still"], axes=[1], keepdims=0),
        helper.make_node("Flatten", ["still"], ["flat"]),
        helper.make_node("MatMul", ["flat", "pick"], ["answers"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", "times", 1, *window])],
        [helper.make_tensor_value_info("answers", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(pick, "pick")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data: bytes = proto.SerializeToString(deterministic=True)
    return data
