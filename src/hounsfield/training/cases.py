"""One case of the table as arrays that the network sees: scans prepared, labels on the same grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import GeometryRefused, InputError, NotReadable
from hounsfield.evaluation.dataset import Case
from hounsfield.packages.answers import TimesSpec
from hounsfield.packages.manifest import InputSpec
from hounsfield.preparing import prepare, source_view
from hounsfield.preparing.prepared import Prepared
from hounsfield.preparing.sequence import as_series, prepare_sequence
from hounsfield.preparing.steps import resample_nearest
from hounsfield.reading import load, scan
from hounsfield.training.recipe import Recipe
from hounsfield.volume import Geometry, TimeSeries, Volume

_PICTURES = (".png", ".jpg", ".jpeg")
_TOLERANCE_MM = 0.05
_MOST_PIXELS = 2**28


@dataclass(frozen=True, eq=False)
class LoadedCase:
    """What training needs of a case.

    Parameters
    ----------
    image
        (channels, k, j, i) float32 network values; the phases of a sequence as channels.
    label
        (k, j, i) uint8 or uint16 on the same grid; ``None`` where the target is in the table.
    spacing_mm
        Of that grid, (k, j, i).
    """

    image: NDArray[np.float32]
    label: NDArray[Any] | None
    spacing_mm: tuple[float, float, float]


def load_case(case: Case, recipe: Recipe) -> LoadedCase:
    """Read, check and prepare a case.

    Raises
    ------
    InputError
        If a voxel is not a number, the label holds a value that the recipe does not know, or the number of
        scans is wrong. The case is named by its id, never by its patient.
    GeometryRefused
        If the label does not lie on the grid of its scan.
    """
    if not recipe.input.channels:  # a record alone
        return LoadedCase(np.zeros((0, *recipe.window), np.float32), None, (1.0, 1.0, 1.0))
    if recipe.task == "dynamic":
        series = _sequence(case, recipe)
        read = prepare_sequence(series, _with_times(recipe))
        image, first, source = read.values, read.prepared, series.geometry
    else:
        volumes = _volumes(case, recipe)
        first = prepare(volumes, recipe.input)
        image, source = first.array, volumes[0].geometry
    if not np.isfinite(image).all():
        raise InputError(
            fact=f"case {case.id}: {int((~np.isfinite(image)).sum())} voxels are not numbers (NaN or infinite)",
            remedy="repair the scan or remove the case from the table",
            path=case.images[0][1],
        )
    label = _maps(case, recipe, source, first) if recipe.maps else _label(case, recipe, source, first)
    return LoadedCase(np.ascontiguousarray(image, np.float32), label, first.geometry.spacing_mm)


def targets_of(cases: Sequence[Case], recipe: Recipe, path: Path) -> dict[str, tuple[float, ...]]:
    """The class number, or the 0/1 findings, of each case by its id.

    Raises
    ------
    InputError
        If a column is missing, a value is not one of the classes, or all cases have the same one.
    """
    if recipe.quantities:
        return records_of(cases, recipe.data.target, path, required=True)
    found: dict[str, tuple[float, ...]] = {}
    for case in cases:
        cells = [_cell(case, name, path) for name in recipe.data.target]
        if len(cells) == 1:
            if cells[0] not in recipe.data.classes:
                raise InputError(
                    fact=f"case {case.id}: {recipe.data.target[0]} is {cells[0]!r}, not one of the classes",
                    remedy=f"use one of: {', '.join(recipe.data.classes)}",
                    path=path,
                )
            found[case.id] = (float(recipe.data.classes.index(cells[0])),)
        else:
            if not set(cells) <= {"0", "1"}:
                raise InputError(f"case {case.id}: a finding is not 0 or 1", "correct the cell", path)
            found[case.id] = tuple(float(cell) for cell in cells)
    for column, name in enumerate(recipe.data.target):
        if len({values[column] for values in found.values()}) == 1:
            raise InputError(
                fact=f"all {len(found)} cases have the same value of {name!r}: there is nothing to learn",
                remedy="add cases of the other class, or correct the split",
                path=path,
            )
    return found


def records_of(
    cases: Sequence[Case], names: Sequence[str], path: Path, required: bool = False
) -> dict[str, tuple[float, ...]]:
    """The numbers of each case in these columns; an empty cell is NaN (missing), unless it is required."""
    found: dict[str, tuple[float, ...]] = {}
    for case in cases:
        values = []
        for name in names:
            cell = _cell(case, name, path)
            try:
                values.append(float(cell) if cell or required else float("nan"))
            except ValueError:
                raise InputError(
                    f"case {case.id}: {name} is {cell!r}, not a number", "write a number or leave it empty", path
                ) from None
        found[case.id] = tuple(values)
    return found


def read_volume(path: Path) -> Volume | TimeSeries:
    """A scan of any format that is read here; a PNG or JPEG counts as one slice of 1 mm pixels."""
    if path.suffix.lower() in _PICTURES:
        return _picture(path)
    with scan(path) as contents:
        return load(contents.choose())


def _cell(case: Case, name: str, path: Path) -> str:
    if name not in case.columns:
        raise InputError(
            fact=f"the table has no column {name!r}",
            remedy=f"its further columns are: {', '.join(case.columns) or 'none'}",
            path=path,
        )
    return case.columns[name]


def _volumes(case: Case, recipe: Recipe) -> list[Volume]:
    """One volume per channel."""
    volumes: list[Volume] = []
    for _, path in _ordered(case, recipe):
        one = read_volume(path)
        if not isinstance(one, Volume):
            raise GeometryRefused(f"case {case.id} is a time series", "use a recipe with task = 'dynamic'", path)
        volumes.append(one)
    if len(volumes) != len(recipe.input.channels):
        raise InputError(
            fact=f"case {case.id} has {len(volumes)} scans, the recipe asks for {len(recipe.input.channels)} channels",
            remedy="correct the table or the recipe",
            path=case.images[0][1],
        )
    return volumes


def _sequence(case: Case, recipe: Recipe) -> TimeSeries:
    """The case's one dynamic scan, or its single volumes as the phases of one."""
    read = [read_volume(path) for _, path in _ordered(case, recipe)]
    volumes = [one for one in read if isinstance(one, Volume)]
    if len(read) == 1 and isinstance(read[0], TimeSeries):
        return read[0]
    if len(volumes) != len(read):
        raise InputError(f"case {case.id} mixes volumes and time series", "give one of them", case.images[0][1])
    return as_series(volumes, f"case {case.id}")


def _with_times(recipe: Recipe) -> InputSpec:
    """The input table; a recipe that only says how many phases there are takes them evenly."""
    if recipe.input.times is not None or recipe.phases is None:
        return recipe.input
    return recipe.input.model_copy(update={"times": TimesSpec(count=recipe.phases)})


def _maps(case: Case, recipe: Recipe, source: Geometry, prepared: Prepared) -> NDArray[np.float32]:
    """(quantities, k, j, i) float32 in the quantities' units; NaN where nobody knows."""
    if case.label is None:
        raise InputError(f"case {case.id} has no maps", "fill in the column 'label'")
    given = maps_of(case.label, len(recipe.quantities), source, case.id)
    return np.stack([source_view(one, prepared) for one in given])


def maps_of(path: Path, count: int, source: Geometry, case_id: str) -> NDArray[np.float32]:
    """(count, slices, rows, columns) float32 of a file with one volume per quantity, on the scan's grid.

    Raises
    ------
    GeometryRefused
        If its grid is another one than the scan's.
    InputError
        If it has another number of volumes, or not one number.
    """
    read = read_volume(path)
    arrays = read.array if isinstance(read, TimeSeries) else read.array[None]
    if len(arrays) != count:
        raise InputError(f"case {case_id}: {len(arrays)} maps for {count} quantities", "give one volume each", path)
    if not read.geometry.is_close(source, _TOLERANCE_MM):
        raise GeometryRefused(
            f"case {case_id}: the maps do not lie on the scan's grid ({difference(read.geometry, source)})",
            "resample them onto the scan",
            path,
        )
    maps = np.asarray(arrays, np.float32)
    if not np.isfinite(maps).all(axis=0).any():
        raise InputError(f"case {case_id}: the maps hold no number", "correct the maps", path)
    return maps


def _ordered(case: Case, recipe: Recipe) -> list[tuple[str, Path]]:
    """The images in the order of the recipe's channels, where the table names them so."""
    by_name: Mapping[str, Path] = dict(case.images)
    names = [channel.name for channel in recipe.input.channels]
    if recipe.task != "dynamic" and set(names) == set(by_name):
        return [(name, by_name[name]) for name in names]
    return list(case.images)


def _label(case: Case, recipe: Recipe, source: Geometry, prepared: Prepared) -> NDArray[Any] | None:
    if recipe.task not in ("segmentation", "detection"):
        return None
    if case.label is not None:
        array = label_array(case.label, source, case.id)
    elif case.annotators and recipe.label_count == 1:
        drawn = [label_array(path, source, case.id) > 0 for path in case.annotators]
        array = (np.mean(drawn, axis=0) >= 0.5).astype(np.uint8)
    else:
        raise InputError(f"case {case.id} has no label", "fill in the column 'label'")
    largest = int(array.max())
    if largest > recipe.label_count:
        raise InputError(
            fact=f"case {case.id}: the label holds the value {largest}, the recipe knows 1 to {recipe.label_count}",
            remedy="correct the label, or the segments of the recipe",
            path=case.label,
        )
    turned = source_view(array, prepared)
    for axis, size in enumerate(prepared.shape):
        turned = resample_nearest(turned, axis, size) if turned.shape[axis] != size else turned
    return np.ascontiguousarray(turned)


def label_array(path: Path, source: Geometry, case_id: str) -> NDArray[Any]:
    """The label map of a scan with geometry ``source``: (slices, rows, columns) uint8 or uint16.

    Raises
    ------
    GeometryRefused
        If its grid is another one than the scan's.
    InputError
        If a value is not a whole number from 0 to 65535.
    """
    return checked_label(read_volume(path), path, source, case_id)


def checked_label(label: Volume | TimeSeries, path: Path, source: Geometry, case_id: str) -> NDArray[Any]:
    """As :func:`label_array`, of a file that was read already."""
    if isinstance(label, TimeSeries) or not label.geometry.is_close(source, _TOLERANCE_MM):
        raise GeometryRefused(
            fact=f"case {case_id}: the label does not lie on its scan's grid ({difference(label.geometry, source)})",
            remedy="resample the label onto the scan, or correct its header",
            path=path,
        )
    values = np.asarray(label.array)
    whole = values.astype(np.int64) if np.isfinite(values).all() else np.full(values.shape, -1)
    if values.size and (not np.array_equal(whole, values) or whole.min() < 0 or whole.max() > 65535):
        raise InputError(f"case {case_id}: a label is not a whole number from 0 to 65535", "correct the label", path)
    return whole.astype(np.uint8 if int(whole.max()) < 256 else np.uint16)


def difference(one: Geometry, other: Geometry) -> str:
    """How two grids differ, in plain words."""
    if one.shape != other.shape:
        return f"shape {one.shape} against {other.shape}"
    if not np.allclose(one.spacing_mm, other.spacing_mm, rtol=1e-3):
        return f"spacing {_numbers(one.spacing_mm)} against {_numbers(other.spacing_mm)} mm"
    if not np.allclose(one.direction, other.direction, atol=1e-3):
        return f"axes {one.orientation} against {other.orientation}, or another tilt"
    return f"origin {_numbers(one.origin_mm)} against {_numbers(other.origin_mm)} mm"


def _numbers(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in values) + ")"


def _picture(path: Path) -> Volume:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise InputError("the picture is too large", "make it smaller", path)
            grey = image if image.mode in ("L", "I;16", "I") else image.convert("L")
            array = np.asarray(grey)
    except (UnidentifiedImageError, OSError, ValueError) as error:
        raise NotReadable("the picture cannot be decoded", "save it again as PNG or JPEG", path) from error
    return Volume(array[None], Geometry.from_parts((1, *array.shape)))
