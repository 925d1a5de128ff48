"""Prepare: padding, channels of different grids, refusals, and the way back of labels."""

from __future__ import annotations

import numpy as np
import pytest

from hounsfield.errors import GeometryRefused, InputError
from hounsfield.packages.manifest import InputSpec
from hounsfield.preparing import prepare, restore_labels, restore_scores
from hounsfield.volume import Geometry, Volume, all_orientations

SHAPE = (14, 22, 18)


def spec(channels: int = 1, **more: object) -> InputSpec:
    names = [{"name": f"c{n}", "modality": "MR"} for n in range(channels)]
    return InputSpec.model_validate({"channels": names, "window": {"shape": (8, 8, 8), "pad_value": -9.0}, **more})


def scan(seed: int = 0, **more: object) -> Volume:
    array = np.random.default_rng(seed).integers(-1000, 2000, SHAPE).astype(np.int16)
    return Volume(array, Geometry.from_parts(SHAPE, (2.0, 1.0, 1.0), frame_of_reference_uid="1.2"), **more)


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_padding_is_left_out_of_statistics_and_gets_its_value(dtype: type) -> None:
    array = scan().array.astype(dtype)
    padding = np.random.default_rng(1).random(SHAPE) < 0.4
    array[padding] = -32768
    volume = Volume(array, scan().geometry, padding=padding)
    made = prepare(volume, spec(intensity=[{"step": "z-score"}], orientation="RPI"))
    kept = array[~padding].astype(np.float64)
    wanted = ((array.astype(np.float64) - kept.mean()) / kept.std()).astype(np.float32)
    wanted[padding] = -9.0
    np.testing.assert_allclose(made.array[0], wanted[::-1, :, ::-1], atol=1e-6)
    given = prepare(volume, spec(intensity=[{"step": "z-score"}]), padding_value=3.5)
    assert (given.array[0][padding] == 3.5).all()


def test_padding_does_not_bleed_its_stored_number_into_neighbours() -> None:
    array = np.full(SHAPE, 100, np.int16)
    padding = np.zeros(SHAPE, bool)
    padding[:, :5] = True
    array[padding] = -32768
    made = prepare(Volume(array, scan().geometry, padding=padding), spec(spacing_mm=(1.0, 1.5, 0.7)), padding_value=0.0)
    assert made.array.min() == 0
    assert made.array.max() == pytest.approx(100)


def test_a_plain_scan_is_bit_exact() -> None:
    for code in all_orientations():
        made = prepare(scan(), spec(orientation=code))
        assert made.array.dtype == np.float32
        assert made.geometry.orientation == code
        back = made.orient.invert(made.array[0], made.source)
        np.testing.assert_array_equal(back, scan().array)


def test_same_spacing_is_not_resampled() -> None:
    made = prepare(scan(), spec(spacing_mm=(2.0, 1.0, 1.0), interpolation="cubic"))
    assert made.resample is None
    np.testing.assert_array_equal(made.array[0], scan().array)


def test_geometry_is_predicted_and_steps_lead_there() -> None:
    made = prepare(scan(), spec(spacing_mm=(1.3, 1.3, 1.3), orientation="PIR"))
    geometry = made.source
    for step in made.steps:
        geometry = step.geometry(geometry)
    assert geometry == made.geometry
    assert made.array.shape == (1, *geometry.shape)


def test_a_second_channel_is_brought_onto_the_first() -> None:
    shape = (20, 30, 26)
    other = Geometry.from_parts(shape, (1.5, 0.9, 1.1), (-2.0, 3.0, -4.0), frame_of_reference_uid="1.2")
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1)
    x, y, z = np.moveaxis(other.index_to_mm(index), -1, 0)
    plane = (2 * x - y + 0.5 * z + 7).astype(np.float32)
    made = prepare([scan(), Volume(plane, other)], spec(2, orientation="RAS"))
    where = np.stack(np.meshgrid(*(np.arange(n) for n in made.shape), indexing="ij"), -1)
    x, y, z = np.moveaxis(made.geometry.index_to_mm(where), -1, 0)
    at = other.mm_to_index(made.geometry.index_to_mm(where))
    inside = ((at >= 0) & (at <= np.asarray(shape) - 1)).all(-1)
    outside = ((at < -0.5) | (at > np.asarray(shape) - 0.5)).any(-1)
    np.testing.assert_allclose(made.array[1][inside], (2 * x - y + 0.5 * z + 7)[inside], atol=1e-4)
    assert (made.array[1][outside] == -9).all()
    assert inside.mean() > 0.3
    assert outside.any()


def test_what_cannot_be_prepared_is_refused() -> None:
    with pytest.raises(InputError, match="2 scans were given for 1"):
        prepare([scan(), scan()], spec())
    elsewhere = Geometry.from_parts(SHAPE, (1.0, 1.0, 1.0), frame_of_reference_uid="9.9")
    with pytest.raises(GeometryRefused, match="frames of reference"):
        prepare([scan(), Volume(scan().array, elsewhere)], spec(2))
    sheared = scan().geometry.affine.copy()
    sheared[:3, 0] += sheared[:3, 1]
    with pytest.raises(GeometryRefused, match="right angles"):
        prepare(Volume(scan().array, Geometry(SHAPE, sheared)), spec())
    with pytest.raises(InputError, match="not finite"):
        prepare(Volume(np.full(SHAPE, np.nan, np.float32), scan().geometry), spec())
    with pytest.raises(InputError, match="padding"):
        prepare(scan(padding=np.ones(SHAPE, bool)), spec(intensity=[{"step": "z-score"}]))


@pytest.mark.parametrize("code", ["LPS", "IRA", "PSR"])
def test_labels_come_back_from_the_nearest_voxel(code: str) -> None:
    made = prepare(scan(), spec(orientation=code, spacing_mm=(0.7, 3.1, 1.4)))
    labels = np.random.default_rng(3).integers(0, 200, made.shape).astype(np.uint8)
    back = restore_labels(labels, made)
    assert back.geometry == made.source
    index = np.stack(np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij"), -1)
    at = made.geometry.mm_to_index(made.source.index_to_mm(index))
    distance = np.abs(at - np.rint(at)).max(-1)
    nearest = np.clip(np.rint(at), 0, np.asarray(made.shape) - 1).astype(int)
    clear = distance < 0.49
    np.testing.assert_array_equal(back.array[clear], labels[tuple(np.moveaxis(nearest, -1, 0))][clear])


def test_identity_labels_come_back_bit_exact() -> None:
    for code in all_orientations():
        made = prepare(scan(), spec(orientation=code))
        labels = np.arange(np.prod(made.shape), dtype=np.uint32).reshape(made.shape)
        back = restore_labels(labels, made).array
        np.testing.assert_array_equal(made.orient.apply(back, made.source), labels)


def test_scores_are_interpolated_class_by_class() -> None:
    made = prepare(scan(), spec(spacing_mm=(1.0, 2.0, 2.0), orientation="RAS"))
    index = np.stack(np.meshgrid(*(np.arange(n) for n in made.shape), indexing="ij"), -1)
    x, y, z = np.moveaxis(made.geometry.index_to_mm(index), -1, 0)
    scores = restore_scores(np.stack((x, y - z)).astype(np.float32), made)
    there = np.stack(np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij"), -1)
    x, y, z = np.moveaxis(made.source.index_to_mm(there), -1, 0)
    core = (slice(1, -1),) * 3
    np.testing.assert_allclose(scores[0][core], x[core], atol=1e-4)
    np.testing.assert_allclose(scores[1][core], (y - z)[core], atol=1e-4)
