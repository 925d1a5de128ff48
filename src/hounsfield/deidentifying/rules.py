"""What stays of a data set, and how: the Basic Application Level Confidentiality Profile (PS3.15 E.2).

The profile lists what must go; here it is the other way round. An element stays only when its group
is one of image acquisition and pixels, and its value is a number, a code string, or one of the few
texts named below: whatever the standard, a vendor or a user adds later is removed without being
known. A test holds this against every attribute of table E.1-1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

Action = Literal["keep", "remove", "empty", "uid", "date", "recurse"]


@dataclass(frozen=True)
class Options:
    """Options of the profile (PS3.15 table E.3-1); what is not asked for is not kept.

    Parameters
    ----------
    patient_characteristics
        Keep sex, age, size and weight (113108). Ages of 90 and more become ``090Y``.
    modified_dates
        Move all dates of a patient by the same number of days (113107) instead of removing them.
    keep_uids
        Keep UIDs (113110): the result can be matched with the original by whoever has that.
    """

    patient_characteristics: bool = False
    modified_dates: bool = False
    keep_uids: bool = False


#: Groups of image description, geometry, acquisition and pixels; all others go.
_GROUPS: Final = frozenset((0x0008, 0x0018, 0x0020, 0x0028, 0x0054, 0x0062, 0x2050, 0x5200, 0x7FE0))
#: What stays of group 0040: codes, units, real world values.
_OF_0040: Final = frozenset((0x08EA, 0xA043, 0xA168, 0xA170)) | frozenset(range(0x9000, 0xA000))
#: Sequences of group 0008 that stay, with everything in them judged by the same rules.
_SEQUENCES_0008: Final = frozenset((0x1115, 0x1140, 0x114A, 0x2112, 0x2218, 0x2220, 0x2228, 0x2230, 0x9124, 0x9215))
_REMOVED: Final = frozenset((0x0018100A, 0x00185011, 0x00203401))
#: Texts that say how an image was made, in words of the manufacturer.
_TEXTS: Final = frozenset(
    (
        "Manufacturer",
        "ManufacturerModelName",
        "SoftwareVersions",
        "SequenceName",
        "PulseSequenceName",
        "ConvolutionKernel",
        "FilterType",
        "ReceiveCoilName",
        "TransmitCoilName",
        "ReceiveCoilManufacturerName",
        "TransmitCoilManufacturerName",
        "MultiCoilElementName",
        "MultiCoilConfiguration",
        "DimensionDescriptionLabel",
        "StackID",
        "Radiopharmaceutical",
        "ReconstructionMethod",
        "AttenuationCorrectionMethod",
        "RandomsCorrectionMethod",
        "ScatterCorrectionMethod",
        "RescaleType",
        "CodeValue",
        "LongCodeValue",
        "CodingSchemeDesignator",
        "CodeMeaning",
        "ImagedNucleus",
    )
)
#: Texts and dates that the modules of images must have, and may have without a value.
_EMPTIED: Final = frozenset(
    (
        "StudyDate",
        "StudyTime",
        "ContentDate",
        "ContentTime",
        "AccessionNumber",
        "ReferringPhysicianName",
        "StudyID",
        "PatientBirthDate",
        "PatientSex",
        "PatientName",
        "PatientID",
        "PositionReferenceIndicator",
        "ContrastBolusAgent",
        "AcquisitionContextSequence",
        "ContentCreatorName",
    )
)
_CHARACTERISTICS: Final = frozenset(("PatientSex", "PatientAge", "PatientSize", "PatientWeight"))
_NUMBERS: Final = frozenset(
    ("US", "SS", "UL", "SL", "UV", "SV", "FL", "FD", "OW", "OF", "OD", "OL", "OV", "AT", "DS", "IS")
)
_CODE_STRING: Final = re.compile(r"[A-Z0-9_ .+-]{0,16}")
#: Coding schemes whose meanings are fixed; the texts of others may say anything.
SCHEMES: Final = frozenset(("SCT", "SRT", "SNM3", "DCM", "UCUM", "LN", "RADLEX", "FMA", "UMLS", "NCIt", "99HOUNSFIELD"))


def action(tag: int, vr: str, keyword: str, options: Options) -> Action:
    """What happens to an element; codes, code strings and numbers are looked at again by their value."""
    group, element = tag >> 16, tag & 0xFFFF
    if keyword in _CHARACTERISTICS and options.patient_characteristics:
        return "keep"
    if keyword in _EMPTIED and not (vr in ("DA", "TM") and options.modified_dates and keyword != "PatientBirthDate"):
        return "empty"
    if group & 1 or tag in _REMOVED or not (group in _GROUPS or (group == 0x0040 and element in _OF_0040)):
        return "remove"
    if vr == "SQ":
        return "remove" if group == 0x0008 and element not in _SEQUENCES_0008 else "recurse"
    if vr in ("DA", "TM", "DT"):
        return "date" if options.modified_dates else "remove"
    if vr == "UI":
        return "uid"
    if vr in _NUMBERS or vr == "CS" or keyword in _TEXTS:
        return "keep"
    return "keep" if vr == "OB" and (group == 0x7FE0 or tag == 0x00282000) else "remove"


def is_code_string(value: object) -> bool:
    """Whether a value keeps to the grammar of CS (PS3.5 6.2): in others a name may hide."""
    return _CODE_STRING.fullmatch(str(value)) is not None


_NO_IMAGES: Final = (
    *("4.2", "9", "11", "30", "66.1", "66.2", "66.3", "66.5", "66.6", "67", "68", "77.1.6", "78", "79", "80", "81"),
    *("88", "91.1", "104", "129", "131", "200", "481.3", "481.4", "481.5", "481.8", "481.9", "481.10", "481.11"),
    *("501", "601"),
)


def is_image_class(sop_class_uid: str) -> bool:
    """Whether a SOP class is an image or a segmentation, which these rules can clean.

    Not: reports, presentation states, documents, waveforms, plans, and slides, whose labels show names.
    """
    root = "1.2.840.10008.5.1.4.1.1."
    if not sop_class_uid.startswith(root):
        return False
    end = sop_class_uid[len(root) :]
    return not any(end == one or end.startswith(one + ".") for one in _NO_IMAGES)


#: Secondary capture, ultrasound, angiography, fluoroscopy, visible light: letters in the pixels are usual.
_DRAWN_ON: Final = ("7", "6.1", "6.2", "3.1", "12.1", "12.2", "77.1")


def may_be_drawn_on(sop_class_uid: str) -> bool:
    """Whether images of this class often carry names in their pixels."""
    end = sop_class_uid.removeprefix("1.2.840.10008.5.1.4.1.1.")
    return any(end == one or end.startswith(one + ".") for one in _DRAWN_ON)
