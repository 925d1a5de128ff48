"""A result as HL7 FHIR R4: one transaction Bundle of ImagingStudy, DiagnosticReport and Observations.

The report is ``preliminary``: no person has seen it. Ids follow from UIDs and every entry is a PUT, so
sending the Bundle again changes nothing. The patient is referred to by identifier; no Patient
resource is made, because who the patient is, only the hospital's own server knows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hounsfield.writing.facts import RESEARCH_USE

_DICOM: Final = "http://dicom.nema.org/resources/ontology/DCM"
_UCUM: Final = "http://unitsofmeasure.org"
_LOINC: Final = "http://loinc.org"
_UNITS: Final[Mapping[str, tuple[str, str]]] = {
    "volume_ml": ("mL", "volume"),
    "diameter_mm": ("mm", "diameter"),
    "probability": ("1", "probability"),
    "count": ("1", "count"),
}


@dataclass(frozen=True)
class FhirSeries:
    """A series of the study: what ImagingStudy says of it."""

    uid: str
    modality: str
    number: int | None
    description: str
    instances: tuple[tuple[str, str], ...]  # (SOP class, SOP instance)


@dataclass(frozen=True)
class FhirFacts:
    """What the resources are made of.

    Parameters
    ----------
    patient_id
        With its issuer's system in ``patient_system``, an URI or empty.
    started
        Study date and time as FHIR writes them, or empty.
    measured
        Rows with ``label`` and measures, as jobs keep them.
    result_uids
        SOP Instance UIDs of SEG and SR.
    """

    study_uid: str
    patient_id: str
    patient_system: str
    accession_number: str
    started: str
    series: tuple[FhirSeries, ...]
    package: str
    package_digest: str
    issued: str
    measured: tuple[Mapping[str, Any], ...]
    result_uids: tuple[str, ...]
    job: str


def bundle(facts: FhirFacts) -> dict[str, Any]:
    """The transaction Bundle."""
    study = _imaging_study(facts)
    observations = [one for number, row in enumerate(facts.measured) for one in _observations(facts, number, row)]
    report = _report(facts, study["id"], [one["id"] for one in observations])
    resources = [study, *observations, report]
    entries = [
        {
            "fullUrl": f"urn:hounsfield:{one['resourceType']}:{one['id']}",
            "resource": one,
            "request": {"method": "PUT", "url": f"{one['resourceType']}/{one['id']}"},
        }
        for one in resources
    ]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def _id(*words: str) -> str:
    """A FHIR id (at most 64 of ``[A-Za-z0-9-.]``) that says nothing of anybody."""
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:40]


def _subject(facts: FhirFacts) -> dict[str, Any]:
    identifier: dict[str, Any] = {"value": facts.patient_id or "unknown"}
    if facts.patient_system:
        identifier["system"] = facts.patient_system
    return {"type": "Patient", "identifier": identifier}


def _imaging_study(facts: FhirFacts) -> dict[str, Any]:
    identifiers: list[dict[str, Any]] = [{"system": "urn:dicom:uid", "value": f"urn:oid:{facts.study_uid}"}]
    if facts.accession_number:
        kind = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN"}]}
        identifiers.append({"type": kind, "value": facts.accession_number})
    found: dict[str, Any] = {
        "resourceType": "ImagingStudy",
        "id": _id("study", facts.study_uid),
        "identifier": identifiers,
        "status": "available",
        "subject": _subject(facts),
        "numberOfSeries": len(facts.series),
        "numberOfInstances": sum(len(one.instances) for one in facts.series),
        "series": [_series(one) for one in facts.series],
    }
    return found | ({"started": facts.started} if facts.started else {})


def _series(one: FhirSeries) -> dict[str, Any]:
    found: dict[str, Any] = {
        "uid": one.uid,
        "modality": {"system": _DICOM, "code": one.modality or "OT"},
        "numberOfInstances": len(one.instances),
        "instance": [
            {"uid": uid, "sopClass": {"system": "urn:ietf:rfc:3986", "code": f"urn:oid:{sop_class}"}}
            for sop_class, uid in one.instances
        ],
    }
    if one.number is not None and one.number >= 0:
        found["number"] = one.number
    return found | ({"description": one.description} if one.description else {})


def _observations(facts: FhirFacts, number: int, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One Observation for each measure of a row."""
    found = []
    for measure, (unit, name) in _UNITS.items():
        value = row.get(measure)
        if not isinstance(value, int | float) or isinstance(value, bool):
            continue
        component = row.get("component")
        part = f" {component}" if component else ""
        found.append(
            {
                "resourceType": "Observation",
                "id": _id("observation", facts.job, str(number), measure),
                "status": "preliminary",
                "category": [_imaging()],
                "code": {"text": f"{row.get('label', '')}{part}: {name}"},
                "subject": _subject(facts),
                "issued": facts.issued,
                "valueQuantity": {"value": value, "unit": unit, "system": _UCUM, "code": unit},
                "method": {"text": f"{facts.package}, sha256 {facts.package_digest}"},
                "note": [{"text": RESEARCH_USE}],
                "derivedFrom": [{"reference": f"ImagingStudy/{_id('study', facts.study_uid)}"}],
            }
        )
    return found


def _imaging() -> dict[str, Any]:
    system = "http://terminology.hl7.org/CodeSystem/observation-category"
    return {"coding": [{"system": system, "code": "imaging"}]}


def _report(facts: FhirFacts, study_id: str, observation_ids: Sequence[str]) -> dict[str, Any]:
    return {
        "resourceType": "DiagnosticReport",
        "id": _id("report", facts.job),
        "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"} for uid in facts.result_uids],
        "status": "preliminary",
        "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": "RAD"}]}],
        "code": {"coding": [{"system": _LOINC, "code": "18748-4", "display": "Diagnostic imaging study"}]},
        "subject": _subject(facts),
        "issued": facts.issued,
        "imagingStudy": [{"reference": f"ImagingStudy/{study_id}"}],
        "result": [{"reference": f"Observation/{one}"} for one in observation_ids],
        "conclusion": f"{RESEARCH_USE}. Made by {facts.package} without a person; not reviewed.",
    }
