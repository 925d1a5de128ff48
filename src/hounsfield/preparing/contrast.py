"""From the signal of a T1-weighted gradient echo to the concentration of contrast medium."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_SATURATED = 1 - 1e-6
Floats = NDArray[np.floating]


@dataclass(frozen=True)
class GradientEcho:
    """A spoiled gradient echo, and the tissue before contrast.

    Parameters
    ----------
    repetition_time_ms, flip_angle_degrees
        Of the sequence.
    t1_ms
        Of the tissue before contrast.
    relaxivity
        R1 of the medium, per mmol/l and second.
    """

    repetition_time_ms: float
    flip_angle_degrees: float
    t1_ms: float
    relaxivity: float

    def relative_signal(self, concentration_mmol: Floats) -> Floats:
        """Signal as a multiple of that before contrast (Ernst equation, T2* left out)."""
        return self._signal(concentration_mmol) / self._signal(np.zeros(1))

    def concentration(self, relative: Floats) -> Floats:
        """The concentration in mmol/l that gives this multiple of the signal before contrast.

        Where the signal is larger than any concentration gives, it is taken just below that.
        """
        cosine = np.cos(np.deg2rad(self.flip_angle_degrees))
        before = np.exp(-self.repetition_time_ms / self.t1_ms)
        share = np.minimum(relative * ((1 - before) / (1 - cosine * before)), _SATURATED)
        left = (1 - share) / (1 - cosine * share)
        rate = -np.log(left) * (1000.0 / self.repetition_time_ms)
        return np.asarray((rate - 1000.0 / self.t1_ms) / self.relaxivity)

    def _signal(self, concentration_mmol: Floats) -> Floats:
        rate = 1000.0 / self.t1_ms + self.relaxivity * concentration_mmol
        left = np.exp(-self.repetition_time_ms / 1000.0 * rate)
        return np.asarray((1 - left) / (1 - np.cos(np.deg2rad(self.flip_angle_degrees)) * left))
