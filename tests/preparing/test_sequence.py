"""Time points, signal and concentration of a sequence against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from hounsfield.errors import InputError
from hounsfield.packages.manifest import InputSpec
from hounsfield.preparing.contrast import GradientEcho
from hounsfield.preparing.sequence import prepare_sequence
from hounsfield.volume import Acquisition, Geometry, Provenance, TimeSeries

SHAPE = (2, 3, 4)


def sequence(values: np.ndarray, times_s: tuple[float, ...], **scan: float) -> TimeSeries:
    """(times,) values in every voxel."""
    array = np.broadcast_to(values[:, None, None, None], (len(values), *SHAPE)).astype(np.float32)
    provenance = Provenance(acquisition=Acquisition(modality="MR", **scan))  # type: ignore[arg-type]
    return TimeSeries(array, Geometry.from_parts(SHAPE), times_s, provenance=(provenance,) * len(values))


def spec(**times: object) -> InputSpec:
    return InputSpec.model_validate(
        {"channels": [{"name": "dce", "modality": "MR"}], "window": {"shape": [1, 1, 1]}, "times": times}
    )


def test_time_points_are_interpolated_where_they_are_wanted() -> None:
    """A curve that is straight between its samples is met exactly."""
    times = (0.0, 3.0, 7.0, 12.0)
    read = prepare_sequence(sequence(np.array([0.0, 6.0, 10.0, 20.0]), times), spec(count=6, step_s=2.0))
    np.testing.assert_allclose(read.values[:, 0, 0, 0], [0, 4, 7, 9, 12, 16], rtol=1e-6)


def test_a_relative_signal_drops_the_scanners_unit() -> None:
    one = prepare_sequence(
        sequence(np.array([10.0, 12, 22, 33]), (0, 1, 2, 3)), spec(count=4, baseline=2, signal="relative")
    )
    np.testing.assert_allclose(one.values[:, 1, 1, 1], [-1 / 11, 1 / 11, 1, 2], rtol=1e-6)
    np.testing.assert_allclose(one.before, 11.0)


@pytest.mark.parametrize(("repetition_time_ms", "flip"), [(3.85, 12.0), (5.0, 30.0)])
def test_a_concentration_comes_back_from_its_signal(repetition_time_ms: float, flip: float) -> None:
    """The signal is computed here, by the Ernst equation written out once more."""
    known = np.array([0.0, 0.0, 0.5, 2.0, 1.0])
    rate = 1 / 1.6 + 3.5 * known
    left = np.exp(-repetition_time_ms / 1000 * rate)
    signal = 321 * np.sin(np.deg2rad(flip)) * (1 - left) / (1 - np.cos(np.deg2rad(flip)) * left)
    scan = sequence(signal, (0, 1, 2, 3, 4), repetition_time_ms=repetition_time_ms, flip_angle_degrees=flip)
    wanted = spec(count=5, baseline=2, signal="concentration", t1_ms=1600.0, relaxivity=3.5)
    read = prepare_sequence(scan, wanted)
    np.testing.assert_allclose(read.values[:, 0, 1, 2], known, atol=2e-5)
    assert read.warnings == ("T1 before contrast was taken as 1600 ms everywhere",)


def test_a_scan_that_hides_its_sequence_gives_no_concentration() -> None:
    scan = sequence(np.array([1.0, 2.0, 3.0]), (0, 1, 2))
    with pytest.raises(InputError, match="does not state its repetition time"):
        prepare_sequence(scan, spec(count=3, baseline=1, signal="concentration"))
    assumed = spec(count=3, baseline=1, signal="concentration", repetition_time_ms=5, flip_angle_degrees=20)
    warnings = prepare_sequence(scan, assumed).warnings
    assert "the scan does not state its repetition time: 5 ms was taken" in warnings
    assert "the scan does not state its flip angle: 20° was taken" in warnings


def test_a_signal_beyond_every_concentration_stays_finite() -> None:
    echo = GradientEcho(5.0, 20.0, 1000.0, 4.5)
    found = echo.concentration(np.array([0.5, 1.0, 1e6]))
    assert np.isfinite(found).all()
    assert found[1] == pytest.approx(0, abs=1e-9)
    assert found[0] < 0 < found[2]
