"""DICOM files to series, and series to volumes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from hounsfield.reading import jail
from hounsfield.reading.assembly import assemble
from hounsfield.reading.formats import FormatReader, Found
from hounsfield.reading.instances import from_answer, read_in_child
from hounsfield.reading.limits import Limits
from hounsfield.reading.loading import load_series
from hounsfield.reading.series import Skipped

_STALL_S: Final = 60.0
_FEW: Final = 32
# How a data set without preamble starts: group 0002 or 0008, little endian, with a short element
_GROUPS: Final = (b"\x02\x00", b"\x08\x00")
_SUFFIXES: Final = (".dcm", ".dicom", ".ima")


def claims(path: Path) -> bool:
    """Whether a file is DICOM: by its preamble, by the start of a bare data set, or by its suffix."""
    try:
        with path.open("rb") as file:
            head = file.read(132)
    except OSError:
        return path.suffix.lower() in _SUFFIXES
    if head[128:132] == b"DICM":
        return True
    starts = len(head) >= 8 and head[:2] in _GROUPS and head[3] == 0 and (head[4:6].isupper() or head[6:8] == b"\0\0")
    return starts or path.suffix.lower() in _SUFFIXES


def scan(files: Sequence[Path], source: Path, limits: Limits) -> Found:
    """The series in DICOM files; headers are read in confined children, two at a time for many."""
    workers = 1 if len(files) < _FEW else min(4, len(os.sched_getaffinity(0)))
    answers = jail.run_each(
        lambda n: read_in_child(files[n], limits), len(files), limits, workers=workers, stall_s=_STALL_S
    )
    instances = []
    skipped = []
    for path, answer in zip(files, answers, strict=True):
        if isinstance(answer, jail.Failure):
            skipped.append(Skipped(path, answer.reason))
        else:
            instances.append(from_answer(path, answer))
    found = assemble(instances, source, limits)
    return Found(found.series, (*skipped, *found.skipped))


READER: Final = FormatReader("dicom", claims, scan, load_series)
