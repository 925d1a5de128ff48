"""The shipped model on a real scan, as a user runs it: three outputs, three readers, one truth."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import highdicom
import numpy as np
import pytest
import SimpleITK as sitk

import hounsfield
from hounsfield.usecases.job import Choices


@pytest.mark.shared_data
def test_hippocampus_on_a_real_dicom_series(shared_data: Path, tmp_path: Path) -> None:
    scan = shared_data / "mr-hippocampus-msd" / "dicom-hcrop-study1"
    result = hounsfield.run("hippocampus-mr", scan, tmp_path / "out", choices=Choices(seg="both"))
    assert result.succeeded
    (files,) = result.outputs.values()
    assert set(files) == {"seg-binary", "seg-labelmap", "sr", "nifti", "json", "report"}

    nifti = sitk.ReadImage(str(files["nifti"]))
    labels = sitk.GetArrayFromImage(nifti)
    for kind in ("seg-binary", "seg-labelmap"):
        seg = highdicom.seg.segread(files[kind]).get_volume(combine_segments=True)
        index = np.argwhere(seg.array > 0)
        assert len(index) == np.count_nonzero(labels) > 2000
        for (k, j, i), point in zip(index, seg.map_indices_to_reference(index), strict=True):
            there = nifti.TransformPhysicalPointToIndex([float(v) for v in point])
            assert np.allclose(nifti.TransformIndexToPhysicalPoint(there), point, atol=1e-3)
            assert nifti.GetPixel(*there) == seg.array[k, j, i]

    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(next(scan.rglob("*.dcm")).parent)))
    source = reader.Execute()
    assert nifti.GetSize() == source.GetSize()
    assert np.allclose(nifti.GetOrigin(), source.GetOrigin(), atol=1e-3)
    assert np.allclose(nifti.GetDirection(), source.GetDirection(), atol=1e-5)

    newest = str(Path(sys.executable).parent / "dciodvfy")
    for program, kinds in (("dciodvfy", ("seg-binary", "sr")), (newest, ("seg-binary", "seg-labelmap", "sr"))):
        for kind in kinds:
            done = subprocess.run([program, "-new", str(files[kind])], capture_output=True, text=True, check=False)
            assert [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")] == []

    volumes = {row["label"]: row["volume_ml"] for row in result.series[0].measured}
    voxel_ml = np.prod(nifti.GetSpacing()) / 1000
    assert volumes["Anterior hippocampus"] == pytest.approx(np.count_nonzero(labels == 1) * voxel_ml)
    assert volumes["Posterior hippocampus"] == pytest.approx(np.count_nonzero(labels == 2) * voxel_ml)
    report = files["report"].read_text(encoding="utf-8")
    assert "Research use only" in report
    assert "http://" not in report.replace("http://www.w3.org", "")
