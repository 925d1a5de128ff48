"""The facts of a scan that travel with its volume, from the header of one frame."""

from __future__ import annotations

import hashlib
from typing import Any

from hounsfield.reading.clocks import age_years
from hounsfield.reading.instances import Frame
from hounsfield.volume import Acquisition


def acquisition_of(frame: Frame) -> Acquisition:
    """Acquisition facts; no name and no identifier is among them."""

    def text(keyword: str) -> str | None:
        value: Any = frame.get(keyword)
        if isinstance(value, list):
            value = "\\".join(str(part) for part in value)
        return str(value) if value not in (None, "") else None

    institution = text("InstitutionName")
    return Acquisition(
        modality=text("Modality"),
        body_part=text("BodyPartExamined"),
        laterality=text("ImageLaterality") or text("Laterality"),
        study_description=text("StudyDescription"),
        series_description=text("SeriesDescription"),
        protocol_name=text("ProtocolName"),
        manufacturer=text("Manufacturer"),
        manufacturer_model_name=text("ManufacturerModelName"),
        institution_hash=None if institution is None else hashlib.sha256(institution.encode()).hexdigest()[:16],
        sex=text("PatientSex"),
        age_years=age_years(text("PatientAge"), text("PatientBirthDate"), text("StudyDate")),
        weight_kg=frame.number_of("PatientWeight"),
        contrast_agent=text("ContrastBolusAgent"),
        convolution_kernel=text("ConvolutionKernel"),
        slice_thickness_mm=frame.number_of("SliceThickness"),
        kvp=frame.number_of("KVP"),
        magnetic_field_tesla=frame.number_of("MagneticFieldStrength"),
        repetition_time_ms=frame.number_of("RepetitionTime"),
        echo_time_ms=frame.echo_time_ms,
        flip_angle_degrees=frame.number_of("FlipAngle"),
        patient_position=text("PatientPosition"),
        image_type=frame.image_type,
        transfer_syntax_uid=text("TransferSyntaxUID"),
        burned_in_annotation=text("BurnedInAnnotation"),
    )
