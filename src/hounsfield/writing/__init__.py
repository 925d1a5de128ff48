"""Results as files: DICOM SEG and SR, NIfTI, JSON, a report. Each is read back before it counts."""

from hounsfield.writing.capture import write_captures
from hounsfield.writing.facts import RESEARCH_USE, Correction, Result, ResultFacts, ResultUids
from hounsfield.writing.files import Written
from hounsfield.writing.json_file import write_json
from hounsfield.writing.map_pictures import write_picture
from hounsfield.writing.nifti import write_map, write_nifti
from hounsfield.writing.parametric_map import write_parametric_maps
from hounsfield.writing.report import write_report
from hounsfield.writing.seg import SegKind, write_seg
from hounsfield.writing.source import why_not_dicom
from hounsfield.writing.sr import write_sr

__all__ = [
    "RESEARCH_USE",
    "Correction",
    "Result",
    "ResultFacts",
    "ResultUids",
    "SegKind",
    "Written",
    "why_not_dicom",
    "write_captures",
    "write_json",
    "write_map",
    "write_nifti",
    "write_parametric_maps",
    "write_picture",
    "write_report",
    "write_seg",
    "write_sr",
]
