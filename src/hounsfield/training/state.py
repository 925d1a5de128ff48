"""What a training knows besides its tensors: where it stands, its curve, its best score."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

_POINTS = 400


@dataclass
class State:
    """Where a training stands; the only mutable value of the loop, saved in every checkpoint.

    Parameters
    ----------
    step
        Steps that are done.
    curve
        Points ``{"step", "loss"}`` and ``{"step", "score", ...}``.
    loss_sum, loss_count
        Of the steps since the last point.
    best_score, best_step, waited
        For early stopping: the best validation, and how many came since.
    seconds
        Time spent in steps, over all interruptions.
    finished
        Whether nothing is left to do, and why.
    """

    recipe_digest: str
    data_digest: str
    threads: int
    step: int = 0
    curve: list[dict[str, Any]] = field(default_factory=list)
    loss_sum: float = 0.0
    loss_count: int = 0
    best_score: float | None = None
    best_step: int = 0
    waited: int = 0
    seconds: float = 0.0
    interruptions: int = 0
    finished: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    def add_loss(self, loss: float, steps: int) -> None:
        """Count one step's loss; a point of the curve is the mean of 1/400 of all steps."""
        self.loss_sum += loss
        self.loss_count += 1
        if self.loss_count >= max(1, steps // _POINTS) or self.step == steps:
            self.curve.append({"step": self.step, "loss": self.loss_sum / self.loss_count})
            self.loss_sum, self.loss_count = 0.0, 0

    def add_score(self, metric: str, value: float, parts: dict[str, float], least_gain: float) -> bool:
        """Count one validation; True if it is the best so far."""
        self.curve.append({"step": self.step, "metric": metric, "score": value, "parts": parts})
        if self.best_score is None or value > self.best_score + least_gain:
            self.best_score, self.best_step, self.waited = value, self.step, 0
            return True
        self.waited += 1
        return False
