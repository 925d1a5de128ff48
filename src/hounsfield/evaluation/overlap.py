"""Overlap of two masks and the error of a volume."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


def dice(found: Mask, reference: Mask) -> float:
    """Dice coefficient 2|A∩B| / (|A|+|B|) (Dice 1945) of two masks of equal shape.

    Two empty masks agree perfectly (1.0); one empty mask gives 0.0.
    """
    total = int(found.sum()) + int(reference.sum())
    return 1.0 if total == 0 else 2.0 * int((found & reference).sum()) / total


def iou(found: Mask, reference: Mask) -> float:
    """Intersection over union |A∩B| / |A∪B| (Jaccard 1901); 1.0 when both are empty."""
    union = int((found | reference).sum())
    return 1.0 if union == 0 else int((found & reference).sum()) / union


def volume_error_ml(found: Mask, reference: Mask, voxel_volume_mm3: float) -> float:
    """Signed volume difference, found minus reference, in ml."""
    return (int(found.sum()) - int(reference.sum())) * voxel_volume_mm3 / 1000.0


def relative_volume_error(found: Mask, reference: Mask) -> float:
    """Signed volume difference as a fraction of the reference volume; 0 when both are empty.

    Infinite when only the reference is empty.
    """
    size, wanted = int(found.sum()), int(reference.sum())
    if wanted == 0:
        return 0.0 if size == 0 else math.inf
    return (size - wanted) / wanted
