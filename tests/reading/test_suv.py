"""PET activity to SUV: which clock, which dose, and when there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_phantoms import noise, write_series
from pydicom.dataset import Dataset

from hounsfield.reading import read
from hounsfield.volume import Quantity, Volume

DOSE, HALF_LIFE, WEIGHT = 370e6, 6586.2, 70.0
STORED = noise((4, 8, 8), 0, 20000, np.int16)


def pet(tmp_path: Path, **changes: Any) -> Volume:
    """A PET series of two bed positions; ``None`` takes an element away."""
    values: dict[str, Any] = {
        "SeriesDate": "20240229",
        "SeriesTime": "130000",
        "Units": "BQML",
        "DecayCorrection": "START",
        "PatientWeight": str(WEIGHT),
        "RescaleSlope": "0.5",
        "RescaleIntercept": "0",
    }
    drug: dict[str, Any] = {
        "RadiopharmaceuticalStartTime": "120000",
        "RadionuclideTotalDose": str(DOSE),
        "RadionuclideHalfLife": str(HALF_LIFE),
    }
    for keyword, value in changes.items():
        (drug if keyword.startswith("Radio") else values)[keyword] = value

    def edit(k: int, ds: Dataset) -> None:
        ds.Modality = "PT"
        ds.AcquisitionDate = values["SeriesDate"]
        ds.AcquisitionTime = ("130000", "130300")[k // 2]
        item = Dataset()
        for target, source in ((ds, values), (item, drug)):
            for keyword, value in source.items():
                if value is not None:
                    setattr(target, keyword, value)
        ds.RadiopharmaceuticalInformationSequence = [item]

    write_series(tmp_path, STORED, edit=edit)
    return read(tmp_path)


def expected(minutes: float) -> np.ndarray:
    return STORED * 0.5 * WEIGHT * 1000 / (DOSE * 2 ** (-minutes * 60 / HALF_LIFE))


@pytest.mark.parametrize(
    ("changes", "minutes"),
    [
        ({}, 60.0),
        ({"SeriesTime": "150000"}, 60.0),  # rewritten by later processing: the first acquisition tells
        ({"SeriesTime": "125500"}, 55.0),
        ({"DecayCorrection": "ADMIN"}, 0.0),
        ({"RadiopharmaceuticalStartDateTime": "20240229113000.000000"}, 90.0),
        ({"RadiopharmaceuticalStartTime": "234500", "SeriesTime": "001500"}, 30.0),
    ],
)
def test_the_dose_decays_to_the_right_moment(changes: dict[str, Any], minutes: float, tmp_path: Path) -> None:
    volume = pet(tmp_path, **changes)
    assert volume.quantity is Quantity.SUV_BW
    np.testing.assert_allclose(volume.array, expected(minutes), rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "quantity", "words"),
    [
        ({"PatientWeight": None}, Quantity.ACTIVITY, "without a weight"),
        ({"PatientWeight": "0"}, Quantity.ACTIVITY, "without a weight"),
        ({"RadionuclideTotalDose": None}, Quantity.ACTIVITY, "without a weight, a dose"),
        ({"RadionuclideHalfLife": "0"}, Quantity.ACTIVITY, "without a weight, a dose"),
        ({"DecayCorrection": "NONE"}, Quantity.ACTIVITY, "decay correction is NONE"),
        ({"RadiopharmaceuticalStartTime": None}, Quantity.ACTIVITY, "times of injection"),
        ({"RadiopharmaceuticalStartDateTime": "20240101120000"}, Quantity.ACTIVITY, "minutes apart"),
        ({"Units": "CNTS"}, Quantity.ARBITRARY, "PET units are CNTS"),
    ],
)
def test_there_is_no_suv_on_weak_ground(
    changes: dict[str, Any], quantity: Quantity, words: str, tmp_path: Path
) -> None:
    volume = pet(tmp_path, **changes)
    assert volume.quantity is quantity
    np.testing.assert_allclose(volume.array, STORED * 0.5)
    assert any(words in warning for warning in volume.provenance.warnings)


def test_values_that_are_suv_already_stay_as_they_are(tmp_path: Path) -> None:
    volume = pet(tmp_path, Units="GML")
    assert volume.quantity is Quantity.SUV_BW
    np.testing.assert_allclose(volume.array, STORED * 0.5)
