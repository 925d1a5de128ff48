"""The formats that can be read, each a module with a ``READER``; none is imported before it is needed."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hounsfield.reading.limits import Limits
from hounsfield.reading.series import Series, Skipped
from hounsfield.volume import TimeSeries, Volume


@dataclass(frozen=True)
class Found:
    """What one format's ``scan`` found in its files."""

    series: tuple[Series, ...] = ()
    skipped: tuple[Skipped, ...] = ()


@dataclass(frozen=True)
class FormatReader:
    """How one format is read.

    Parameters
    ----------
    name
        The ``Series.format`` it makes.
    claims
        Whether a regular file is of this format, by its name and first bytes; cheap, never raises
        on hostile content.
    scan
        ``scan(files, source, limits)``: the series in the files that were claimed (keys are given
        later). One bad file is skipped with a reason and never hides the others. ``source`` is
        the path the user gave.
    load
        ``load(series, repair, limits)``: the voxels of a series that this reader made.
    """

    name: str
    claims: Callable[[Path], bool]
    scan: Callable[[Sequence[Path], Path, Limits], Found]
    load: Callable[[Series, bool, Limits], Volume | TimeSeries]


@dataclass(frozen=True)
class ArchiveReader:
    """How one kind of archive is unpacked.

    ``extract(path, folder, limits)`` writes regular files only, below ``folder`` only, and
    returns what it passed over, in plain words.
    """

    name: str
    claims: Callable[[Path], bool]
    extract: Callable[[Path, Path, Limits], tuple[str, ...]]


# Modules in the order of asking; DICOM last, because it also claims files by elimination.
# Each defines READER: FormatReader.
_FORMATS: Final = {
    "nifti": "hounsfield.reading.nifti",
    "nrrd": "hounsfield.reading.nrrd",
    "mha": "hounsfield.reading.metaimage",
    "dicom": "hounsfield.reading.dicom",
}
# The module defines READERS: tuple[ArchiveReader, ...].
_ARCHIVES: Final = "hounsfield.reading.archive"


def readers() -> tuple[FormatReader, ...]:
    """All format readers, in the order of asking."""
    present = [name for name in _FORMATS.values() if importlib.util.find_spec(name) is not None]
    return tuple(importlib.import_module(name).READER for name in present)


def reader_named(name: str) -> FormatReader:
    """The reader of one ``Series.format``."""
    reader: FormatReader = importlib.import_module(_FORMATS[name]).READER
    return reader


def archive_for(path: Path) -> ArchiveReader | None:
    """The archive reader that claims a file, if one does."""
    if importlib.util.find_spec(_ARCHIVES) is None:
        return None
    candidates: tuple[ArchiveReader, ...] = importlib.import_module(_ARCHIVES).READERS
    return next((one for one in candidates if one.claims(path)), None)
