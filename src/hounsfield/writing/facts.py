"""What every writer is told: the result itself, the facts of its run, the UIDs it will carry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from hounsfield.findings import CodedConcept, Findings
from hounsfield.findings.maps import ParameterMap
from hounsfield.findings.measuring import derived_uid
from hounsfield.findings.terminology import ARTIFICIAL_INTELLIGENCE
from hounsfield.volume import LabelMap, Volume

MANUFACTURER: Final = "hounsfield project"
DEVICE_MODEL: Final = "hounsfield"
RESEARCH_USE: Final = "Research use only - not for diagnostic use"


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What every result says of the package and the run, whatever was read.

    Parameters
    ----------
    package_id, package_version, package_title
        The model package.
    package_digest
        SHA-256 of the package's ``digests.json``, hexadecimal.
    precision
        The precision that really ran: ``"fp32"``, ``"bf16"``, ``"fp16"`` or ``"int8"``.
    engine
        The engine and its version, such as ``"openvino 2026.1"``.
    software_version
        Of hounsfield.
    run_uid
        The run's UID; every result UID follows from it, so writing or sending again never
        makes a new one.
    finished
        With a time zone.
    warnings
        In plain words, such as breaches of the package's domain.
    attribution
        Licences and credits of weights and data.
    lacks
        What the package lacks to prove this precision, such as ``"no evidence for fp32"`` or ``"no gate for bf16"``;
        empty where it is proven.
    """

    package_id: str
    package_version: str
    package_title: str
    package_digest: str
    precision: str
    engine: str
    software_version: str
    run_uid: str
    finished: datetime
    warnings: tuple[str, ...] = ()
    intended_use: str = ""
    attribution: str = ""
    lacks: str = ""

    @property
    def unproven(self) -> bool:
        """Whether the package does not prove this precision."""
        return bool(self.lacks)

    @property
    def evidence(self) -> str:
        """One line on the proof of this precision, as every DICOM object and report has it."""
        if not self.lacks:
            return "in package"
        return "none for this precision" if self.lacks.startswith("no evidence") else f"in package, but {self.lacks}"


@dataclass(frozen=True, kw_only=True)
class ResultFacts(RunFacts):
    """How the result of a scan came to be.

    Parameters
    ----------
    started
        With a time zone.
    family
        Algorithm family (CID 7162).
    plan, figures
        Plain data: the plan that ran, and seconds, bytes and rates that were measured, units
        in the names.
    limits
        What the model card says about where the model is weak.
    complete
        False when part of what was asked could not be done.
    """

    started: datetime
    family: CodedConcept = ARTIFICIAL_INTELLIGENCE
    plan: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)
    limits: tuple[str, ...] = ()
    complete: bool = True

    @property
    def parameters(self) -> dict[str, str]:
        """Algorithm parameters as written into every DICOM object."""
        return {
            "package_sha256": self.package_digest,
            "precision": self.precision,
            "evidence": self.evidence,
            "engine": self.engine,
            "run_uid": self.run_uid,
        }


@dataclass(frozen=True)
class RecordValue:
    """A number of the record that was read; ``None`` where it is not known, ``unit`` ``"1"`` where it has none."""

    name: str
    title: str
    unit: str
    value: float | None


@dataclass(frozen=True)
class ResultUids:
    """The UIDs of everything one run writes, fixed before the first byte is written."""

    seg_series_uid: str
    seg_binary_uid: str
    seg_labelmap_uid: str
    sr_series_uid: str
    sr_uid: str
    dimension_uid: str
    device_uid: str

    @classmethod
    def for_run(cls, run_uid: str) -> ResultUids:
        """The UIDs that belong to ``run_uid``, always the same."""

        def uid(name: str) -> str:
            return derived_uid(run_uid, name)

        return cls(
            seg_series_uid=uid("seg/series"),
            seg_binary_uid=uid("seg/binary"),
            seg_labelmap_uid=uid("seg/labelmap"),
            sr_series_uid=uid("sr/series"),
            sr_uid=uid("sr/instance"),
            dimension_uid=uid("seg/dimension"),
            device_uid=derived_uid("device", DEVICE_MODEL),
        )


@dataclass(frozen=True)
class Correction:
    """That a person drew the labels, over the answer of the package that the facts name.

    Parameters
    ----------
    who
        Account name of the person.
    version
        Of the labels, from 1.
    seconds
        How long it took.
    """

    who: str
    version: int
    seconds: float


@dataclass(frozen=True, eq=False)
class Result:
    """One finished reading of one scan, ready to be written.

    Parameters
    ----------
    volume
        The scan, with its provenance.
    labels
        On the grid of ``volume``.
    findings
        Measured from them.
    record
        Numbers that were read beside the scan.
    explanations
        Where the network looked for each reported class, 0 to 1.
    correction
        Who drew the labels, where it was not the package.
    """

    volume: Volume
    labels: LabelMap
    findings: Findings
    facts: ResultFacts
    uids: ResultUids
    record: tuple[RecordValue, ...] = ()
    explanations: tuple[ParameterMap, ...] = ()
    correction: Correction | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """All warnings once: of the reader, the repairs, the run and the measuring."""
        provenance = self.volume.provenance
        repairs = tuple(f"the scan was repaired: {fact}" for fact in provenance.repairs)
        unproven = (f"the package has {self.facts.lacks}",) if self.facts.unproven else ()
        everything = (*unproven, *repairs, *provenance.warnings, *self.facts.warnings, *self.findings.warnings)
        return tuple(dict.fromkeys(everything))

    @property
    def has_segments(self) -> bool:
        """Whether the answer is labels; else it is class scores, quantities or located findings."""
        return bool(self.findings.segments)

    @property
    def is_empty(self) -> bool:
        """Whether labels were asked for and not a single voxel was labelled."""
        return self.has_segments and not bool(self.labels.array.any())
