"""A MONAI bundle written by MONAI's own tools answers in hounsfield what MONAI answers."""

from __future__ import annotations

import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from answering import answers, do_import
from monai_bundles import (
    LABELS,
    NETWORKS,
    config,
    monai_labels,
    monai_labels_of_the_scan,
    resampling,
    write_bundle,
)

from hounsfield.usecases.job import Choices
from hounsfield.usecases.run import RunRequest, run_model

pytestmark = [pytest.mark.torch, pytest.mark.shared_data]
CASES = {"segresnet": 4, "unet": 1}


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_labels_agree_with_monai_on_untouched_cases(name: str, shared_data: Path, tmp_path: Path) -> None:
    images = sorted((shared_data / "mr-hippocampus-msd/images").glob("*.nii.gz"))
    pairs = [(path, shared_data / "mr-hippocampus-msd/labels" / path.name) for path in images]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MONAI's own notices
        bundle = write_bundle(tmp_path / "bundle", name, pairs[4:8], steps=16)
        expected = {path: monai_labels(bundle, path) for path in images[: CASES[name]]}
    result = do_import(bundle, tmp_path, answers(LABELS))
    assert result.package is not None
    assert result.parity
    assert all(one["difference"] <= 1e-5 for one in result.parity)
    scans = tmp_path / "scans"
    scans.mkdir()
    for path in images[: CASES[name]]:
        (scans / path.name).write_bytes(path.read_bytes())
    done = run_model(RunRequest(result.package.root, scans, tmp_path / "out", choices=Choices(allow_unproven=True)))
    same = total = foreground = 0
    for series in done.series:
        assert series.status == "done", series.error
        labels = nib.as_closest_canonical(nib.load(series.outputs["nifti"]))
        path = next(path for path in images if path.name.split(".")[0] in series.name)
        found, wanted = np.asarray(labels.dataobj), expected[path]
        same += int(np.count_nonzero(found == wanted))
        total += wanted.size
        foreground += int(np.count_nonzero(wanted))
    assert foreground > 0.01 * total
    assert same >= 0.9999 * total, f"{same / total:.6f}"


@pytest.mark.parametrize(
    ("back", "first", "restore"), [(False, True, "probabilities"), (True, False, "labels"), (None, True, "labels")]
)
def test_a_resampling_bundle_answers_on_the_scan_s_grid_what_monai_answers(
    back: bool | None, first: bool, restore: str, shared_data: Path, tmp_path: Path
) -> None:
    """The first voxel's centre stays, the spacing is exact, and the way back is the bundle's own."""
    images = sorted((shared_data / "mr-hippocampus-msd/images").glob("*.nii.gz"))
    pairs = [(path, shared_data / "mr-hippocampus-msd/labels" / path.name) for path in images[4:6]]
    table = resampling(config(NETWORKS["unet"]), back, first)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bundle = write_bundle(tmp_path / "bundle", "unet", pairs, steps=8, changed=table)
        expected = monai_labels_of_the_scan(bundle, images[0])
    package = do_import(bundle, tmp_path, answers(LABELS)).package
    assert package is not None
    spec = package.manifest.input
    assert (spec.grid, spec.resample_first, package.manifest.output.restore) == ("first-voxel", first, restore)
    request = RunRequest(package.root, images[0], tmp_path / "out", choices=Choices(allow_unproven=True))
    (series,) = run_model(request).series
    assert series.status == "done", series.error
    found = np.asarray(nib.load(series.outputs["nifti"]).dataobj)
    assert np.count_nonzero(expected) > 0.01 * expected.size
    assert found.shape == expected.shape
    assert (found == expected).mean() >= 0.9999, f"{(found == expected).mean():.6f}"
