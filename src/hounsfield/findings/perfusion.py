"""Contrast medium in tissue over time: the Tofts models, forward and fitted.

Extended Tofts (Tofts 1999): ``C(t) = Ktrans * integral of Cp(u) exp(-kep (t - u)) du + vp Cp(t)`` with
``kep = Ktrans / ve``; the standard model has no ``vp``. The plasma curve is taken as linear between its
samples, for which the integral has a closed form (Flouri 2016).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_SLOWEST, _FASTEST, _RATES, _ROUNDS = 1e-3, 60.0, 60, 4


@dataclass(frozen=True, eq=False)
class Perfusion:
    """The constants of curves, one per curve.

    Parameters
    ----------
    ktrans_per_min
        Transfer constant from plasma to the extravascular space.
    ve, vp
        Fractions of the volume: extravascular extracellular space, and plasma.
    """

    ktrans_per_min: Floats
    ve: Floats
    vp: Floats


def tofts(times_s: Sequence[float] | Floats, plasma_mmol: Floats, given: Perfusion) -> Floats:
    """(curves, times) concentration in mmol/l of tissue with these constants.

    Parameters
    ----------
    times_s
        Increasing; also those of the plasma curve, which is 0 before the first.
    plasma_mmol
        (times,) concentration in arterial plasma, mmol/l.
    """
    kep = given.ktrans_per_min / given.ve
    spread = _washed_out(np.asarray(times_s, np.float64), plasma_mmol, kep)
    return given.ktrans_per_min[:, None] * spread + given.vp[:, None] * plasma_mmol


def fit_tofts(
    times_s: Sequence[float] | Floats, plasma_mmol: Floats, curves_mmol: Floats, *, plasma: bool = True
) -> Perfusion:
    """Least squares over each curve: for every ``kep`` the rest is linear, and ``kep`` is searched.

    Parameters
    ----------
    curves_mmol
        (curves, times) concentrations in mmol/l.
    plasma
        Whether ``vp`` is fitted too (extended model); else it is 0.
    """
    times, curves = np.asarray(times_s, np.float64), np.asarray(curves_mmol, np.float64)
    low, high = np.full(len(curves), np.log(_SLOWEST)), np.full(len(curves), np.log(_FASTEST))
    best = np.zeros(len(curves))
    for _ in range(_ROUNDS):
        shares = np.linspace(0.0, 1.0, _RATES)
        errors = []
        for share in shares:
            rate = np.exp(low + share * (high - low))
            errors.append(_linear(times, plasma_mmol, curves, rate, plasma)[2])
        place = np.argmin(errors, axis=0)
        width = (high - low) / (_RATES - 1)
        best = low + place * width
        low, high = np.maximum(best - width, np.log(_SLOWEST)), np.minimum(best + width, np.log(_FASTEST))
    kep = np.exp(best)
    ktrans, vp, _ = _linear(times, plasma_mmol, curves, kep, plasma)
    return Perfusion(ktrans, np.clip(ktrans / kep, 0.0, 1.0), vp)


def _linear(
    times: Floats, plasma: Floats, curves: Floats, kep: Floats, with_plasma: bool
) -> tuple[Floats, Floats, Floats]:
    """Ktrans and vp (neither below 0) of each curve at its kep, and the sum of squared errors."""
    spread = _washed_out(times, plasma, kep)
    aa, ab, bb = (spread**2).sum(1), spread @ plasma, float(plasma @ plasma)
    ac, bc = (spread * curves).sum(1), curves @ plasma
    ktrans, vp = np.maximum(ac / np.maximum(aa, 1e-30), 0.0), np.zeros(len(curves))
    if with_plasma:
        bottom = np.maximum(aa * bb - ab**2, 1e-30)
        both = (ac * bb - bc * ab) / bottom, (bc * aa - ac * ab) / bottom
        inside = (both[0] >= 0) & (both[1] >= 0)
        alone = np.maximum(bc / bb, 0.0)
        only_plasma = ~inside & (alone * bc > ktrans * ac)
        ktrans = np.where(inside, both[0], np.where(only_plasma, 0.0, ktrans))
        vp = np.where(inside, both[1], np.where(only_plasma, alone, 0.0))
    left = curves - ktrans[:, None] * spread - vp[:, None] * plasma
    return ktrans, vp, (left**2).sum(1)


def _washed_out(times_s: Floats, plasma: Floats, kep_per_min: Floats) -> Floats:
    """(curves, times): integral of ``Cp(u) exp(-kep (t - u)) du`` in mmol/l min."""
    out = np.zeros((len(kep_per_min), len(times_s)))
    minutes = np.diff(times_s) / 60.0
    for n, step in enumerate(minutes):
        x = kep_per_min * step
        stays = np.exp(-x)
        held = np.where(x > 1e-4, -np.expm1(-x) / np.maximum(x, 1e-30), 1 - x / 2)
        risen = np.where(x > 1e-4, (1 - held) / np.maximum(x, 1e-30), 0.5 - x / 6)
        out[:, n + 1] = out[:, n] * stays + step * (plasma[n] * held + (plasma[n + 1] - plasma[n]) * risen)
    return out
