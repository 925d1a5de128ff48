"""For whom it works worse: a metric by sex, age band, manufacturer, site, or any column.

A stratum below the minimum number of patients is named and counted, but gets no figure: a mean
of four patients would be read as if it were one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hounsfield.evaluation.bootstrap import Interval, bootstrap, bootstrap_ratio

MINIMUM_PATIENTS: Final = 10
UNKNOWN: Final = "not known"
_AGE_EDGES: Final = (18, 40, 60, 70, 80)


@dataclass(frozen=True)
class StratumRow:
    """One value of a column.

    Parameters
    ----------
    value
        ``"not known"`` where the table says nothing.
    cases, patients
        How many there are.
    interval
        The mean; ``None`` below the minimum.
    minus_others
        Mean of this stratum minus mean of all others, with its interval over patients;
        ``None`` where either side is below the minimum.
    """

    value: str
    cases: int
    patients: int
    interval: Interval | None
    minus_others: Interval | None

    def as_dict(self) -> dict[str, Any]:
        """The row as data for JSON."""
        return {
            "value": self.value,
            "cases": self.cases,
            "patients": self.patients,
            "interval": None if self.interval is None else self.interval.as_dict(),
            "minus_others": None if self.minus_others is None else self.minus_others.as_dict(),
        }


@dataclass(frozen=True)
class StrataTable:
    """A metric by one column; ``minimum_patients`` is what a stratum needs to get a figure."""

    column: str
    metric: str
    minimum_patients: int
    rows: tuple[StratumRow, ...]

    def as_dict(self) -> dict[str, Any]:
        """The table as data for JSON."""
        return {
            "column": self.column,
            "metric": self.metric,
            "minimum_patients": self.minimum_patients,
            "rows": [row.as_dict() for row in self.rows],
        }


def age_band(age_years: float | None) -> str:
    """The band of an age: 0-17, 18-39, 40-59, 60-69, 70-79, 80 and older, or not known."""
    if age_years is None or not math.isfinite(age_years) or age_years < 0:
        return UNKNOWN
    place = int(np.searchsorted(_AGE_EDGES, age_years, side="right"))
    if place == len(_AGE_EDGES):
        return f"{_AGE_EDGES[-1]} and older"
    return f"{(0, *_AGE_EDGES)[place]}-{_AGE_EDGES[place] - 1}"


@dataclass(frozen=True)
class GroupedValues:
    """A metric, one value per case, with the group and the patient of each.

    Parameters
    ----------
    column, metric
        Names, for the table.
    values, groups, patients
        One per case: a finite value, the group (empty: not known), the patient.
    proportion
        The values are shares of successes, see :func:`hounsfield.evaluation.bootstrap_ratio`.
    """

    column: str
    metric: str
    values: Sequence[float]
    groups: Sequence[str]
    patients: Sequence[str]
    proportion: bool = False


def strata_table(grouped: GroupedValues, seed: int = 0, minimum_patients: int = MINIMUM_PATIENTS) -> StrataTable:
    """The mean of a metric in every group of a column, and against all other groups."""
    named = np.array([group.strip() or UNKNOWN for group in grouped.groups])
    data, owners = np.asarray(grouped.values, dtype=np.float64), np.asarray(grouped.patients)
    rows = []
    for value in sorted(set(named.tolist()), key=lambda v: (v == UNKNOWN, v)):
        own = named == value
        here, others = len(set(owners[own].tolist())), len(set(owners[~own].tolist()))
        here_cases = int(own.sum())
        enough, both = here >= minimum_patients, min(here, others) >= minimum_patients
        rows.append(
            StratumRow(
                value,
                here_cases,
                here,
                bootstrap_ratio(
                    data[own], np.ones(here_cases), owners[own].tolist(), seed, proportion=grouped.proportion
                )
                if enough
                else None,
                _minus_others(data, own, owners.tolist(), seed) if both else None,
            )
        )
    return StrataTable(grouped.column, grouped.metric, minimum_patients, tuple(rows))


def _minus_others(data: NDArray[np.float64], own: NDArray[np.bool_], patients: list[str], seed: int) -> Interval:
    inside = own.astype(np.float64)

    def gap(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        here, there = weights @ inside, weights @ (1 - inside)
        both = (here > 0) & (there > 0)
        out = np.full(len(weights), np.nan)
        out[both] = ((weights @ (data * inside))[both] / here[both]) - (
            (weights @ (data * (1 - inside)))[both] / there[both]
        )
        return out

    return bootstrap(gap, patients, seed)
