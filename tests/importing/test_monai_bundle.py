"""A MONAI bundle written by MONAI's own tools answers in hounsfield what MONAI answers."""

from __future__ import annotations

import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from answering import answers, do_import
from monai_bundles import LABELS, NETWORKS, monai_labels, write_bundle

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
