"""From PET activity to body-weight SUV (QIBA FDG-PET/CT profile, annex on vendor-neutral SUV).

SUVbw = activity [Bq/ml] x weight [g] / dose [Bq], the dose decayed to the time to which the
scanner corrected the activity: the start of the series where DecayCorrection is START, the
injection where it is ADMIN. AcquisitionTime differs between bed positions, so it is only a guard:
a SeriesTime after the first acquisition was rewritten by later processing and is not believed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from hounsfield.reading.clocks import DAY_S, datetime_s, moment_s
from hounsfield.reading.instances import Frame
from hounsfield.volume import Quantity

_LONGEST_HALF_LIVES: Final = 10.0
_GRAMS: Final = 1000.0


def pet_scale(frames: Sequence[Frame]) -> tuple[float, Quantity, str]:
    """The factor on rescaled PET values, what they then mean, and why if it is not SUV.

    Returns
    -------
    factor, quantity, reason
        ``reason`` is empty where ``quantity`` is SUVbw.
    """
    first = frames[0]
    units = str(first.get("Units", ""))
    if units == "GML":
        return 1.0, Quantity.SUV_BW, ""
    if units != "BQML":
        return 1.0, Quantity.ARBITRARY, f"PET units are {units or 'missing'}, not Bq/ml, so there is no SUV"
    dose = _administered(first)
    weight = first.number_of("PatientWeight")
    if dose is None or weight is None or weight <= 0:
        return 1.0, Quantity.ACTIVITY, "there is no SUV without a weight, a dose and a half-life"
    decayed, reason = _decayed_dose(frames, *dose)
    if decayed is None:
        return 1.0, Quantity.ACTIVITY, reason
    return weight * _GRAMS / decayed, Quantity.SUV_BW, ""


def _radiopharmaceutical(frame: Frame) -> dict[str, Any]:
    items = frame.get("RadiopharmaceuticalInformationSequence") or [{}]
    return dict(items[0])


def _administered(frame: Frame) -> tuple[float, float] | None:
    """(dose Bq, half-life s), or ``None`` where either is missing or not positive."""
    item = {**frame.instance.header, **frame.own, **_radiopharmaceutical(frame)}
    dose, half_life = item.get("RadionuclideTotalDose"), item.get("RadionuclideHalfLife")
    if not isinstance(dose, float) or not isinstance(half_life, float) or not dose > 0 or not half_life > 0:
        return None
    return dose, half_life


def _decayed_dose(frames: Sequence[Frame], dose: float, half_life_s: float) -> tuple[float | None, str]:
    """The dose at the reference time of the decay correction, Bq."""
    correction = str(frames[0].get("DecayCorrection", ""))
    if correction == "ADMIN":
        return dose, ""
    if correction != "START":
        return None, f"there is no SUV where decay correction is {correction or 'missing'}"
    start = _scan_start(frames)
    injected = _injection(frames[0], start)
    if start is None or injected is None:
        return None, "there is no SUV without the times of injection and scan"
    elapsed = start - injected
    if not 0 <= elapsed <= _LONGEST_HALF_LIVES * half_life_s:
        return None, f"there is no SUV where injection and scan lie {elapsed / 60:.0f} minutes apart"
    return dose * 2.0 ** (-elapsed / half_life_s), ""


def _scan_start(frames: Sequence[Frame]) -> float | None:
    """Start of the series, or the first acquisition where the series time is later than that."""
    first = frames[0]
    series = moment_s(first.get("SeriesDate") or first.get("StudyDate"), first.get("SeriesTime"))
    acquired = [moment for frame in frames if (moment := frame.acquired_s) is not None]
    if series is None or (acquired and min(acquired) < series):
        return min(acquired, default=None)
    return series


def _injection(frame: Frame, start: float | None) -> float | None:
    """Time of injection on the scale of ``start``; a bare time of day may be that of the day before."""
    item = {**frame.instance.header, **frame.own, **_radiopharmaceutical(frame)}
    exact = datetime_s(item.get("RadiopharmaceuticalStartDateTime"))
    if exact is not None:
        return exact
    bare = moment_s(item.get("SeriesDate") or item.get("StudyDate"), item.get("RadiopharmaceuticalStartTime"))
    if bare is None or start is None:
        return None
    return bare - DAY_S if bare > start else bare
