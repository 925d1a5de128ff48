"""How good an answer is: overlap, surface distance, volume error, with intervals over patients."""

from hounsfield.evaluation.bootstrap import Interval, bootstrap_mean
from hounsfield.evaluation.overlap import dice, iou, volume_error_ml
from hounsfield.evaluation.surface import hausdorff95_mm, surface_dice

__all__ = [
    "Interval",
    "bootstrap_mean",
    "dice",
    "hausdorff95_mm",
    "iou",
    "surface_dice",
    "volume_error_ml",
]
