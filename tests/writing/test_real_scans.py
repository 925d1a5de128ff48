"""Real DICOM in, real objects out: thresholded labels on scans of the shared data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from highdicom.seg import segread
from highdicom.sr import srread
from writing_phantoms import dciodvfy, facts

from hounsfield.findings import CodedConcept, Segment, local_concept
from hounsfield.findings.measuring import measure_segments
from hounsfield.volume import Acquisition, Geometry, LabelMap, Provenance, Quantity, SourceFrame, Volume
from hounsfield.writing import Result, ResultUids, SegKind, write_json, write_nifti, write_report, write_seg, write_sr

ABNORMAL = CodedConcept("49755003", "SCT", "Morphologically Abnormal Structure")
BRIGHT = Segment(1, "Bright tissue", local_concept("Bright tissue"), local_concept("Bright tissue"))
SPOT = Segment(2, "Bright spot", ABNORMAL, local_concept("Bright spot"), lesion=True)


def read_classic(folder: Path, quantity: Quantity) -> Volume:
    """A plain reader of one series, for these tests alone: sort along the normal, rescale."""
    files = [(path, pydicom.dcmread(path)) for path in folder.iterdir() if path.is_file()]
    first = files[0][1]
    cosines = np.array([float(n) for n in first.ImageOrientationPatient])
    normal = np.cross(cosines[:3], cosines[3:])
    files.sort(key=lambda item: float(np.dot(normal, [float(n) for n in item[1].ImagePositionPatient])))
    points = np.array([[float(n) for n in ds.ImagePositionPatient] for _, ds in files])
    step = (points[-1] - points[0]) / max(1, len(files) - 1) if len(files) > 1 else normal
    row_mm, column_mm = (float(n) for n in first.PixelSpacing)
    affine = np.eye(4)
    affine[:3, :3] = np.stack([step, cosines[3:] * row_mm, cosines[:3] * column_mm], axis=1)
    affine[:3, 3] = points[0]
    array = np.stack([ds.pixel_array for _, ds in files]).astype(np.float32)
    array = array * float(first.get("RescaleSlope", 1)) + float(first.get("RescaleIntercept", 0))
    frames = tuple(SourceFrame(str(ds.SOPClassUID), str(ds.SOPInstanceUID), None, path) for path, ds in files)
    provenance = Provenance(
        folder,
        "dicom",
        str(first.StudyInstanceUID),
        str(first.SeriesInstanceUID),
        frames,
        tuple(path for path, _ in files),
        acquisition=Acquisition(modality=str(first.Modality)),
    )
    shape = (array.shape[0], array.shape[1], array.shape[2])
    return Volume(array, Geometry(shape, affine, str(first.FrameOfReferenceUID)), quantity, None, provenance)


def result_of(volume: Volume, low: float, high: float) -> Result:
    array = np.zeros(volume.shape, np.uint8)
    array[volume.array > np.quantile(volume.array, low)] = 1
    array[volume.array > np.quantile(volume.array, high)] = 2
    labels = LabelMap(array, volume.geometry)
    run = facts("1.2.826.0.1.3680043.8.498.88")
    findings = measure_segments(labels, volume, (BRIGHT, SPOT), seed=run.run_uid)
    return Result(volume, labels, findings, run, ResultUids.for_run(run.run_uid))


def assert_seg_equals_labels(path: Path, result: Result) -> None:
    """By highdicom, at the millimetre: sample the label map where the SEG says its voxels lie."""
    seg = segread(path)
    volume = seg.get_volume(combine_segments=True)
    lesion = [n for n in seg.segment_numbers if "spot" in seg.get_segment_description(n).segment_label]
    stored = np.where(np.isin(volume.array, lesion), 2, np.minimum(volume.array, 1))
    index = np.stack(np.meshgrid(*(np.arange(n) for n in volume.spatial_shape), indexing="ij"), axis=-1)
    place = result.labels.geometry.mm_to_index(index @ volume.affine[:3, :3].T + volume.affine[:3, 3])
    nearest = np.rint(place).astype(int)
    assert np.abs(place - nearest).max() < 1e-3
    assert np.array_equal(stored, result.labels.array[tuple(np.moveaxis(nearest, -1, 0))])
    assert np.count_nonzero(stored) == np.count_nonzero(result.labels.array)


@pytest.mark.shared_data
def test_hippocampus_mr_series(shared_data: Path, tmp_path: Path) -> None:
    volume = read_classic(shared_data / "mr-hippocampus-msd" / "dicom-hcrop-study1", Quantity.ARBITRARY)
    assert volume.shape[0] == 32
    result = result_of(volume, 0.9, 0.9997)
    for kind in SegKind:
        seg = write_seg(result, tmp_path / f"{kind}.dcm", kind=kind)
        assert_seg_equals_labels(seg.path, result)
        if kind is SegKind.BINARY:
            assert dciodvfy(seg.path) == []
            sr = write_sr(result, tmp_path / "sr.dcm", seg=seg)
            assert dciodvfy(sr.path) == []
    document = srread(tmp_path / "sr.dcm")
    assert len(document.content.get_volumetric_roi_measurement_groups()) == len(result.findings.findings) - 1
    image = SimpleITK.ReadImage(str(write_nifti(result, tmp_path / "l.nii.gz").path))
    assert np.array_equal(SimpleITK.GetArrayFromImage(image), result.labels.array)
    point = image.TransformIndexToPhysicalPoint((5, 9, 20))
    assert point == pytest.approx(volume.geometry.index_to_mm((20, 9, 5)).tolist(), abs=1e-3)
    write_json(result, tmp_path / "r.json")
    report = write_report(result, tmp_path / "r.html").path.read_text(encoding="utf-8")
    patient = str(pydicom.dcmread(volume.provenance.frames[0].path).PatientName)
    assert patient
    assert patient not in report


@pytest.mark.shared_data
def test_three_slice_ct_of_another_maker(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "dicom-seg-sr" / "dcmqi" / "segmentations" / "ct-3slice"
    volume = read_classic(folder, Quantity.HU)
    assert volume.shape == (3, 512, 512)
    result = result_of(volume, 0.97, 0.9999)
    seg = write_seg(result, tmp_path / "seg.dcm")
    assert_seg_equals_labels(seg.path, result)
    assert dciodvfy(seg.path) == []
    assert dciodvfy(write_sr(result, tmp_path / "sr.dcm", seg=seg).path) == []
