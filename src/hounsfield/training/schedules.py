"""The learning rate as a function of the step alone."""

from __future__ import annotations

import math

from hounsfield.training.recipe import Optimisation

_FLOOR = 1e-3


def learning_rate(step: int, settings: Optimisation) -> float:
    """The rate of a step (from 0): a linear warm-up, then the schedule down to 1/1000 of the top.

    ``one-cycle`` rises over the first 30 % and falls to the end (Smith 2018), whatever the warm-up.
    """
    top = settings.learning_rate
    warm = min(settings.warm_up_steps, settings.steps - 1)
    if settings.schedule == "one-cycle":
        warm = max(1, int(0.3 * settings.steps))
    if step < warm:
        return top * (step + 1) / warm
    done = (step - warm) / max(1, settings.steps - warm)
    if settings.schedule == "constant":
        return top
    if settings.schedule == "polynomial":
        return top * max(_FLOOR, math.pow(1 - done, 0.9))
    return top * (_FLOOR + (1 - _FLOOR) * 0.5 * (1 + math.cos(math.pi * done)))
