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
from hounsfield.preparing import prepare, source_view
from hounsfield.preparing.prepared import Prepared
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
    volumes = _volumes(case, recipe)
    prepared = [prepare(group, recipe.input) for group in _groups(volumes, recipe, case)]
    first = prepared[0]
    image = np.concatenate([one.array for one in prepared])
    if not np.isfinite(image).all():
        raise InputError(
            fact=f"case {case.id}: {int((~np.isfinite(image)).sum())} voxels are not numbers (NaN or infinite)",
            remedy="repair the scan or remove the case from the table",
            path=case.images[0][1],
        )
    label = _label(case, recipe, volumes[0].geometry, first)
    return LoadedCase(np.ascontiguousarray(image, np.float32), label, first.geometry.spacing_mm)


def targets_of(cases: Sequence[Case], recipe: Recipe, path: Path) -> dict[str, tuple[float, ...]]:
    """The class number, or the 0/1 findings, of each case by its id.

    Raises
    ------
    InputError
        If a column is missing, a value is not one of the classes, or all cases have the same one.
    """
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


def records_of(cases: Sequence[Case], names: Sequence[str], path: Path) -> dict[str, tuple[float, ...]]:
    """The record's numbers of each case; an empty cell is NaN (missing)."""
    found: dict[str, tuple[float, ...]] = {}
    for case in cases:
        values = []
        for name in names:
            cell = _cell(case, name, path)
            try:
                values.append(float(cell) if cell else float("nan"))
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
    wanted = recipe.data.phases
    volumes: list[Volume] = []
    for _, path in _ordered(case, recipe):
        one = read_volume(path)
        if isinstance(one, Volume):
            volumes.append(one)
        elif recipe.task == "dynamic":
            volumes += [one.at(n) for n in range(len(one.times_s))]
        else:
            raise GeometryRefused(f"case {case.id} is a time series", "use a recipe with task = 'dynamic'", path)
    if recipe.task == "dynamic" and wanted is not None and len(volumes) >= wanted:
        volumes = [volumes[round(n)] for n in np.linspace(0, len(volumes) - 1, wanted)]
    expected = wanted if recipe.task == "dynamic" else len(recipe.input.channels)
    if expected is not None and len(volumes) != expected:
        what = "phases" if recipe.task == "dynamic" else "channels"
        raise InputError(
            fact=f"case {case.id} has {len(volumes)} scans, the recipe asks for {expected} {what}",
            remedy="correct the table or the recipe",
            path=case.images[0][1],
        )
    return volumes


def _ordered(case: Case, recipe: Recipe) -> list[tuple[str, Path]]:
    """The images in the order of the recipe's channels, where the table names them so."""
    by_name: Mapping[str, Path] = dict(case.images)
    names = [channel.name for channel in recipe.input.channels]
    if recipe.task != "dynamic" and set(names) == set(by_name):
        return [(name, by_name[name]) for name in names]
    return list(case.images)


def _groups(volumes: list[Volume], recipe: Recipe, case: Case) -> list[list[Volume]]:
    """Volumes that are prepared together: all channels of one image, or each phase for itself."""
    if recipe.task != "dynamic":
        return [volumes]
    if any(not volume.geometry.is_close(volumes[0].geometry, _TOLERANCE_MM) for volume in volumes):
        raise GeometryRefused(
            f"case {case.id}: the phases do not lie on one grid", "register and resample them", case.images[0][1]
        )
    return [[volume] for volume in volumes]


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
    label = read_volume(path)
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
