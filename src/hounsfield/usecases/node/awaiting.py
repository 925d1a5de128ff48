"""What to look at next: results that nobody judged yet, the most telling first.

Each result has an uncertainty, from its own scores, and a place among the others, from what it
measured. The order is greedy: next comes the one with the largest uncertainty times distance from
all that were chosen before it (uncertainty sampling with a k-centre spread: Settles 2009; Sener and
Savarese 2018). A result without scores counts as half uncertain.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hounsfield.department import reviews
from hounsfield.usecases.node.opening import Node
from hounsfield.usecases.node.worklist import in_few_words

UNKNOWN: Final = 0.5
_MOST: Final = 500


@dataclass(frozen=True)
class Awaiting:
    """One result that waits for a person; ``uncertainty`` from 0 (sure) to 1."""

    job_id: int
    study_uid: str
    model: str
    found: str
    finished_at: float
    uncertainty: float


def awaiting(node: Node, *, most: int = _MOST) -> tuple[Awaiting, ...]:
    """Results that nobody judged yet, in the order to look at them."""
    with node.database.read() as connection:
        rows = reviews.unreviewed(connection, most=most)
    outcomes = [json.loads(row.outcome_json) if row.outcome_json else {} for row in rows]
    if not rows:
        return ()
    doubts = np.array([uncertainty(one) for one in outcomes])
    order = telling_order(doubts, np.array([features(one) for one in outcomes]))
    return tuple(
        Awaiting(
            rows[place].id,
            rows[place].study_uid,
            str(outcomes[place].get("package", "")),
            in_few_words(outcomes[place]),
            rows[place].finished_at or rows[place].created_at,
            float(doubts[place]),
        )
        for place in order
    )


def uncertainty(outcome: Mapping[str, Any]) -> float:
    """The mean binary entropy of a result's scores in bits, or a half where it has none."""
    scores = [
        float(value)
        for row in _measured(outcome)
        for value in (row.get("probability"), row.get("score"))
        if isinstance(value, int | float)
    ]
    return float(np.mean([_entropy(one) for one in scores])) if scores else UNKNOWN


def features(outcome: Mapping[str, Any]) -> tuple[float, float, float, float]:
    """Where a result lies among others: count, total volume (log ml), largest diameter (log mm), warnings."""
    rows = _measured(outcome)
    volumes = [float(row["volume_ml"]) for row in rows if isinstance(row.get("volume_ml"), int | float)]
    diameters = [float(row["diameter_mm"]) for row in rows if isinstance(row.get("diameter_mm"), int | float)]
    warnings = sum(len(one.get("warnings", ())) for one in outcome.get("series", ()))
    return (float(len(rows)), math.log1p(sum(volumes)), math.log1p(max(diameters, default=0.0)), float(warnings))


def telling_order(doubts: NDArray[np.float64], places: NDArray[np.float64]) -> list[int]:
    """The greedy order.

    Parameters
    ----------
    doubts
        (n,) uncertainty of each, 0 or more.
    places
        (n, features); each feature is scaled to unit spread first.

    Returns
    -------
    Indices; the first has the largest uncertainty, ties keep their order.
    """
    count = len(doubts)
    if not count:
        return []
    spread = places.std(axis=0)
    scaled = (places - places.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    nearest = np.full(count, np.inf)
    left, order = np.ones(count, bool), []
    chosen = int(np.argmax(doubts))
    while True:
        order.append(chosen)
        left[chosen] = False
        if not left.any():
            return order
        nearest = np.minimum(nearest, np.linalg.norm(scaled - scaled[chosen], axis=1))
        worth = np.where(left, (doubts + 1e-6) * (nearest + 1e-6), -1.0)
        chosen = int(np.argmax(worth))


def _measured(outcome: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return [row for one in outcome.get("series", ()) for row in one.get("measured", ())]


def _entropy(probability: float) -> float:
    if not 0 < probability < 1:
        return 0.0
    return -(probability * math.log2(probability) + (1 - probability) * math.log2(1 - probability))
