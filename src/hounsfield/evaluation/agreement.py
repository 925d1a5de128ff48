"""Agreement of annotators with each other beside that of the model with each of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hounsfield.evaluation.bootstrap import Interval, bootstrap_ratio
from hounsfield.evaluation.comparison import Comparison, compare_paired
from hounsfield.evaluation.overlap import Mask, dice


@dataclass(frozen=True)
class CaseAgreement:
    """Dice of every pair of annotators and of the model with every annotator, one case."""

    between: tuple[float, ...]
    with_model: tuple[float, ...]


@dataclass(frozen=True)
class Agreement:
    """Mean Dice over cases: annotator with annotator, model with annotator, and their difference.

    Each case counts once, with the mean over its pairs.
    """

    between: Interval
    with_model: Interval
    model_minus_between: Comparison


def consensus(masks: Sequence[Mask], share: float = 0.5) -> Mask:
    """Voxels that at least ``share`` of the annotators outlined (0.5: two of four, two of three).

    Parameters
    ----------
    masks
        (slices, rows, columns) bool, at least one, all of one shape.
    """
    if not masks or not 0 < share <= 1:
        raise ValueError("consensus needs at least one mask and a share above 0")
    votes = np.zeros(masks[0].shape, dtype=np.uint16)
    for mask in masks:
        votes += mask
    agreed: Mask = votes >= share * len(masks) - 1e-9
    return agreed


def case_agreement(found: Mask, annotators: Sequence[Mask]) -> CaseAgreement:
    """Dice within the annotators and of the model with each; needs at least two annotators."""
    if len(annotators) < 2:
        raise ValueError("agreement needs at least two annotators")
    between = tuple(dice(a, b) for a, b in itertools.combinations(annotators, 2))
    return CaseAgreement(between, tuple(dice(found, mask) for mask in annotators))


def summarise_agreement(cases: Sequence[CaseAgreement], patients: Sequence[str], seed: int = 0) -> Agreement:
    """Means over cases with intervals over patients, and the paired difference."""
    ones = np.ones(len(cases))
    between = [float(np.mean(case.between)) for case in cases]
    model = [float(np.mean(case.with_model)) for case in cases]
    return Agreement(
        bootstrap_ratio(between, ones, patients, seed),
        bootstrap_ratio(model, ones, patients, seed),
        compare_paired(model, between, patients, seed),
    )
