"""Clean-up steps on masks small enough to check by eye."""

from __future__ import annotations

import numpy as np

from hounsfield.inference.clean_up import clean_up
from hounsfield.packages.manifest import KeepLargest, KeepNearest, RemoveSmall
from hounsfield.volume import Geometry, LabelMap


def labels() -> LabelMap:
    array = np.zeros((3, 6, 10), np.uint8)
    array[1, 1:4, 1:3] = 1  # six voxels
    array[1, 1:4, 3] = 2  # three, touching them
    array[1, 5, 8:] = 2  # two, apart
    array[0, 0, 9] = 1  # one, apart
    return LabelMap(array, Geometry.from_parts(array.shape, (2.0, 1.0, 1.0)))


def test_keep_largest_each_or_joined() -> None:
    each = clean_up(labels(), [KeepLargest(step="keep-largest", segments=(1, 2))]).array
    assert (np.count_nonzero(each == 1), np.count_nonzero(each == 2)) == (6, 3)
    joined = clean_up(labels(), [KeepLargest(step="keep-largest", segments=(1, 2), joined=True)]).array
    assert (np.count_nonzero(joined == 1), np.count_nonzero(joined == 2)) == (6, 3)
    only = clean_up(labels(), [KeepLargest(step="keep-largest", segments=(2,))]).array
    assert (np.count_nonzero(only == 1), np.count_nonzero(only == 2)) == (7, 3)


def test_diagonal_neighbours_are_connected() -> None:
    array = np.zeros((3, 3, 3), np.uint8)
    array[0, 0, 0] = array[1, 1, 1] = array[2, 2, 2] = 1
    cleaned = clean_up(
        LabelMap(array, Geometry.from_parts((3, 3, 3))), [KeepLargest(step="keep-largest", segments=(1,))]
    )
    assert np.array_equal(cleaned.array, array)


def test_remove_small_counts_millimetres() -> None:
    cleaned = clean_up(labels(), [RemoveSmall(step="remove-small", segments=(1, 2), volume_mm3=6.0)]).array
    assert (np.count_nonzero(cleaned == 1), np.count_nonzero(cleaned == 2)) == (6, 3)


def test_the_input_is_left_alone_and_empty_labels_pass() -> None:
    before = labels()
    clean_up(before, [KeepLargest(step="keep-largest", segments=(1, 2))])
    assert np.array_equal(before.array, labels().array)
    empty = LabelMap(np.zeros((2, 2, 2), np.uint8), Geometry.from_parts((2, 2, 2)))
    assert not clean_up(empty, [KeepLargest(step="keep-largest", segments=(1,))]).array.any()


def test_keep_nearest_keeps_the_component_at_the_point_and_none_that_is_too_far() -> None:
    """Label 2 has three voxels in column 3 and two in columns 8 and 9, apart; 1 mm columns."""
    step = KeepNearest(step="keep-nearest", segments=(2,), within_mm=3.0)
    at_two = clean_up(labels(), [step], (8.0, 5.0, 2.0)).array
    assert np.argwhere(at_two == 2).tolist() == [[1, 5, 8], [1, 5, 9]]
    assert np.count_nonzero(at_two == 1) == 7, "other segments stay"
    assert not (clean_up(labels(), [step], (-20.0, 0.0, 0.0)).array == 2).any()
    assert (clean_up(labels(), [step]).array == 2).sum() == 5, "without a point nothing is dropped"
