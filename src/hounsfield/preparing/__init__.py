"""Invertible steps between a scan and what a network is given; each predicts its geometry."""

from hounsfield.preparing.domain import DomainCheck, check_domain
from hounsfield.preparing.given import with_labels
from hounsfield.preparing.prepare import prepare, resampling
from hounsfield.preparing.prepared import Prepared
from hounsfield.preparing.restoring import restore_labels, restore_scores, source_view
from hounsfield.preparing.steps import CropPad, Orient, Resample, Step

__all__ = [
    "CropPad",
    "DomainCheck",
    "Orient",
    "Prepared",
    "Resample",
    "Step",
    "check_domain",
    "prepare",
    "resampling",
    "restore_labels",
    "restore_scores",
    "source_view",
    "with_labels",
]
