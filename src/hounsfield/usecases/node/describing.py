"""What a person wants to know of a study before opening it, read from its first instance.

These facts name a person. They stay in the node's own database, and go to people who logged in.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from hounsfield.department import described, instances
from hounsfield.department.described import StudyFacts
from hounsfield.department.instances import StoredInstance
from hounsfield.usecases.node.opening import Node

_MOST: Final = 128
_WANTED: Final = ["PatientName", "PatientID", "StudyDescription", "StudyDate", "SpecificCharacterSet"]


def describe_study(node: Node, study_uid: str) -> StudyFacts | None:
    """Read a study's facts and keep them; ``None`` when it has no instances."""
    with node.database.read() as connection:
        kept = instances.of_study(connection, study_uid)
    if not kept:
        return None
    facts = _facts(node.files.path(kept[0].sha256), study_uid, kept)
    with node.database.write() as connection:
        described.describe(connection, facts)
    return facts


def known_facts(node: Node, study_uid: str) -> StudyFacts | None:
    """A study's facts as they were read last."""
    with node.database.read() as connection:
        return described.facts_of(connection, study_uid)


def _facts(path: Path, study_uid: str, kept: Sequence[StoredInstance]) -> StudyFacts:
    said = _said(path)
    modalities = sorted({one.modality for one in kept if one.modality})
    return StudyFacts(
        study_uid=study_uid,
        patient_name=shown_name(said.get("PatientName", "")),
        patient_id=plain(said.get("PatientID", "")),
        description=plain(said.get("StudyDescription", "")),
        study_date=_date(said.get("StudyDate", "")),
        modalities=" ".join(modalities)[:_MOST],
        revision=len(kept),
    )


def _said(path: Path) -> dict[str, str]:
    """The wanted elements as text; those that cannot be decoded are left out."""
    from pydicom import config, dcmread
    from pydicom.errors import InvalidDicomError

    try:
        found: Any = dcmread(path, stop_before_pixels=True, specific_tags=_WANTED, force=False)
    except (InvalidDicomError, OSError, ValueError, NotImplementedError, RecursionError):
        return {}
    texts = {}
    with config.disable_value_validation():
        for name in _WANTED[:-1]:
            try:
                texts[name] = str(found.get(name, ""))
            except (ValueError, LookupError, TypeError, AttributeError):
                texts[name] = ""
    return texts


def plain(text: str) -> str:
    """Text as one line without anything that a screen would obey: no control or direction marks, not too long."""
    kept = "".join(one if unicodedata.category(one)[0] != "C" else " " for one in text)
    return re.sub(r"\s+", " ", kept).strip()[:_MOST]


def shown_name(name: str) -> str:
    """A DICOM person name (PS3.5 6.2.1) as people write it: ``Family, Given Middle``."""
    parts = [plain(part) for part in name.split("=")[0].split("^")]
    given = " ".join(part for part in parts[1:3] if part)
    return plain(", ".join(part for part in (parts[0], given) if part))


def _date(text: str) -> str:
    found = re.fullmatch(r"(\d{4})(\d{2})(\d{2})", text.strip())
    return "-".join(found.groups()) if found else ""
