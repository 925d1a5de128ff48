"""NIfTI labels against SimpleITK and nibabel: every voxel at its millimetre, on the input's own grid."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK
from writing_phantoms import ANATOMY, LIVER, SEGMENTS, facts, grid, labels_on, truth

from hounsfield.errors import OutputError, OutputExists, ReadBackFailed
from hounsfield.findings import Findings, Segment, local_concept
from hounsfield.findings.measuring import measure_segments
from hounsfield.volume import Geometry, LabelMap, Provenance, Volume, all_orientations
from hounsfield.writing import Result, ResultUids, write_nifti
from hounsfield.writing import nifti as nifti_module


def result_on(geometry: Geometry, labels: LabelMap | None = None) -> Result:
    labels = labels_on(geometry) if labels is None else labels
    volume = Volume(np.zeros(geometry.shape, np.int16), geometry, provenance=Provenance(format="nifti"))
    findings = measure_segments(labels, volume, SEGMENTS, seed="1") if labels.array.max() <= 4 else Findings()
    return Result(volume, labels, findings, facts(), ResultUids.for_run("1"))


@pytest.mark.parametrize("code", [*all_orientations(), "oblique"])
def test_every_voxel_at_its_place_read_by_itk(tmp_path: Path, code: str) -> None:
    suffix = ".nii" if code.startswith("L") else ".nii.gz"
    geometry = grid(oblique=True) if code == "oblique" else grid(code)
    path = write_nifti(result_on(geometry), tmp_path / f"labels{suffix}").path
    image = SimpleITK.ReadImage(str(path))
    array = SimpleITK.GetArrayFromImage(image)
    direction = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    index = np.stack(np.meshgrid(*(np.arange(n) for n in image.GetSize()), indexing="ij"), axis=-1)
    points = index @ direction.T + np.array(image.GetOrigin())
    assert np.array_equal(array.transpose(2, 1, 0), truth(points.round(5)))
    assert np.count_nonzero(array) > 400


def test_overlays_a_nifti_input_voxel_for_voxel(tmp_path: Path) -> None:
    """An input with a left-handed, oblique affine: same shape, same order, same affine."""
    geometry = grid("LAS", (2.0, 1.5, 1.1), oblique=True)
    shape_ijk = geometry.shape[::-1]
    scan = np.random.default_rng(1).normal(size=shape_ijk).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(scan, geometry.affine_ras), tmp_path / "scan.nii.gz")
    source = nibabel.load(tmp_path / "scan.nii.gz")
    read = Geometry.from_affine_ras(source.shape, source.affine)
    hot = np.asarray(source.dataobj) > 1
    labels = LabelMap(hot.astype(np.uint8).transpose(2, 1, 0), read)
    written = nibabel.load(write_nifti(result_on(read, labels), tmp_path / "labels.nii.gz").path)
    assert written.shape == source.shape
    assert np.array_equal(np.asarray(written.dataobj) > 0, hot)
    assert np.abs(written.affine - source.affine).max() < 1e-6
    assert np.abs(written.get_qform() - source.affine).max() < 1e-4


def test_header_says_label_and_both_forms(tmp_path: Path) -> None:
    header = nibabel.load(write_nifti(result_on(grid()), tmp_path / "l.nii.gz").path).header
    assert int(header["intent_code"]) == 1002
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 1)
    assert header.get_data_dtype() == np.uint8
    assert header.get_xyzt_units()[0] == "mm"


def test_more_than_255_labels_take_sixteen_bits(tmp_path: Path) -> None:
    geometry = Geometry.from_parts((4, 10, 10))
    labels = LabelMap(np.arange(400, dtype=np.uint16).reshape(4, 10, 10), geometry)
    image = nibabel.load(write_nifti(result_on(geometry, labels), tmp_path / "l.nii.gz").path)
    assert image.get_data_dtype() == np.uint16
    assert np.array_equal(np.asarray(image.dataobj).transpose(2, 1, 0), labels.array)


def test_sheared_grid_has_an_sform_and_no_qform(tmp_path: Path) -> None:
    affine = grid().affine.copy()
    affine[0, 0] += 0.4
    geometry = Geometry(grid().shape, affine)
    image = nibabel.load(write_nifti(result_on(geometry), tmp_path / "l.nii.gz").path)
    assert int(image.header["qform_code"]) == 0
    assert np.abs(image.affine - geometry.affine_ras).max() < 1e-4


def test_same_result_same_bytes_without_time_or_name(tmp_path: Path) -> None:
    result = result_on(grid())
    first = write_nifti(result, tmp_path / "a.nii.gz")
    second = write_nifti(result, tmp_path / "b.nii.gz")
    assert first.path.read_bytes() == second.path.read_bytes()
    head = first.path.read_bytes()[:10]
    assert head[4:8] == b"\0\0\0\0"
    assert not head[3] & 0x08, "no file name in the gzip header"
    assert gzip.decompress(first.path.read_bytes())[344:347] == b"n+1"


def test_bad_name_and_existing_file_are_refused(tmp_path: Path) -> None:
    result = result_on(grid())
    with pytest.raises(OutputError, match=r"\.nii"):
        write_nifti(result, tmp_path / "labels.gz")
    write_nifti(result, tmp_path / "l.nii")
    with pytest.raises(OutputExists):
        write_nifti(result, tmp_path / "l.nii")


def test_wrong_affine_is_caught_and_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = nifti_module._image

    def mirrored(array: np.ndarray, affine: np.ndarray, result: Result, *more: Any) -> object:
        return make(array, affine @ np.diag([-1.0, 1, 1, 1]), result, *more)

    monkeypatch.setattr(nifti_module, "_image", mirrored)
    with pytest.raises(ReadBackFailed, match="affine"):
        write_nifti(result_on(grid()), tmp_path / "l.nii.gz")
    assert list(tmp_path.iterdir()) == []


def test_local_labels_are_written_like_any_other(tmp_path: Path) -> None:
    segment = Segment(1, "Mystery", ANATOMY, local_concept("Mystery"))
    assert segment.type != LIVER.type
    result = result_on(grid())
    only = LabelMap((result.labels.array == 1).astype(np.uint8), result.labels.geometry)
    written = write_nifti(replace(result, labels=only), tmp_path / "m.nii.gz")
    assert np.asarray(nibabel.load(written.path).dataobj).sum() == only.array.sum()
