"""The codes this house writes, each from its standard (PS3.16 CID and Annex D; UCUM).

A test compares every code and meaning here with the dictionaries of pydicom. Concepts that no
standard names are local (``99HOUNSFIELD``): never a guessed standard code.
"""

from __future__ import annotations

from typing import Final

from hounsfield.findings.concept import LOCAL_SCHEME, CodedConcept
from hounsfield.volume import Quantity

# What was measured: CID 7470 (linear), CID 218 (quantitative image features).
VOLUME: Final = CodedConcept("118565006", "SCT", "Volume")
DIAMETER: Final = CodedConcept("81827009", "SCT", "Diameter")
LONG_AXIS: Final = CodedConcept("103339001", "SCT", "Long Axis")
SHORT_AXIS: Final = CodedConcept("103340004", "SCT", "Short Axis")
ATTENUATION: Final = CodedConcept("112031", "DCM", "Attenuation Coefficient")
SUV_BW: Final = CodedConcept("126401", "DCM", "SUVbw")
MR_SIGNAL: Final = CodedConcept("110852", "DCM", "MR signal intensity")
VOXEL_VALUE: Final = CodedConcept("VOXEL_VALUE", LOCAL_SCHEME, "Voxel value")
CERTAINTY: Final = CodedConcept("111012", "DCM", "Certainty of Finding")
FINDING_COUNT: Final = CodedConcept("FINDING_COUNT", LOCAL_SCHEME, "Number of findings")
COMPONENT_COUNT: Final = CodedConcept("COMPONENT_COUNT", LOCAL_SCHEME, "Number of connected components")

# How several values became one: CID 7464.
MEAN: Final = CodedConcept("373098007", "SCT", "Mean")
STANDARD_DEVIATION: Final = CodedConcept("386136009", "SCT", "Standard Deviation")
MINIMUM: Final = CodedConcept("255605001", "SCT", "Minimum")
MAXIMUM: Final = CodedConcept("56851009", "SCT", "Maximum")
MEDIAN: Final = CodedConcept("373099004", "SCT", "Median")
LOWER_QUARTILE: Final = CodedConcept("LOWER_QUARTILE", LOCAL_SCHEME, "Lower quartile")
UPPER_QUARTILE: Final = CodedConcept("UPPER_QUARTILE", LOCAL_SCHEME, "Upper quartile")

# How it was measured.
SUM_OF_VOXELS: Final = CodedConcept("126030", "DCM", "Sum of segmented voxel method for volume")
FARTHEST_CENTRES: Final = CodedConcept("FARTHEST_CENTRES", LOCAL_SCHEME, "Largest distance between voxel centres")
BALL_OF_BOX: Final = CodedConcept("BALL_OF_BOX", LOCAL_SCHEME, "Ball of the volume of the ellipsoid in the box")
FARTHEST_IN_SLICE: Final = CodedConcept(
    "FARTHEST_IN_SLIC", LOCAL_SCHEME, "Largest distance between voxel centres of one slice"
)
ACROSS_LONG_AXIS: Final = CodedConcept(
    "ACROSS_LONG_AXIS", LOCAL_SCHEME, "Extent of voxel centres across the long axis, same slice"
)

# Units: UCUM; meanings of CID 7181 where it lists the unit.
MILLILITRE: Final = CodedConcept("ml", "UCUM", "milliliter")
CUBIC_MILLIMETRE: Final = CodedConcept("mm3", "UCUM", "cubic millimeter")
MILLIMETRE: Final = CodedConcept("mm", "UCUM", "mm")
HOUNSFIELD_UNIT: Final = CodedConcept("[hnsf'U]", "UCUM", "Hounsfield unit")
SUV_BW_UNIT: Final = CodedConcept("g/ml{SUVbw}", "UCUM", "Standardized Uptake Value body weight")
BECQUEREL_PER_ML: Final = CodedConcept("Bq/ml", "UCUM", "Becquerels/milliliter")
PERCENT: Final = CodedConcept("%", "UCUM", "Percent")
NO_UNITS: Final = CodedConcept("1", "UCUM", "no units")

# What a report says besides numbers.
ABSENT: Final = CodedConcept("272519000", "SCT", "Absent")
PRESENT: Final = CodedConcept("52101004", "SCT", "Present")
PRESENCE_OF_PROPERTY: Final = CodedConcept("121052", "DCM", "Presence of property")
LEFT: Final = CodedConcept("7771000", "SCT", "Left")
RIGHT: Final = CodedConcept("24028007", "SCT", "Right")
BILATERAL: Final = CodedConcept("51440002", "SCT", "Bilateral")
LATERALITIES: Final = (LEFT, RIGHT, BILATERAL)
ARTIFICIAL_INTELLIGENCE: Final = CodedConcept("123110", "DCM", "Artificial Intelligence")
INTENDED_USE: Final = CodedConcept("INTENDED_USE", LOCAL_SCHEME, "Intended use of this result")
RESEARCH_USE_ONLY: Final = CodedConcept("RESEARCH_ONLY", LOCAL_SCHEME, "Research use only, not for diagnosis")
WARNING: Final = CodedConcept("WARNING", LOCAL_SCHEME, "Warning")
REMAINDER: Final = CodedConcept("REMAINDER", LOCAL_SCHEME, "Smaller connected components taken together")
UNCODED_PROCEDURE: Final = CodedConcept("UNCODED", LOCAL_SCHEME, "Imaging procedure not coded in the source")

STANDARD_CODES: Final = tuple(
    value for value in list(globals().values()) if isinstance(value, CodedConcept) and not value.is_local
)

_INTENSITY: Final = {
    Quantity.HU: (ATTENUATION, HOUNSFIELD_UNIT),
    Quantity.SUV_BW: (SUV_BW, SUV_BW_UNIT),
    Quantity.ACTIVITY: (CodedConcept("ACTIVITY", LOCAL_SCHEME, "Activity concentration"), BECQUEREL_PER_ML),
}


def intensity_concepts(quantity: Quantity, modality: str | None = None) -> tuple[CodedConcept, CodedConcept]:
    """The concept and the UCUM unit of the numbers in a volume of ``quantity``."""
    if quantity in _INTENSITY:
        return _INTENSITY[quantity]
    return (MR_SIGNAL if modality == "MR" else VOXEL_VALUE), NO_UNITS
