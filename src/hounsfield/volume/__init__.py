"""Arrays in space: Geometry, Volume, LabelMap, TimeSeries. LPS mm, index order (k, j, i)."""

from hounsfield.volume.geometry import Geometry, Shape, all_orientations, parse_orientation
from hounsfield.volume.place import Place
from hounsfield.volume.provenance import Acquisition, Provenance, SourceFrame
from hounsfield.volume.volume import LabelMap, Quantity, TimeSeries, Volume

__all__ = [
    "Acquisition",
    "Geometry",
    "LabelMap",
    "Place",
    "Provenance",
    "Quantity",
    "Shape",
    "SourceFrame",
    "TimeSeries",
    "Volume",
    "all_orientations",
    "parse_orientation",
]
