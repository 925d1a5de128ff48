"""Agreement of the four LIDC readers, measured here and published beside the data, is the same."""

from __future__ import annotations

import csv
import io
import math
import zipfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hounsfield.evaluation import case_agreement, consensus, size_band


@pytest.mark.shared_data
def test_pairwise_dice_of_the_readers(shared_data: Path) -> None:
    folder = shared_data / "lidc-nodule-crops"
    with (folder / "nodules.csv").open(newline="") as stream:
        nodules = {(row["patient_id"], row["nodule"]): row for row in csv.DictReader(stream)}
    slices = defaultdict(list)
    by_band, by_split = defaultdict(list), defaultdict(list)
    with zipfile.ZipFile(folder / "volumes.zip") as archive:
        for name in sorted(archive.namelist()):
            if name.startswith("mask/"):
                slices[tuple(name.split("/")[1:3])].append(name)
        for key, names in slices.items():
            bits = np.stack([np.asarray(Image.open(io.BytesIO(archive.read(name)))) for name in names])
            outlines = [(bits >> reader & 1).astype(bool) for reader in range(4)]
            outlines = [outline for outline in outlines if outline.any()]
            if len(outlines) < 2:
                continue
            row = nodules[key]
            voxel_mm3 = float(row["pixel_spacing_mm"]) ** 2 * float(row["slice_thickness_mm"])
            volume_mm3 = float(np.mean([outline.sum() for outline in outlines])) * voxel_mm3
            value = float(np.mean(case_agreement(consensus(outlines), outlines).between))
            by_band[size_band((6 * volume_mm3 / math.pi) ** (1 / 3))].append(value)
            by_split[row["split"]].append(value)
    everything = [value for values in by_band.values() for value in values]
    assert len(everything) == 786
    assert np.mean(everything) == pytest.approx(0.747, abs=0.0006)
    assert np.mean(by_split["test"]) == pytest.approx(0.759, abs=0.0006)
    published = {1: 0.72, 2: 0.74, 3: 0.80, 4: 0.82}
    assert {band: np.mean(by_band[band]) for band in published} == pytest.approx(published, abs=0.01)
