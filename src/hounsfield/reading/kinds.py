"""What an instance is, before anything is known of its neighbours."""

from __future__ import annotations

from typing import Final

from hounsfield.reading.instances import Instance
from hounsfield.reading.series import Issue, SeriesKind

_DERIVED_MODALITIES: Final = frozenset(
    (
        "SEG",
        "SR",
        "PR",
        "KO",
        "RTSTRUCT",
        "RTPLAN",
        "RTDOSE",
        "RTRECORD",
        "REG",
        "RWV",
        "ANN",
        "DOC",
        "PLAN",
        "FID",
        "M3D",
    )
)
_DERIVED_CLASSES: Final = (
    "1.2.840.10008.5.1.4.1.1.66",  # registration, fiducials, segmentation, label map, surface
    "1.2.840.10008.5.1.4.1.1.67",  # real world value mapping
    "1.2.840.10008.5.1.4.1.1.30",  # parametric map
    "1.2.840.10008.5.1.4.1.1.88",  # structured reports
    "1.2.840.10008.5.1.4.1.1.91",  # microscopy annotations
    "1.2.840.10008.5.1.4.1.1.104",  # encapsulated documents
    "1.2.840.10008.5.1.4.1.1.11",  # presentation states
    "1.2.840.10008.5.1.4.1.1.481",  # radiotherapy
    "1.2.840.10008.5.1.4.1.1.9",  # waveforms
    "1.2.840.10008.5.1.4.1.1.4.2",  # MR spectroscopy
)
_SLIDE_CLASS: Final = "1.2.840.10008.5.1.4.1.1.77.1.6"
_PROJECTION_CLASSES: Final = (
    "1.2.840.10008.5.1.4.1.1.1",  # CR, and DX, MG, IO below 1.1, 1.2, 1.3
    "1.2.840.10008.5.1.4.1.1.12",  # XA, RF
)
_PROJECTION_MODALITIES: Final = frozenset(("CR", "DX", "MG", "IO", "PX", "RG", "XA", "RF"))
_GREY: Final = ("MONOCHROME1", "MONOCHROME2", "")


def _is_class(uid: str, roots: tuple[str, ...]) -> bool:
    return any(uid == root or uid.startswith(root + ".") for root in roots)


def kind_of(instance: Instance) -> tuple[SeriesKind, Issue | None]:
    """What an instance is, and what stands in the way of reading it, if anything does."""
    modality = str(instance.header.get("Modality", ""))
    stored = instance.format
    if modality in _DERIVED_MODALITIES or _is_class(instance.sop_class_uid, _DERIVED_CLASSES):
        return SeriesKind.DERIVED, None
    if modality == "SM" or instance.sop_class_uid == _SLIDE_CLASS:
        return SeriesKind.SLIDE, None
    if instance.pixels is None:
        if "Rows" not in instance.header:
            return SeriesKind.DERIVED, None
        return SeriesKind.UNREADABLE, Issue(
            "pixels", "refuse", "it has no pixel data", "fetch it again from its source"
        )
    if stored.samples > 1 or stored.photometric not in _GREY:
        return SeriesKind.COLOUR, None
    first = instance.first_frame
    types = [] if first is None else [part.upper() for part in first.image_type]
    if "LOCALIZER" in types or "SCOUT" in types:
        return SeriesKind.LOCALIZER, None
    if "MOSAIC" in types:
        message = "it is a Siemens mosaic, many slices in one image"
        return SeriesKind.UNREADABLE, Issue("mosaic", "refuse", message, "convert it to enhanced or classic DICOM")
    placed = first is not None and first.position is not None
    if not placed and (modality in _PROJECTION_MODALITIES or _is_class(instance.sop_class_uid, _PROJECTION_CLASSES)):
        return _projection(instance)
    return SeriesKind.VOLUME, None


def _projection(instance: Instance) -> tuple[SeriesKind, Issue | None]:
    if instance.frame_count == 1:
        return SeriesKind.PROJECTION, None
    message = f"it is a film of {instance.frame_count} frames without positions, not a volume"
    return SeriesKind.UNREADABLE, Issue("cine", "refuse", message, "choose another series")
