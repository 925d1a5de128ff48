"""Lesion-wise sensitivity, precision and F1 over many cases, in all and by lesion size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hounsfield.evaluation.bootstrap import Interval, bootstrap_ratio, event_rate
from hounsfield.evaluation.lesions import BAND_NAMES, Lesion, LesionMatch


@dataclass(frozen=True)
class LesionRow:
    """One row: a size band, or all sizes.

    Parameters
    ----------
    reference, hit
        Reference lesions of this size, and how many of them were matched.
    found, false
        Found lesions of this size, and how many of them match nothing. Their size is that of
        the found lesion, so ``hit`` and ``found - false`` may differ within a band.
    sensitivity, precision, f1
        Pooled over lesions, intervals over patients; ``None`` where there is nothing to count.
        F1 = 2 hit / (2 hit + missed + false).
    dice
        Mean Dice over the reference lesions of this size; a missed one counts 0.
    """

    band: str
    reference: int
    hit: int
    found: int
    false: int
    sensitivity: Interval | None
    precision: Interval | None
    f1: Interval | None
    dice: Interval | None

    def as_dict(self) -> dict[str, Any]:
        """The row as data for JSON."""
        counts = {name: getattr(self, name) for name in ("band", "reference", "hit", "found", "false")}
        rates = {name: getattr(self, name) for name in ("sensitivity", "precision", "f1", "dice")}
        return counts | {name: None if value is None else value.as_dict() for name, value in rates.items()}


@dataclass(frozen=True)
class LesionTable:
    """All sizes first, then each band; false lesions per case; splits and merges counted."""

    rule: str
    rows: tuple[LesionRow, ...]
    false_per_case: Interval
    splits: int
    merges: int

    def as_dict(self) -> dict[str, Any]:
        """The table as data for JSON."""
        return {
            "rule": self.rule,
            "rows": [row.as_dict() for row in self.rows],
            "false_per_case": self.false_per_case.as_dict(),
            "splits": self.splits,
            "merges": self.merges,
        }


def lesion_table(cases: Sequence[LesionMatch], patients: Sequence[str], seed: int = 0) -> LesionTable:
    """Count over cases; every interval is over patients.

    Parameters
    ----------
    cases
        One per case, all matched by the same rule.
    patients
        The patient of each case.
    """
    if not cases or len({case.rule for case in cases}) != 1:
        raise ValueError("lesion_table needs at least one case, all matched by the same rule")
    rows = [_row("all", cases, patients, seed, lambda _: True)]
    for number, name in enumerate(BAND_NAMES):
        rows.append(_row(name, cases, patients, seed, lambda lesion, n=number: lesion.band == n))  # type: ignore[misc]
    false = [len(case.false) for case in cases]
    return LesionTable(
        str(cases[0].rule),
        tuple(rows),
        event_rate(false, patients, seed),
        sum(case.splits for case in cases),
        sum(case.merges for case in cases),
    )


def _row(
    band: str, cases: Sequence[LesionMatch], patients: Sequence[str], seed: int, keep: Callable[[Lesion], bool]
) -> LesionRow:
    def count(lesions: Sequence[Sequence[Lesion]]) -> np.ndarray[Any, np.dtype[np.int64]]:
        return np.array([sum(keep(lesion) for lesion in of_case) for of_case in lesions], dtype=np.int64)

    reference, missed = count([c.reference for c in cases]), count([c.missed for c in cases])
    found, false = count([c.found for c in cases]), count([c.false for c in cases])
    hit = reference - missed
    kept = [{lesion.number for lesion in c.reference if keep(lesion)} for c in cases]
    overlap = [sum(m.dice for m in c.matches if m.reference in own) for c, own in zip(cases, kept, strict=True)]

    def rate(top: Any, bottom: Any) -> Interval | None:
        return bootstrap_ratio(top, bottom, patients, seed, proportion=True) if bottom.sum() else None

    return LesionRow(
        band,
        int(reference.sum()),
        int(hit.sum()),
        int(found.sum()),
        int(false.sum()),
        rate(hit, reference),
        rate(found - false, found),
        rate(2 * hit, 2 * hit + missed + false),
        bootstrap_ratio(overlap, reference, patients, seed) if reference.any() else None,
    )
