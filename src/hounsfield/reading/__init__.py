"""Scans in: DICOM, NIfTI, NRRD and MHA to series, series to volumes in LPS millimetres."""

from hounsfield.reading.formats import ArchiveReader, FormatReader, Found
from hounsfield.reading.limits import Limits
from hounsfield.reading.scan import load, read, scan, scan_files
from hounsfield.reading.series import Contents, Issue, Series, SeriesKind, Skipped

__all__ = [
    "ArchiveReader",
    "Contents",
    "FormatReader",
    "Found",
    "Issue",
    "Limits",
    "Series",
    "SeriesKind",
    "Skipped",
    "load",
    "read",
    "scan",
    "scan_files",
]
