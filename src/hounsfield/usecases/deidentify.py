"""De-identify DICOM files: a folder in, a folder of pseudonyms out, and a report of what was left out."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hounsfield.deidentifying.cleaning import clean
from hounsfield.deidentifying.pseudonyms import Pseudonyms, read_key
from hounsfield.deidentifying.rules import Options
from hounsfield.errors import DomainRefused, NothingToRead, NotReadable, OutputExists, SettingsError
from hounsfield.reading.elements import Malformed
from hounsfield.reading.headers import read_header
from hounsfield.reading.limits import Limits
from hounsfield.usecases.events import OnEvent, Progress

if TYPE_CHECKING:
    from pydicom import Dataset

_LIMITS: Final = Limits(header_bytes=64 * 2**20)


@dataclass(frozen=True)
class DeidentifyRequest:
    """What to de-identify.

    Parameters
    ----------
    source
        A DICOM file or a folder.
    output
        A folder that is not there yet.
    key
        File with the key of the pseudonyms, made if it is not there; never inside ``output``.
    pixels_checked
        A person has looked at the pixels and found nothing written on them.
    """

    source: Path
    output: Path
    key: Path
    options: Options = field(default_factory=Options)
    pixels_checked: bool = False


@dataclass(frozen=True)
class DeidentifyResult:
    """What became of the files.

    Parameters
    ----------
    refused
        Reason to how many files were left out for it.
    warnings
        What a person should still look at, to how many files it applies.
    """

    written: int
    people: int
    refused: dict[str, int]
    warnings: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """The result as data; nothing of a person."""
        return dict(vars(self))


def deidentify(request: DeidentifyRequest, on_event: OnEvent = lambda event: None) -> DeidentifyResult:
    """De-identify every DICOM file of a folder; the source is not changed.

    Raises
    ------
    NothingToRead
        If no DICOM file was found.
    OutputExists
        If the output is there already.
    SettingsError
        If the key would lie with the data, or is none.
    """
    if request.output.exists():
        raise OutputExists("something stands there already", "choose another folder", request.output)
    if request.key.resolve().is_relative_to(request.output.resolve()):
        raise SettingsError("the key would lie with the data it protects", "put it elsewhere", request.key)
    files = sorted(path for path in request.source.rglob("*") if path.is_file()) or [request.source]
    pseudonyms, people = read_key(request.key), set[str]()
    refused, told, written = Counter[str](), Counter[str](), 0
    for number, path in enumerate(files, 1):
        try:
            person, notes = clean_file(path, request.output, pseudonyms, request)
            people.add(person)
            told.update(notes)
            written += 1
        except (DomainRefused, NotReadable) as error:
            refused[error.fact] += 1
        on_event(Progress("files", number, len(files)))
    if not written:
        reasons = "; ".join(refused) or "it is empty"
        raise NothingToRead(f"nothing could be de-identified ({reasons})", "check the source", request.source)
    return DeidentifyResult(written, len(people), dict(refused), dict(told))


def clean_file(
    path: Path, output: Path, pseudonyms: Pseudonyms, request: DeidentifyRequest
) -> tuple[str, tuple[str, ...]]:
    """Write the de-identified copy of one file below ``output``; its pseudonym and what to look at.

    Raises
    ------
    DomainRefused
        If it is no image, or something may be written on it.
    NotReadable
        If it is not DICOM, or damaged.
    """
    source = read_plain(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd values of the source; what stays is judged by the rules
        try:
            cleaned = clean(source, pseudonyms, request.options, pixels_checked=request.pixels_checked)
            names = (cleaned.pseudonym, _short(pseudonyms, cleaned.dataset.SeriesInstanceUID))
            folder = output.joinpath(*names)
            folder.mkdir(parents=True, exist_ok=True)
            name = _short(pseudonyms, cleaned.dataset.SOPInstanceUID)
            write_plain(cleaned.dataset, source, folder / f"{name}.dcm")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise NotReadable(f"a value in it cannot be read ({type(error).__name__})", "leave it out") from error
    return cleaned.pseudonym, cleaned.warnings


def read_plain(path: Path) -> Dataset:
    """A whole data set, after the strict check of its structure.

    Raises
    ------
    NotReadable
        If it is not DICOM, or damaged.
    """
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        read_header(path, _LIMITS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return dcmread(path)
    except (Malformed, InvalidDicomError, OSError, RecursionError) as error:
        raise NotReadable("it is not DICOM, or damaged", "leave it out") from error


def write_plain(found: Dataset, source: Dataset, path: Path) -> None:
    """Write a data set in the source's transfer syntax, with meta information of its own."""
    from pydicom.dataset import FileMetaDataset

    from hounsfield.writing.files import whole_file

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = found.SOPClassUID
    meta.MediaStorageSOPInstanceUID = found.SOPInstanceUID
    meta.TransferSyntaxUID = source.file_meta.TransferSyntaxUID
    found.file_meta = meta
    found.preamble = b"\0" * 128
    with whole_file(path) as temporary:
        found.save_as(temporary, enforce_file_format=True)


def _short(pseudonyms: Pseudonyms, uid: str) -> str:
    """A short name of a file or folder, from a UID that is new already."""
    return pseudonyms.person(str(uid), "file")[2:]


def copies(files: Iterable[Path], output: Path, request: DeidentifyRequest) -> tuple[list[Path], dict[str, int]]:
    """De-identified copies of files, flat in ``output``; and why others are not among them."""
    pseudonyms, refused = read_key(request.key), Counter[str]()
    for path in files:
        try:
            clean_file(path, output, pseudonyms, request)
        except (DomainRefused, NotReadable) as error:
            refused[error.fact] += 1
    return sorted(output.rglob("*.dcm")), dict(refused)
