"""Why no plan keeps a budget: the smallest that would do, and the knobs that reach it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from hounsfield.errors import DoesNotFit
from hounsfield.planning.budget import Budget
from hounsfield.planning.plan import Plan
from hounsfield.planning.units import round_up_bytes, round_up_seconds


@dataclass(frozen=True)
class Knob:
    """One change that makes the run fit, or brings it nearer.

    Parameters
    ----------
    change
        What to do, in words.
    host_bytes, device_bytes, seconds
        What the run would take with this change and the best setting of all other knobs.
    """

    change: str
    host_bytes: int
    device_bytes: int
    seconds: float


class NoPlan(DoesNotFit):
    """No plan keeps the budget.

    Parameters
    ----------
    budget
        What was asked.
    smallest
        A budget for which there is a plan: each limit as asked where that is possible, raised
        as little as possible where it is not.
    knobs
        At most three changes; the first is to give ``smallest``.
    """

    def __init__(self, budget: Budget, smallest: Budget, knobs: tuple[Knob, ...]) -> None:
        others = "; or ".join(knob.change for knob in knobs)
        super().__init__(f"no plan keeps the budget of {budget}", others or f"give {smallest}")
        self.budget = budget
        self.smallest = smallest
        self.knobs = knobs

    def as_dict(self) -> dict[str, Any]:
        """The error as data, with the smallest budget and the knobs."""
        return {**super().as_dict(), "smallest": asdict(self.smallest), "knobs": [asdict(knob) for knob in self.knobs]}


def excess(plan: Plan, budget: Budget) -> float:
    """How far a plan is from a budget: the largest ratio to any limit; at most 1 when it fits."""
    ratios = [0.0]
    if budget.host_bytes is not None:
        ratios.append(plan.host_peak_bytes / budget.host_bytes)
    if budget.device_bytes is not None:
        ratios.append(plan.device_peak_bytes / budget.device_bytes)
    if budget.seconds is not None:
        ratios.append(plan.seconds / budget.seconds)
    return max(ratios)


def grown(budget: Budget, plan: Plan) -> Budget:
    """The budget with each limit that the plan breaks raised to what the plan takes."""
    host, device, seconds = budget.host_bytes, budget.device_bytes, budget.seconds
    if host is not None and plan.host_peak_bytes > host:
        host = round_up_bytes(plan.host_peak_bytes)
    if device is not None and plan.device_peak_bytes > device:
        device = round_up_bytes(plan.device_peak_bytes)
    if seconds is not None and plan.seconds > seconds:
        seconds = round_up_seconds(plan.seconds)
    return Budget(host, device, seconds)
