"""First stage of one scan: read its voxels, and check that the package may read it."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hounsfield.errors import DomainRefused, GeometryRefused
from hounsfield.packages import ModelPackage
from hounsfield.preparing import check_domain
from hounsfield.preparing.domain import demand_domain
from hounsfield.reading import Series, load
from hounsfield.usecases.job import Choices
from hounsfield.usecases.spots import spots_of
from hounsfield.volume import TimeSeries, Volume

if TYPE_CHECKING:
    pass
from hounsfield.usecases.stages import Loaded


def load_stage(series: Series, package: ModelPackage, choices: Choices, known: tuple[str, ...] = ()) -> Loaded:
    """Read the voxels and check the domain; ``known`` are warnings from before.

    Raises
    ------
    InputError, DomainRefused
        If the series cannot be read, or the package must not read it.
    """
    began = time.perf_counter()
    whole = load(series, repair=choices.repair)
    if package.manifest.input.times is not None:
        return _sequence(whole, package, choices, known, series.source, began)
    if isinstance(whole, TimeSeries):
        raise GeometryRefused(
            f"the series has {len(whole.times_s)} time points, the model reads one volume",
            "extract a time point, or choose another series",
            series.source,
        )
    return loaded_part(whole, package, choices, known, series.source, began)


def _sequence(
    series: Volume | TimeSeries,
    package: ModelPackage,
    choices: Choices,
    known: tuple[str, ...],
    source: Path,
    began: float,
) -> Loaded:
    """A sequence in memory; the domain is checked on its first time point."""
    if isinstance(series, Volume):
        raise GeometryRefused(
            "the series is one volume, the model reads a sequence over time", "choose the dynamic series", source
        )
    return replace(loaded_part(series.at(0), package, choices, known, source, began), times=series)


def loaded_part(
    whole: Volume, package: ModelPackage, choices: Choices, known: tuple[str, ...], source: Path, began: float
) -> Loaded:
    """A scan in memory with the parts of it that are read, each within the package's domain."""
    spots = spots_of(whole, package, choices)
    warnings = list(known)
    for spot in spots:
        warnings += _within_domain(spot.part, package, choices, source)
        if spot.point_mm is not None:
            warnings.append(f"only the region around {spot} was read")
    return Loaded(whole, spots, tuple(dict.fromkeys(warnings)), time.perf_counter() - began)


def _within_domain(part: Volume, package: ModelPackage, choices: Choices, source: Path) -> tuple[str, ...]:
    """The warnings of the domain; a refusal names the scan, and the way out where a region would do."""
    domain = package.manifest.domain
    try:
        return demand_domain(check_domain(part, domain), package.reference)
    except DomainRefused as error:
        high = None if domain.extent_mm is None else domain.extent_mm.high
        too_large = high is not None and max(part.geometry.extent_mm) > high
        if too_large and not choices.at and package.manifest.input.spacing_mm is not None:
            remedy = "give the place to read with --at X,Y,Z (LPS mm), or choose another series or model"
            raise DomainRefused(error.fact, remedy, source) from error
        raise DomainRefused(error.fact, error.remedy, source) from error
