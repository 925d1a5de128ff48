"""What every DICOM object of ours shares: identity, equipment, algorithm, codes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hounsfield.errors import OutputError
from hounsfield.findings import CodedConcept, Segment
from hounsfield.findings.components import Instance
from hounsfield.findings.concept import LOCAL_SCHEME
from hounsfield.findings.finding import Finding, Findings
from hounsfield.writing.facts import DEVICE_MODEL, MANUFACTURER, RESEARCH_USE, Result

if TYPE_CHECKING:
    from pydicom import Dataset

_DESCRIPTION_LENGTH: Final = 64  # VR LO, PS3.5 6.2


def code(concept: CodedConcept) -> Any:
    """The concept as highdicom's."""
    from highdicom.sr import CodedConcept as DicomConcept

    return DicomConcept(concept.value, concept.scheme, concept.meaning)


def series_description(result: Result, what: str) -> str:
    """``"RUO <what> <title>"``; what does not fit in 64 characters is cut at the end."""
    return f"RESEARCH USE ONLY {what} {result.facts.package_title}"[:_DESCRIPTION_LENGTH].rstrip()


def software_versions(result: Result) -> tuple[str, ...]:
    """hounsfield's version and the model package's, as Software Versions."""
    facts = result.facts
    return (facts.software_version, f"{facts.package_id} {facts.package_version}"[:64])


def contributing_equipment(result: Result) -> list[Any]:
    """One item for this software (PS3.3 C.12.1, purpose DCM 109102), with the package digest."""
    from highdicom import ContributingEquipment

    facts = result.facts
    drawn = ""
    if result.correction is not None:
        one = result.correction
        drawn = f"Labels version {one.version}, drawn by {one.who} in {one.seconds:.0f} s over the answer of this run. "
    text = (
        f"{RESEARCH_USE}. {drawn}"
        f"Model package {facts.package_id} {facts.package_version}, sha256 {facts.package_digest}, "
        f"precision {facts.precision}, engine {facts.engine}, run {facts.run_uid}"
    )
    item = ContributingEquipment(
        manufacturer=MANUFACTURER,
        purpose_of_reference=code(CodedConcept("109102", "DCM", "Processing Equipment")),
        manufacturer_model_name=DEVICE_MODEL,
        software_versions=list(software_versions(result)),
        contribution_datetime=facts.finished,
        contribution_description=text[:1024],
    )
    return [item]


def common_arguments(result: Result) -> dict[str, Any]:
    """What highdicom's constructors of SEG and SR take alike."""
    return {
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": DEVICE_MODEL,
        "software_versions": result.facts.software_version,
        "device_serial_number": result.facts.package_digest[:16] or "none",
        "instance_number": 1,
        "contributing_equipment": contributing_equipment(result),
        "content_qualification": "RESEARCH",
        "content_date": result.facts.finished.date(),
        "content_time": result.facts.finished.time(),
        "series_date": result.facts.finished.date(),
        "series_time": result.facts.finished.time(),
        "coding_schemes": _local_scheme(),
    }


def _local_scheme() -> list[Any]:
    from highdicom.coding_schemes import CodingSchemeIdentificationItem

    return [
        CodingSchemeIdentificationItem(
            designator=LOCAL_SCHEME, name="hounsfield local codes", responsible_organization=MANUFACTURER
        )
    ]


def finding_of(findings: Findings, instance: Instance) -> Finding:
    """The finding that a stored mask belongs to; an empty lesion segment has only its whole."""
    for finding in findings.findings:
        if finding.segment_number == instance.segment.number and finding.component == instance.component:
            return finding
    raise OutputError(f"no finding was measured for {instance.segment.label}", "measure the label map first")


def component_limit(findings: Findings) -> int:
    """How many components of one segment the findings count singly."""
    return max((finding.component or 0 for finding in findings.findings), default=0)


def segment_of(findings: Findings, number: int) -> Segment:
    """The segment with this number."""
    return next(segment for segment in findings.segments if segment.number == number)


def finish(dataset: Dataset, result: Result) -> None:
    """Times of the run instead of the clock's, so that writing again makes the same bytes."""
    finished = result.facts.finished
    dataset.InstanceCreationDate = finished.date()
    dataset.InstanceCreationTime = finished.time()
    dataset.SoftwareVersions = list(software_versions(result))
    for item in dataset.ContributingEquipmentSequence:
        if str(item.get("ManufacturerModelName", "")) == "highdicom":
            item.ContributionDateTime = finished


@contextmanager
def quiet_headers() -> Iterator[None]:
    """Let odd but inherited header values pass without warnings; they are the source's own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def save(dataset: Dataset) -> Callable[[Path], None]:
    """A writer for ``write_checked``: explicit VR little endian with preamble and meta header."""

    def write(path: Path) -> None:
        with quiet_headers():
            dataset.save_as(path, enforce_file_format=True)

    return write
