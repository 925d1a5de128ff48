"""Where a volume came from: the acquisition, the instances, and what was done to it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path


@dataclass(frozen=True)
class Acquisition:
    """What is known of the scan and the person, for domain checks, audits and reports.

    Every field is ``None`` where the source does not say. No names, no ids: those stay in
    the source files.
    """

    modality: str | None = None
    body_part: str | None = None
    laterality: str | None = None
    study_description: str | None = None
    series_description: str | None = None
    protocol_name: str | None = None
    manufacturer: str | None = None
    manufacturer_model_name: str | None = None
    institution_hash: str | None = None
    sex: str | None = None
    age_years: float | None = None
    weight_kg: float | None = None
    contrast_agent: str | None = None
    convolution_kernel: str | None = None
    slice_thickness_mm: float | None = None
    kvp: float | None = None
    magnetic_field_tesla: float | None = None
    repetition_time_ms: float | None = None
    echo_time_ms: float | None = None
    flip_angle_degrees: float | None = None
    patient_position: str | None = None
    image_type: tuple[str, ...] = ()
    transfer_syntax_uid: str | None = None
    burned_in_annotation: str | None = None


@dataclass(frozen=True)
class SourceFrame:
    """The stored image behind one slice (k) of a volume.

    ``path`` is where the file can be read during this run; ``frame_number`` counts from 1
    in multi-frame instances and is ``None`` in single-frame ones.
    """

    sop_class_uid: str
    sop_instance_uid: str
    frame_number: int | None
    path: Path


@dataclass(frozen=True)
class Provenance:
    """The origin of a volume.

    Parameters
    ----------
    source
        The path the user gave.
    format
        ``"dicom"``, ``"nifti"``, ``"nrrd"``, ``"mha"`` or ``"memory"``.
    study_instance_uid, series_instance_uid
        DICOM identity; ``None`` for other formats.
    frames
        For DICOM: the frame behind each slice, in slice order; empty otherwise or after
        a repair that resampled across slices.
    source_files
        Every file the volume was read from.
    sha256
        Digest over the decoded voxels and the affine, hexadecimal; ``None`` if not computed.
    repairs
        What was changed on request, in plain words, oldest first.
    warnings
        What the reader noticed and let pass, in plain words.
    """

    source: Path | None = None
    format: str = "memory"
    study_instance_uid: str | None = None
    series_instance_uid: str | None = None
    frames: tuple[SourceFrame, ...] = ()
    source_files: tuple[Path, ...] = ()
    sha256: str | None = None
    repairs: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    acquisition: Acquisition = field(default_factory=Acquisition)

    def with_repair(self, fact: str) -> Provenance:
        """The same origin with one more repair noted."""
        return replace(self, repairs=(*self.repairs, fact))
