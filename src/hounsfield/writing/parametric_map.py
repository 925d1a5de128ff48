"""A number of every voxel as DICOM Parametric Map (PS3.3 A.75) with floating point pixels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import OutputError
from hounsfield.findings import CodedConcept
from hounsfield.findings.maps import ParameterMap
from hounsfield.findings.measuring import derived_uid
from hounsfield.volume import Geometry
from hounsfield.writing.dicom import code, common_arguments, finish, quiet_headers, save, series_description
from hounsfield.writing.facts import RESEARCH_USE, Result
from hounsfield.writing.files import Written, same, write_checked
from hounsfield.writing.placing import fix_dimension_uid, place
from hounsfield.writing.reference import add_source_references, stand_in
from hounsfield.writing.seg_check import slice_index
from hounsfield.writing.source import SourceImages, read_source

if TYPE_CHECKING:
    from pydicom import Dataset

_SERIES_NUMBER: Final = 9400
_SHORT, _LONG = 16, 64  # VR SH and LO, PS3.5 6.2
_SHOWN: Final = (0.02, 0.98)
#: CID 7203 has no word for a network; this is what it was, said plainly.
_CALCULATED: Final = CodedConcept("112187", "DCM", "Unspecified method of calculation")
#: What stands where nothing is known: a number that is none, which viewers do not all bear, is avoided.
UNKNOWN: Final = float(np.finfo(np.float32).min)


def write_parametric_maps(result: Result, folder: Path) -> tuple[Written, ...]:
    """Write each map of a result as DICOM, read it back by an independent path, compare.

    All maps of a run are one series. The stored numbers are the quantity itself, as float32, with
    its unit and concept in the Real World Value Mapping; voxels of which nothing is known hold the
    Float Pixel Padding Value. The window spans the middle 96 % of what is known.

    Returns
    -------
    tuple of Written
        ``pm-1.dcm`` … in the order of the maps.

    Raises
    ------
    OutputError
        If the scan has no DICOM study to attach to, or its grid is sheared.
    OutputExists, ReadBackFailed
        See ``hounsfield.writing.files``.
    """
    if not result.volume.geometry.is_orthonormal:
        raise OutputError("a sheared grid cannot be stored as parametric map", "resample the scan first", folder)
    source = read_source(result.volume)
    return tuple(
        _write(result, source, one, number, folder / f"pm-{number}.dcm")
        for number, one in enumerate(result.findings.maps, start=1)
    )


def _write(result: Result, source: SourceImages, parameter: ParameterMap, number: int, path: Path) -> Written:
    stored = np.where(np.isfinite(parameter.array), parameter.array, np.float32(UNKNOWN)).astype(np.float32)
    with quiet_headers():
        dataset = _build(result, source, parameter, number, stored)
    written = write_checked(
        path, "map", save(dataset), lambda temporary: _check(temporary, result, parameter, stored), overwrite=False
    )
    return replace(written, sop_class_uid=str(dataset.SOPClassUID), sop_instance_uid=str(dataset.SOPInstanceUID))


def _build(
    result: Result, source: SourceImages, parameter: ParameterMap, number: int, stored: NDArray[np.float32]
) -> Dataset:
    from highdicom.pm import ParametricMap, RealWorldValueMapping
    from pydicom.uid import ExplicitVRLittleEndian

    geometry, run_uid = result.volume.geometry, result.facts.run_uid
    measures, orientation, positions = place(geometry, geometry.shape[0])
    low, high, centre, width = _range(parameter.array)
    common = common_arguments(result) | {"instance_number": number}
    dataset: Dataset = ParametricMap(
        source_images=[stand_in(source.first, geometry)],
        pixel_array=stored,
        series_instance_uid=derived_uid(run_uid, "map/series"),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=derived_uid(run_uid, f"map/instance/{number}"),
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[
            RealWorldValueMapping(
                lut_label=parameter.label[:_SHORT],
                lut_explanation=parameter.concept.meaning[:_LONG],
                unit=code(parameter.unit),
                value_range=(low, high),
                slope=1.0,
                intercept=0.0,
                quantity_definition=code(parameter.concept),
            )
        ],
        voi_lut_transformations=[_window(centre, width)],
        transfer_syntax_uid=ExplicitVRLittleEndian,
        content_description=RESEARCH_USE,
        content_label="RESEARCH_USE",
        pixel_measures=measures,
        plane_orientation=orientation,
        plane_positions=positions,
        series_description=series_description(result, "maps"),
        **common,
    )
    dataset.FloatPixelPaddingValue = dataset.FloatPixelPaddingRangeLimit = UNKNOWN  # PS3.3 C.7.6.24: one value
    if "Laterality" not in dataset:
        dataset.Laterality = None  # type 2C, PS3.3 C.7.3.1; the source does not say
    fix_dimension_uid(dataset, derived_uid(run_uid, "map/dimension"))
    finish(dataset, result)
    add_source_references(dataset, result, source, derivation=_CALCULATED)
    return dataset


def _range(array: NDArray[np.float32]) -> tuple[float, float, float, float]:
    """Least and largest known number, and centre and width of the window; whole where nothing is known."""
    known = array[np.isfinite(array)]
    if not known.size:
        return 0.0, 0.0, 0.5, 1.0
    low, high = (float(one) for one in np.quantile(known, _SHOWN))
    return float(known.min()), float(known.max()), (low + high) / 2, max(high - low, 1e-6)


def _window(centre: float, width: float) -> Any:
    from highdicom import VOILUTTransformation

    return VOILUTTransformation(window_center=centre, window_width=width)


def _check(path: Path, result: Result, parameter: ParameterMap, stored: NDArray[np.float32]) -> None:
    """Raise ReadBackFailed unless pydicom alone finds every number at its place, with its unit."""
    from pydicom import dcmread

    dataset, geometry = dcmread(path), result.volume.geometry
    same("the numbers", np.array_equal(_read(dataset, geometry), stored), path)
    mapping = dataset.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    unit = mapping.MeasurementUnitsCodeSequence[0]
    told = (unit.CodeValue, float(mapping.RealWorldValueSlope), float(mapping.RealWorldValueIntercept))
    same("unit and scale", told == (parameter.unit.value, 1.0, 0.0), path)
    same("the frame of reference", dataset.FrameOfReferenceUID == geometry.frame_of_reference_uid, path)
    same("the study", dataset.StudyInstanceUID == result.volume.provenance.study_instance_uid, path)


def _read(dataset: Dataset, geometry: Geometry) -> NDArray[np.float32]:
    """(slices, rows, columns) on ``geometry``, each frame where its own position says."""
    frames = np.frombuffer(dataset.FloatPixelData, "<f4").reshape(-1, int(dataset.Rows), int(dataset.Columns))
    found = np.full(geometry.shape, np.nan, np.float32)
    for frame, group in zip(frames, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        found[slice_index(group, geometry)] = frame
    return found
