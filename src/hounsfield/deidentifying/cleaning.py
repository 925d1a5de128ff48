"""One data set without the person: elements judged one by one, into sequences as deep as they go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from hounsfield.deidentifying.pseudonyms import Pseudonyms
from hounsfield.deidentifying.rules import SCHEMES, Options, action, is_code_string, is_image_class, may_be_drawn_on
from hounsfield.errors import DomainRefused

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.dataelem import DataElement

_METHOD: Final = "hounsfield: PS3.15 Basic Profile, only known safe elements stay"
_DUMMY_DATE, _DUMMY_TIME = "19000101", "000000"
#: Codes of CID 7050.
_BASIC: Final = ("113100", "Basic Application Confidentiality Profile")
_LONGITUDINAL: Final = ("113107", "Retain Longitudinal Temporal Information Modified Dates Option")
_CHARACTERISTICS: Final = ("113108", "Retain Patient Characteristics Option")
_UIDS: Final = ("113110", "Retain UIDs Option")
_HEADS: Final = ("HEAD", "BRAIN", "SKULL", "FACE", "NECK", "HEADNECK")
_REMEDY: Final = "look at it yourself, and say so with --pixels-checked only if nothing is written on it"


@dataclass(frozen=True, eq=False)
class Cleaned:
    """A data set without the person, the pseudonym, and what a person should still look at."""

    dataset: Dataset
    pseudonym: str
    warnings: tuple[str, ...] = ()


def clean(source: Dataset, pseudonyms: Pseudonyms, options: Options, *, pixels_checked: bool = False) -> Cleaned:
    """De-identify one data set; the source is not changed.

    Parameters
    ----------
    pixels_checked
        A person has looked at the pixels and found nothing written on them.

    Raises
    ------
    DomainRefused
        If it is no image (reports, presentation states, documents), or something may be written on
        its pixels and nobody has looked.
    """
    sop_class = str(source.get("SOPClassUID", ""))
    if not is_image_class(sop_class) or "PixelData" not in source:
        raise DomainRefused("it is no image or segmentation: only a person can clean it", "leave it out")
    if not pixels_checked and str(source.get("BurnedInAnnotation", "")).strip().upper() == "YES":
        raise DomainRefused("its header says that something is written on its pixels", _REMEDY)
    if not pixels_checked and may_be_drawn_on(sop_class):
        raise DomainRefused("images of this kind often have names written on their pixels", _REMEDY)
    patient = str(source.get("PatientID", "") or source.get("StudyInstanceUID", ""))
    person = pseudonyms.person(patient, str(source.get("IssuerOfPatientID", "") or ""))
    found = _Cleaner(pseudonyms, options, person).dataset(source)
    _identify(found, source, person, options)
    _must_have(found)
    return Cleaned(found, person, _warnings(source))


@dataclass(frozen=True)
class _Cleaner:
    pseudonyms: Pseudonyms
    options: Options
    person: str

    def dataset(self, source: Dataset) -> Dataset:
        """A new data set with what stays."""
        from pydicom import Dataset

        found = Dataset()
        for tag in source.keys():  # noqa: SIM118 - iterating a Dataset gives elements
            element = source[tag]
            kept = self.element(element)
            if kept is not None:
                found.add(kept)
        return found

    def element(self, element: DataElement) -> DataElement | None:
        """What stays of one element."""
        from pydicom.dataelem import DataElement

        vr = str(element.VR)
        done = action(int(element.tag), vr, element.keyword, self.options)
        if done == "remove":
            return None
        if done == "empty":
            return DataElement(element.tag, vr, [] if vr == "SQ" else None)
        if done == "recurse":
            items = [self.dataset(item) for item in element.value or [] if not _is_local_code(item)]
            items = [item for item in items if len(item)]
            return DataElement(element.tag, vr, items) if items or not element.value else None
        if done in ("uid", "date"):
            return DataElement(element.tag, vr, _each(element.value, self._uid if done == "uid" else self._date(vr)))
        if vr == "CS" and not all(map(is_code_string, _list(element.value))):
            return None
        if vr == "AS" and str(element.value) > "089Y" and str(element.value).endswith("Y"):
            return DataElement(element.tag, vr, "090Y")
        return element

    def _uid(self, value: str) -> str:
        return value if self.options.keep_uids else self.pseudonyms.uid(str(value))

    def _date(self, vr: str) -> Any:
        return (lambda value: value) if vr == "TM" else lambda value: self.pseudonyms.moved(str(value), self.person)


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) or type(value).__name__ == "MultiValue" else [value]


def _each(value: Any, change: Any) -> Any:
    changed = [change(one) for one in _list(value) if one not in (None, "")]
    return changed[0] if len(changed) == 1 else changed or None


def _is_local_code(item: Dataset) -> bool:
    """A code of a scheme whose meaning may be any text."""
    coded = any(keyword in item for keyword in ("CodeMeaning", "CodeValue", "LongCodeValue", "URNCodeValue"))
    return coded and str(item.get("CodingSchemeDesignator", "")) not in SCHEMES


def _identify(found: Dataset, source: Dataset, person: str, options: Options) -> None:
    """Say who stands there now, and what was done (PS3.15 E.1.1, PS3.3 C.7.1.1)."""
    from pydicom import Dataset

    found.PatientName = found.PatientID = person
    for keyword in ("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber", "StudyID"):
        if keyword not in found:
            setattr(found, keyword, None)
    found.ReferringPhysicianName = None
    found.PatientIdentityRemoved = "YES"
    found.DeidentificationMethod = _METHOD
    asked = (
        (_LONGITUDINAL, options.modified_dates),
        (_CHARACTERISTICS, options.patient_characteristics),
        (_UIDS, options.keep_uids),
    )
    found.DeidentificationMethodCodeSequence = []
    for value, meaning in (_BASIC, *(code for code, wanted in asked if wanted)):
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
        found.DeidentificationMethodCodeSequence.append(item)
    found.LongitudinalTemporalInformationModified = "MODIFIED" if options.modified_dates else "REMOVED"
    if "SpecificCharacterSet" in source:
        found.SpecificCharacterSet = source.SpecificCharacterSet


def _must_have(found: Dataset) -> None:
    """Dummy values where an object would be invalid without any (action D of table E.1-1)."""
    enhanced = "NumberOfFrames" in found or str(found.get("Modality", "")) in ("PT", "SEG")
    for keyword in ("ContentDate", "SeriesDate", "AcquisitionDate"):
        if enhanced and not found.get(keyword):
            setattr(found, keyword, _DUMMY_DATE)
    for keyword in ("ContentTime", "SeriesTime", "AcquisitionTime"):
        if enhanced and not found.get(keyword):
            setattr(found, keyword, _DUMMY_TIME)
    if "SharedFunctionalGroupsSequence" in found:
        if not found.get("AcquisitionDateTime"):
            found.AcquisitionDateTime = _DUMMY_DATE + _DUMMY_TIME
        found.DeviceSerialNumber = "removed"
    if "SegmentSequence" in found:
        found.ContentLabel, found.ContentDescription = "SEGMENTATION", None
        found.ContentCreatorName = None
        for item in found.SegmentSequence:
            if str(item.get("SegmentAlgorithmType", "")) in ("AUTOMATIC", "SEMIAUTOMATIC"):
                item.SegmentAlgorithmName = "removed"
            item.SegmentLabel = f"Segment {item.get('SegmentNumber', '')}".strip()


def _warnings(source: Dataset) -> tuple[str, ...]:
    part = str(source.get("BodyPartExamined", "")).upper()
    described = f"{source.get('StudyDescription', '')} {source.get('SeriesDescription', '')}".upper()
    told = []
    if source.get("Modality") in ("CT", "MR", "PT") and any(one in part or one in described for one in _HEADS):
        told.append("a face can be made from scans of the head; features are not removed")
    if str(source.get("BurnedInAnnotation", "")).strip().upper() != "NO":
        told.append("the header does not say that nothing is written on the pixels; look at some")
    return tuple(told)
