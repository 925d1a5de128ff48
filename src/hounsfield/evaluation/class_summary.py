"""Everything about one class in one value: AUC, operating points, calibration, strata."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hounsfield.evaluation.bootstrap import Interval, bootstrap, finite
from hounsfield.evaluation.calibration import Calibration, calibrate
from hounsfield.evaluation.classification import (
    OperatingPoint,
    Roc,
    WeightedAuc,
    auc_delong,
    auc_interval,
    average_precision,
    checked,
    operating_point,
    roc,
)
from hounsfield.evaluation.strata import MINIMUM_PATIENTS, UNKNOWN, StrataTable, StratumRow


@dataclass(frozen=True)
class ClassCases:
    """The cases of one class.

    Parameters
    ----------
    positive, scores, patients
        One per case: the reference, the model's score (a probability, if it is to be
        calibrated), and whose it is.
    columns
        Column name to one cell per case, for strata.
    """

    name: str
    positive: tuple[bool, ...]
    scores: tuple[float, ...]
    patients: tuple[str, ...]
    columns: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class ClassSummary:
    """All figures of one class.

    Parameters
    ----------
    auc
        ``None`` where a class is absent.
    auc_standard_error
        DeLong's, which takes every case for a patient of its own.
    calibration
        ``None`` where a score is no probability.
    """

    name: str
    positives: int
    negatives: int
    auc: Interval | None
    auc_standard_error: float
    average_precision: float
    roc: Roc
    points: tuple[OperatingPoint, ...]
    calibration: Calibration | None
    strata: tuple[StrataTable, ...]

    def as_dict(self) -> dict[str, Any]:
        """The figures as data for JSON."""
        return {
            "name": self.name,
            "positives": self.positives,
            "negatives": self.negatives,
            "auc": None if self.auc is None else self.auc.as_dict(),
            "auc_standard_error": finite(self.auc_standard_error),
            "average_precision": finite(self.average_precision),
            "roc": self.roc.as_dict(),
            "points": [point.as_dict() for point in self.points],
            "calibration": None if self.calibration is None else self.calibration.as_dict(),
            "strata": [table.as_dict() for table in self.strata],
        }


def summarise_class(
    cases: ClassCases,
    thresholds: Mapping[str, float],
    strata: Sequence[str] = (),
    seed: int = 0,
    minimum_patients: int = MINIMUM_PATIENTS,
) -> ClassSummary:
    """All figures of one class; every interval is over patients.

    Parameters
    ----------
    thresholds
        Name of an operating point to its threshold, fixed beforehand on other data.
    strata
        Columns of ``cases`` to split the AUC by.
    """
    truth, scores = checked(cases.positive, cases.scores)
    both = bool(truth.any() and not truth.all())
    is_probability = bool(scores.min() >= 0 and scores.max() <= 1)
    return ClassSummary(
        cases.name,
        int(truth.sum()),
        int((~truth).sum()),
        auc_interval(truth, scores, cases.patients, seed) if both else None,
        auc_delong(truth, scores)[1] if both else math.nan,
        average_precision(truth, scores),
        roc(truth, scores),
        tuple(operating_point(truth, scores, cases.patients, t, name, seed) for name, t in thresholds.items()),
        calibrate(truth, scores, cases.patients, seed=seed) if is_probability else None,
        tuple(auc_strata(cases, column, seed, minimum_patients) for column in strata),
    )


def auc_strata(cases: ClassCases, column: str, seed: int = 0, minimum_patients: int = MINIMUM_PATIENTS) -> StrataTable:
    """AUC in every group of a column, and against all other groups.

    A group gets a figure where it has the minimum of patients and both classes; AUCs of groups
    that lack either are not given.
    """
    truth, scores = checked(cases.positive, cases.scores)
    named = np.array([cell.strip() or UNKNOWN for cell in cases.columns[column]])
    owners = np.asarray(cases.patients)
    rows = []
    for value in sorted(set(named.tolist()), key=lambda v: (v == UNKNOWN, v)):
        own = named == value
        sides = [_side(truth, scores, owners, part, minimum_patients) for part in (own, ~own)]
        interval = minus = None
        if sides[0]:
            interval = auc_interval(truth[own], scores[own], owners[own].tolist(), seed)
        if all(sides):
            here, there = (WeightedAuc(truth[part], scores[part]) for part in (own, ~own))
            minus = bootstrap(
                lambda w, a=here, b=there, mine=own: a(w[:, mine]) - b(w[:, ~mine]),  # type: ignore[misc]
                owners.tolist(),
                seed,
            )
        rows.append(StratumRow(value, int(own.sum()), len(set(owners[own].tolist())), interval, minus))
    return StrataTable(column, "AUC", minimum_patients, tuple(rows))


def _side(truth: Any, scores: Any, owners: Any, part: Any, minimum: int) -> bool:
    """Whether a part of the cases has enough patients and both classes."""
    enough = len(set(owners[part].tolist())) >= minimum
    return bool(enough and truth[part].any() and not truth[part].all())
