"""Scans with known truth, written as DICOM in code: any orientation, classic or enhanced."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from hounsfield.findings import CodedConcept, Segment
from hounsfield.findings import terminology as terms
from hounsfield.findings.measuring import measure_segments
from hounsfield.volume import Acquisition, Geometry, LabelMap, Provenance, Quantity, SourceFrame, Volume
from hounsfield.writing.facts import Result, ResultFacts, ResultUids

CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"
ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"

ANATOMY = CodedConcept("91723000", "SCT", "Anatomical Structure")
ABNORMAL = CodedConcept("49755003", "SCT", "Morphologically Abnormal Structure")
LIVER = Segment(1, "Liver", ANATOMY, CodedConcept("10200004", "SCT", "Liver"), colour_rgb=(220, 150, 90))
KIDNEY = Segment(
    2, "Left kidney", ANATOMY, CodedConcept("64033007", "SCT", "Kidney"), terms.LEFT, False, (90, 180, 230)
)
NODULE = Segment(3, "Nodule", ABNORMAL, CodedConcept("27925004", "SCT", "Nodule"), lesion=True)
SPLEEN = Segment(4, "Spleen", ANATOMY, CodedConcept("78961009", "SCT", "Spleen"))
SEGMENTS = (LIVER, KIDNEY, NODULE, SPLEEN)


def truth(point_mm: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The label at LPS points (..., 3): asymmetric, so that no mirror or turn maps it to itself."""
    x, y, z = np.moveaxis(point_mm, -1, 0)
    label = np.zeros(x.shape, np.uint8)
    label[((x + 6) / 9) ** 2 + ((y - 2) / 6) ** 2 + ((z + 1) / 12) ** 2 < 1] = 1
    label[(np.abs(x - 9) < 3.1) & (np.abs(y - 5) < 4.3) & (np.abs(z - 6) < 5.2)] = 2
    label[(x - 8) ** 2 + (y + 7) ** 2 + (z + 9) ** 2 < 3.2**2] = 3
    label[(x + 1) ** 2 + (y + 12) ** 2 + (z - 12) ** 2 < 2.4**2] = 3
    return label


def oblique_direction() -> NDArray[np.float64]:
    a, b = np.radians(25), np.radians(-12)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    return (about_x @ about_y)[:, ::-1]


def grid(
    code: str = "LPS", spacing_mm: tuple[float, float, float] = (3.0, 1.6, 1.3), oblique: bool = False
) -> Geometry:
    """A grid of about 40 mm around (0, 0, 0) whose index axes follow ``code``."""
    shape = tuple(round(44 / s) for s in spacing_mm)
    direction = oblique_direction() if oblique else None
    plain = Geometry.from_parts((shape[0], shape[1], shape[2]), spacing_mm, (0, 0, 0), direction, generate_uid())
    affine = plain.affine.copy()
    affine[:3, 3] = -np.asarray(plain.centre_mm) + (0.4, -0.7, 0.3)
    moved, _, _ = Geometry(plain.shape, affine, plain.frame_of_reference_uid).reoriented(code)
    return moved


def labels_on(geometry: Geometry) -> LabelMap:
    index = np.stack(np.meshgrid(*(np.arange(n) for n in geometry.shape), indexing="ij"), axis=-1)
    return LabelMap(truth(geometry.index_to_mm(index)), geometry)


def scan_array(labels: LabelMap) -> NDArray[np.int16]:
    noise = np.random.default_rng(5).normal(0, 15, labels.array.shape)
    return (noise + 60.0 * labels.array - 100 * (labels.array == 0)).astype(np.int16)


def _patient(sop_class: str, uid: str, study: str, series: str, modality: str) -> Dataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = uid
    ds = Dataset()
    ds.file_meta = meta
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class, uid
    ds.StudyInstanceUID, ds.SeriesInstanceUID = study, series
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "Phäntom^Known", "PH-1", "19700101", "F"
    ds.StudyDate, ds.StudyTime, ds.AccessionNumber, ds.StudyID = "20240102", "101112", "ACC7", "S1"
    ds.ReferringPhysicianName = ""
    ds.Modality, ds.SeriesNumber, ds.StudyDescription = modality, 3, "Phantom study"
    ds.Manufacturer, ds.ManufacturerModelName = "Phantom makers", "One"
    ds.PositionReferenceIndicator = ""
    ds.ContentDate, ds.ContentTime = "20240102", "101500"
    ds.InstanceNumber = 1
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    return ds


def _ds(values: Any) -> list[str]:
    return [f"{value:.10g}"[:16] for value in np.asarray(values, dtype=float).ravel()]


def write_classic(folder: Path, geometry: Geometry, array: NDArray[np.int16], modality: str = "CT") -> Provenance:
    """One file per slice k; file names are in no order."""
    folder.mkdir(parents=True, exist_ok=True)
    study, series, frames = generate_uid(), generate_uid(), []
    sop_class = CT if modality == "CT" else MR
    k_mm, j_mm, i_mm = geometry.spacing_mm
    for k in range(geometry.shape[0]):
        uid = generate_uid()
        ds = _patient(sop_class, uid, study, series, modality)
        ds.InstanceNumber = k + 1
        ds.FrameOfReferenceUID = geometry.frame_of_reference_uid
        ds.ImagePositionPatient = _ds(geometry.index_to_mm((k, 0, 0)))
        ds.ImageOrientationPatient = _ds([geometry.direction[:, 2], geometry.direction[:, 1]])
        ds.PixelSpacing, ds.SliceThickness = _ds([j_mm, i_mm]), _ds([k_mm])[0]
        ds.Rows, ds.Columns = geometry.shape[1:]
        ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = 0, 1, "HU"
        ds.KVP = 120
        ds.PixelData = np.ascontiguousarray(array[k]).astype("<i2").tobytes()
        path = folder / f"{(k * 7919) % 100003:06d}.dcm"
        ds.save_as(path, enforce_file_format=True)
        frames.append(SourceFrame(sop_class, uid, None, path))
    return _provenance(folder, study, series, frames, modality)


def write_enhanced(folder: Path, geometry: Geometry, array: NDArray[np.int16], modality: str = "MR") -> Provenance:
    """One multi-frame file; the frames are stored from the last slice to the first."""
    folder.mkdir(parents=True, exist_ok=True)
    study, series, uid = generate_uid(), generate_uid(), generate_uid()
    sop_class = ENHANCED_CT if modality == "CT" else ENHANCED_MR
    ds = _patient(sop_class, uid, study, series, modality)
    ds.FrameOfReferenceUID = geometry.frame_of_reference_uid
    ds.Rows, ds.Columns = geometry.shape[1:]
    ds.NumberOfFrames = geometry.shape[0]
    k_mm, j_mm, i_mm = geometry.spacing_mm
    measures, orientation, shared = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = _ds([j_mm, i_mm]), _ds([k_mm])[0]
    orientation.ImageOrientationPatient = _ds([geometry.direction[:, 2], geometry.direction[:, 1]])
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    ds.SharedFunctionalGroupsSequence = [shared]
    groups = []
    order = list(range(geometry.shape[0]))[::-1]
    for k in order:
        position, content, group = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = _ds(geometry.index_to_mm((k, 0, 0)))
        content.StackID, content.InStackPositionNumber = "1", k + 1
        content.DimensionIndexValues = [1, k + 1]
        group.PlanePositionSequence, group.FrameContentSequence = [position], [content]
        groups.append(group)
    ds.PerFrameFunctionalGroupsSequence = groups
    ds.PixelData = np.ascontiguousarray(array[order]).astype("<i2").tobytes()
    path = folder / "enhanced.dcm"
    ds.save_as(path, enforce_file_format=True)
    frames = [SourceFrame(sop_class, uid, order.index(k) + 1, path) for k in range(geometry.shape[0])]
    return _provenance(folder, study, series, frames, modality)


def _provenance(folder: Path, study: str, series: str, frames: list[SourceFrame], modality: str) -> Provenance:
    return Provenance(
        source=folder,
        format="dicom",
        study_instance_uid=study,
        series_instance_uid=series,
        frames=tuple(frames),
        source_files=tuple(dict.fromkeys(frame.path for frame in frames)),
        sha256="ab" * 32,
        acquisition=Acquisition(modality=modality, study_description="Phantom study", sex="F", age_years=54),
    )


def facts(run_uid: str = "1.2.826.0.1.3680043.8.498.77") -> ResultFacts:
    return ResultFacts(
        package_id="phantom-organs",
        package_version="1.2.3",
        package_title="Phantom organs",
        package_digest="c0ffee" * 10 + "beef",
        precision="fp32",
        engine="openvino 2026.1",
        software_version="0.1.0",
        run_uid=run_uid,
        started=datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC),
        finished=datetime(2026, 3, 4, 5, 6, 19, tzinfo=UTC),
        plan={"window": [64, 64, 64], "overlap": 0.5, "threads": 2},
        figures={"seconds_total": 12.3, "peak_host_bytes": 734003200, "seconds": {"read": 1.25, "infer": 9.5}},
        limits=("Trained on 200 cropped scans from one site", "Lesions below 4 mm are often missed"),
        intended_use="Segmentation of phantom organs for tests.",
        attribution="Weights CC BY-SA 4.0",
    )


def result_for(
    folder: Path,
    geometry: Geometry | None = None,
    *,
    modality: str = "CT",
    enhanced: bool = False,
    empty: bool = False,
    segments: tuple[Segment, ...] = SEGMENTS,
    **changed: Any,
) -> Result:
    """A finished result on a phantom written below ``folder``; ``changed`` goes into the facts."""
    geometry = grid() if geometry is None else geometry
    labels = labels_on(geometry)
    array = scan_array(labels)
    make = write_enhanced if enhanced else write_classic
    provenance = make(folder / "scan", geometry, array, modality)
    quantity = Quantity.HU if modality == "CT" else Quantity.ARBITRARY
    volume = Volume(array, geometry, quantity, None, provenance)
    if empty:
        labels = LabelMap(np.zeros_like(labels.array), geometry)
    run = replace(facts(), **changed)
    findings = measure_segments(labels, volume, segments, seed=run.run_uid)
    return Result(volume, labels, findings, run, ResultUids.for_run(run.run_uid))


def dciodvfy(path: Path) -> list[str]:
    """The lines of dciodvfy (Debian dicom3tools) that report an error."""
    return _errors("dciodvfy", path)


def newest_dciodvfy(path: Path) -> list[str]:
    """The errors of the newest dciodvfy (dicom3tools of 2026), which knows Label Map Segmentation."""
    return _errors(str(Path(sys.executable).parent / "dciodvfy"), path)


def _errors(program: str, path: Path) -> list[str]:
    done = subprocess.run([program, "-new", str(path)], capture_output=True, text=True, check=False, timeout=60)
    lines = (done.stdout + done.stderr).splitlines()
    assert not any(line.startswith("Abort") for line in lines)
    return [line for line in lines if line.startswith(("Error", "error"))]
