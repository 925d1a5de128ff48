"""Triage: what a model found moves a study forward in the reading list, by a head start that ages by itself.

A study is read in the order of ``arrival - head start``. So an unflagged study can be overtaken only
by flagged ones that arrive less than one head start after it: from then on nobody passes it, however
many flagged ones come. That is the ageing rule; it needs no clock that ticks and no second queue.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

Priority = Literal["HIGH", "MEDIUM", "LOW"]
LONGEST_HEAD_START_MIN: Final = 7 * 24 * 60.0


class TriageRule(BaseModel):
    """The table ``[route.triage]``: which finding makes a study urgent.

    Parameters
    ----------
    finding
        Label of a class or segment of the model, or the kind of its located findings.
    measure
        What of it is looked at.
    at_least
        From this value on the study is flagged.
    head_start_min
        How much earlier a flagged study counts as arrived; no unflagged study waits longer for this
        rule than the flagged ones take that come in this time.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    finding: Annotated[str, Field(min_length=1, max_length=128)]
    measure: Literal["probability", "volume_ml", "count", "diameter_mm"] = "probability"
    at_least: float
    head_start_min: Annotated[float, Field(gt=0, le=LONGEST_HEAD_START_MIN)] = 120.0


@dataclass(frozen=True)
class Verdict:
    """What a rule says of a result: the value it looked at, and whether that flags the study."""

    value: float | None
    flagged: bool
    head_start_s: float = 0.0

    @property
    def priority(self) -> Priority:
        """As a Scheduled Procedure Step Priority (PS3.3 C.30.2)."""
        return "HIGH" if self.flagged else "MEDIUM"


def judge(rule: TriageRule, measured: Sequence[Mapping[str, Any]]) -> Verdict:
    """Apply a rule to the rows of a result; the largest value of the finding counts.

    Parameters
    ----------
    measured
        Rows with ``label`` and the measures, as jobs keep them.
    """
    values = [
        float(row[rule.measure])
        for row in measured
        if row.get("label") == rule.finding and isinstance(row.get(rule.measure), int | float)
    ]
    if not values:
        return Verdict(None, False)
    most = max(values)
    flagged = most >= rule.at_least
    return Verdict(most, flagged, rule.head_start_min * 60 if flagged else 0.0)


def reading_key(arrived_s: float, head_start_s: float) -> float:
    """Studies are read in the order of this number, the smallest first."""
    return arrived_s - head_start_s
