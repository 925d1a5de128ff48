"""A number of every voxel, and what there is to say of it in one line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hounsfield.findings import terminology as terms
from hounsfield.findings.concept import CodedConcept
from hounsfield.findings.finding import Finding
from hounsfield.findings.measurement import Measurement
from hounsfield.findings.measuring import derived_uid

_QUARTILES = ((0.25, terms.LOWER_QUARTILE), (0.5, terms.MEDIAN), (0.75, terms.UPPER_QUARTILE))


@dataclass(frozen=True, eq=False)
class ParameterMap:
    """A quantity of every voxel of a scan.

    Parameters
    ----------
    label
        The package's word for it.
    unit
        UCUM.
    array
        (slices, rows, columns) float32 on the scan's grid; NaN where nothing is known.
    """

    label: str
    concept: CodedConcept
    unit: CodedConcept
    array: NDArray[np.float32]

    @property
    def voxels(self) -> int:
        """How many are known."""
        return int(np.isfinite(self.array).sum())

    def measurements(self) -> tuple[Measurement, ...]:
        """Quartiles over the voxels that are known; none where none is."""
        known = self.array[np.isfinite(self.array)]
        if not known.size:
            return ()
        values = np.quantile(known, [share for share, _ in _QUARTILES]).tolist()
        return tuple(
            Measurement(self.concept, value, self.unit, derivation=how)
            for value, (_, how) in zip(values, _QUARTILES, strict=True)
        )


def map_findings(maps: Sequence[ParameterMap], seed: str) -> tuple[Finding, ...]:
    """One finding per map, with its quartiles; ``seed`` fixes the tracking UIDs (use the run's UID)."""
    return tuple(
        Finding(
            tracking_id=f"{one.label} over {one.voxels} voxels"[:64],
            tracking_uid=derived_uid(seed, f"tracking/map/{place}"),
            concept=one.concept,
            measurements=one.measurements(),
        )
        for place, one in enumerate(maps)
    )


def quantity_findings(quantities: Sequence[tuple[str, Measurement]], seed: str) -> tuple[Finding, ...]:
    """One finding per (label, number) of the whole image."""
    return tuple(
        Finding(
            tracking_id=label[:64],
            tracking_uid=derived_uid(seed, f"tracking/quantity/{place}"),
            concept=one.concept,
            measurements=(one,),
        )
        for place, (label, one) in enumerate(quantities)
    )
