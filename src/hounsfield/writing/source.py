"""The headers of the stored images behind a volume: what results inherit and reference."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from hounsfield.errors import OutputError
from hounsfield.volume import Provenance, SourceFrame, Volume

if TYPE_CHECKING:
    from pydicom import Dataset

# Type 2 attributes of the Patient and General Study modules (PS3.3 C.7.1.1, C.7.2.1): they must
# be present in every object, empty where the source does not know.
_MUST_BE_PRESENT: Final = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
)
_DATES: Final = ("PatientBirthDate", "StudyDate")
_NIFTI_INSTEAD: Final = "write NIfTI, JSON and the report instead"


@dataclass(frozen=True, eq=False)
class SourceImages:
    """The stored instances behind a volume, headers only.

    Parameters
    ----------
    datasets
        One per instance, without pixel data, in the order of first use.
    frames
        The frame behind each slice k; empty when the grid was resampled.
    """

    datasets: tuple[Dataset, ...]
    frames: tuple[SourceFrame, ...]

    @property
    def first(self) -> Dataset:
        """The header whose patient and study are inherited."""
        return self.datasets[0]


def why_not_dicom(volume: Volume, located: bool = True) -> str | None:
    """Why no DICOM result can be written for this volume, or ``None`` if one can.

    Parameters
    ----------
    located
        Whether the result says where something lies, which needs a frame of reference.
    """
    provenance = volume.provenance
    if provenance.format != "dicom":
        return f"the scan came as {provenance.format}, which carries no patient, study or series to attach to"
    if not provenance.study_instance_uid or not provenance.series_instance_uid:
        return "the scan has no Study or Series Instance UID"
    if located and volume.geometry.frame_of_reference_uid is None:
        return "the scan has no Frame of Reference UID, so a result could not say where it lies"
    if not provenance.frames and not provenance.source_files:
        return "the files behind the scan are not known"
    return None


def read_source(volume: Volume, located: bool = True) -> SourceImages:
    """Read the headers behind ``volume`` again, without pixel data; ``located`` as in :func:`why_not_dicom`.

    Raises
    ------
    OutputError
        If no DICOM result can refer to this scan, or its files changed since they were read.
    """
    reason = why_not_dicom(volume, located)
    if reason is not None:
        raise OutputError(reason, _NIFTI_INSTEAD, volume.provenance.source)
    provenance = volume.provenance
    datasets = [_header(path) for path in dict.fromkeys(_paths(provenance))]
    wanted = {frame.sop_instance_uid for frame in provenance.frames}
    found = {str(dataset.get("SOPInstanceUID", "")) for dataset in datasets}
    belongs = all(str(d.get("StudyInstanceUID", "")) == provenance.study_instance_uid for d in datasets)
    if not datasets or not wanted <= found or not belongs:
        raise OutputError("the files of the scan changed while it was worked on", "run it again", provenance.source)
    return SourceImages(tuple(datasets), provenance.frames)


def _paths(provenance: Provenance) -> list[Any]:
    return [frame.path for frame in provenance.frames] or list(provenance.source_files)


def _header(path: Any) -> Dataset:
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        dataset = dcmread(path, stop_before_pixels=True, force=True)
    except (OSError, InvalidDicomError) as error:
        raise OutputError("a file of the scan cannot be read again", "keep the scan in place during the run") from error
    for keyword in _MUST_BE_PRESENT:
        if keyword not in dataset:
            setattr(dataset, keyword, None)
    _to_utf8(dataset)
    _drop_invalid(dataset)
    return dataset


def _to_utf8(dataset: Dataset) -> None:
    """Decode all text with the source's character set; results are written in UTF-8 (PS3.5 6.1.2.3).

    Sources with an empty, doubled or wrong character set are common, and our own texts need
    more letters than the default repertoire has.
    """
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.decode()
    dataset.SpecificCharacterSet = "ISO_IR 192"


def _drop_invalid(dataset: Dataset) -> None:
    """Empty what would make the result itself invalid: never a changed value, only none."""
    if dataset.PatientSex not in (None, "", "M", "F", "O"):
        dataset.PatientSex = None
    if not re.fullmatch(r"(\d{3}[DWMY])?", str(dataset.get("PatientAge") or "")):
        del dataset.PatientAge
    for keyword in _DATES:
        if not re.fullmatch(r"(\d{8})?", str(dataset.get(keyword) or "")):
            setattr(dataset, keyword, None)
    if not re.fullmatch(r"(\d{2,6}(\.\d{1,6})?)?", str(dataset.get("StudyTime") or "")):
        dataset.StudyTime = None
