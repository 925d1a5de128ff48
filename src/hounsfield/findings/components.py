"""Connected components of lesion segments, and the numbering of what is stored per lesion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hounsfield.findings.segment import Segment

MAX_COMPONENTS: Final = 100
Box = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class Components:
    """The connected components of one segment, 26-connected, largest first.

    Parameters
    ----------
    box
        Where ``array`` lies in the label map, slices along (k, j, i).
    array
        (slices, rows, columns) int32 of the box: 0 is background, components from 1; ties in
        size go to the one met first in index order.
    sizes
        Voxels of each component, not increasing.
    """

    box: Box
    array: NDArray[np.int32]
    sizes: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many components there are."""
        return len(self.sizes)


@dataclass(frozen=True)
class Instance:
    """One stored mask: a whole segment, one component, or the remaining components (0)."""

    number: int
    segment: Segment
    component: int | None


@dataclass(frozen=True, eq=False)
class Instances:
    """A label map in which each lesion has its own number.

    Parameters
    ----------
    array
        (slices, rows, columns) unsigned, 0 is background, else ``Instance.number``.
    items
        In the order of their numbers, which count from 1 without holes.
    """

    array: NDArray[Any]
    items: tuple[Instance, ...]


def segment_boxes(array: NDArray[Any], count: int) -> tuple[Box | None, ...]:
    """The bounding box of each label 1..``count`` of a (slices, rows, columns) array, or None."""
    from scipy import ndimage

    found = ndimage.find_objects(array, max_label=count)
    return tuple(found)


def connected_components(array: NDArray[Any], number: int, box: Box) -> Components:
    """The 26-connected components of label ``number`` inside ``box``, largest first.

    Parameters
    ----------
    array
        (slices, rows, columns) label map.
    """
    from scipy import ndimage

    labelled, count = ndimage.label(array[box] == number, structure=np.ones((3, 3, 3), bool), output=np.int32)
    sizes = np.bincount(labelled.ravel(), minlength=count + 1)[1:]
    order = np.argsort(-sizes, kind="stable")
    rank = np.zeros(count + 1, np.int32)
    rank[order + 1] = np.arange(1, count + 1)
    return Components(box, rank[labelled], tuple(int(n) for n in sizes[order]))


def split_instances(
    array: NDArray[Any], segments: Sequence[Segment], max_components: int = MAX_COMPONENTS
) -> Instances:
    """Give each lesion its own number; other segments stay whole.

    A lesion segment without a voxel keeps one (empty) item. Beyond ``max_components`` the
    smaller ones share one last item whose ``component`` is 0, so nothing is dropped.

    Parameters
    ----------
    array
        (slices, rows, columns) label map, unsigned.
    """
    boxes = segment_boxes(array, max((s.number for s in segments), default=0))
    if not any(segment.lesion for segment in segments):
        whole = tuple(Instance(n, s, None) for n, s in enumerate(segments, 1))
        if all(item.number == item.segment.number for item in whole):
            return Instances(array, whole)
    result = np.zeros(array.shape, np.uint16)
    items: list[Instance] = []
    for segment in segments:
        box = boxes[segment.number - 1]
        if box is None or not segment.lesion:
            items.append(Instance(len(items) + 1, segment, None))
            if box is not None:
                result[box][array[box] == segment.number] = len(items)
            continue
        components = connected_components(array, segment.number, box)
        kept = min(components.count, max_components)
        first = len(items)
        items += [Instance(first + n, segment, n) for n in range(1, kept + 1)]
        if components.count > kept:
            items.append(Instance(len(items) + 1, segment, 0))
        shown = np.minimum(components.array, kept + 1)
        result[box] += np.where(shown > 0, shown + first, 0).astype(np.uint16)
    return Instances(result if len(items) > 255 else result.astype(np.uint8), tuple(items))
