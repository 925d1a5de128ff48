"""The Tofts model against numerical integration, and its fit on the QIBA reference objects."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.io import loadmat

from hounsfield.findings.perfusion import Perfusion, fit_tofts, tofts
from hounsfield.preparing.contrast import GradientEcho

TIMES = np.arange(0.0, 200.0, 4.0)
PLASMA = np.interp(TIMES, [0, 20, 28, 60, 200], [0, 0, 6, 1.5, 0.8])
KNOWN = Perfusion(np.array([0.02, 0.25, 0.1]), np.array([0.1, 0.4, 0.02]), np.array([0.0, 0.05, 0.1]))


@pytest.mark.parametrize("number", range(3))
def test_the_integral_is_that_of_scipy(number: int) -> None:
    ktrans, ve, vp = KNOWN.ktrans_per_min[number], KNOWN.ve[number], KNOWN.vp[number]
    found = tofts(TIMES, PLASMA, KNOWN)[number]
    for place in (7, 20, 49):
        end = TIMES[place]

        def inside(at: float, end: float = end) -> float:
            return float(np.interp(at, TIMES, PLASMA) * np.exp(-ktrans / ve * (end - at) / 60) / 60)

        whole = sum(quad(inside, a, b)[0] for a, b in itertools.pairwise(TIMES[: place + 1]))
        assert found[place] == pytest.approx(ktrans * whole + vp * PLASMA[place], rel=1e-6)


def test_the_fit_returns_what_was_put_in() -> None:
    found = fit_tofts(TIMES, PLASMA, tofts(TIMES, PLASMA, KNOWN))
    np.testing.assert_allclose(found.ktrans_per_min, KNOWN.ktrans_per_min, rtol=2e-3)
    np.testing.assert_allclose(found.ve, KNOWN.ve, rtol=2e-3)
    np.testing.assert_allclose(found.vp, KNOWN.vp, atol=2e-4)


@pytest.mark.shared_data
def test_the_reference_object_of_qiba_is_recovered(shared_data: Path) -> None:
    """Version 6 (standard model, stored as whole numbers): 30 patches of known Ktrans and ve, every fourth second."""
    table = loadmat(shared_data / "mr-dce" / "phantoms" / "qiba6.mat")
    times, signal = table["t"].ravel(), table["DCEdata"].astype(np.float64).reshape(1321, -1)
    echo = GradientEcho(5.0, 30.0, 1000.0, 4.5)
    chosen = slice(None, None, 8)
    curves = echo.concentration(signal[chosen] / signal[times < 60].mean(axis=0)).T
    found = fit_tofts(times[chosen], np.maximum(table["Cp"].ravel(), 0)[chosen], curves, plasma=False)
    ktrans, ve = np.repeat([0.01, 0.02, 0.05, 0.1, 0.2, 0.35], 5), np.tile([0.01, 0.05, 0.1, 0.2, 0.5], 6)
    assert np.abs(found.ktrans_per_min - ktrans).mean() < 0.002
    assert np.abs(found.ve - ve).mean() < 0.001
