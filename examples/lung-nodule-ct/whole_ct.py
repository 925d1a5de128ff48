"""Outline the nodule of a whole chest CT around a point, and compare with the four readers' outlines.

The scan is LIDC-IDRI-0001, whose patient is in none of the crops that the network was trained on.
The readers' outlines come from the LIDC XML: the points of an edge map lie just outside the nodule
(LIDC reading instructions), so the outlined region is the inside of the polygon without its edge.
The point is the centre of what at least two readers outlined, and, to see how much it matters,
points 4 mm beside it.

Usage: python whole_ct.py ../../../shared/data/ct-chest-lidc-idri-0001 [--model lung-nodule-ct]
"""

from __future__ import annotations

import argparse
import itertools
import json
import tarfile
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

import hounsfield
from hounsfield.evaluation import dice
from hounsfield.reading import read
from hounsfield.usecases.job import Choices
from hounsfield.volume import Geometry, Place

NAME = "{http://www.nih.gov}"
LEAST_SLICES = 3
OFFSETS_MM = ((0, 0, 0), (4, 0, 0), (0, -4, 0), (0, 0, 4))
Mask = NDArray[np.bool_]


def outlined(xml: Path, geometry: Geometry) -> list[Mask]:
    """One mask (slices, rows, columns) per reader who outlined a nodule on three or more slices."""
    masks = []
    for session in ElementTree.parse(xml).getroot().iter(f"{NAME}readingSession"):  # noqa: S314 - a file at hand
        for nodule in session.iter(f"{NAME}unblindedReadNodule"):
            regions = list(nodule.iter(f"{NAME}roi"))
            if len(regions) >= LEAST_SLICES:
                masks.append(_mask(regions, geometry))
    return masks


def _mask(regions: list[ElementTree.Element], geometry: Geometry) -> Mask:
    mask = np.zeros(geometry.shape, bool)
    for region in regions:
        z = float(region.findtext(f"{NAME}imageZposition", ""))
        k = round(float(geometry.mm_to_index((geometry.origin_mm[0], geometry.origin_mm[1], z))[0]))
        points = [
            (int(point.findtext(f"{NAME}xCoord", "")), int(point.findtext(f"{NAME}yCoord", "")))
            for point in region.iter(f"{NAME}edgeMap")
        ]
        picture = Image.new("1", (geometry.shape[2], geometry.shape[1]))
        ImageDraw.Draw(picture).polygon(points, fill=1, outline=0)
        inside = np.array(picture)
        for i, j in points:
            inside[j, i] = False
        mask[k] ^= inside if region.findtext(f"{NAME}inclusion", "").strip() == "TRUE" else mask[k] & inside
    return mask


def centre_mm(masks: list[Mask], geometry: Geometry) -> tuple[float, float, float]:
    """The centre, LPS mm, of what at least half of the readers outlined."""
    middle = np.argwhere(np.mean(masks, 0) >= 0.5).mean(0)
    x, y, z = geometry.index_to_mm(middle)
    return float(x), float(y), float(z)


def compare(data: Path, model: str) -> dict[str, Any]:
    """Dice between the readers, and of the model with them from each point."""
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(data / "LIDC-IDRI-0001.tar.xz") as archive:
            archive.extractall(Path(folder) / "ct", filter="data")
        geometry = read(Path(folder) / "ct").geometry
        masks = outlined(data / "069.xml", geometry)
        middle = centre_mm(masks, geometry)
        rows: list[dict[str, Any]] = []
        for number, offset in enumerate(OFFSETS_MM):
            point = tuple(round(a + b, 1) for a, b in zip(middle, offset, strict=True))
            choices = Choices(at=(Place(lps_mm=(point[0], point[1], point[2])),), allow_unproven=True)
            result = hounsfield.run(model, Path(folder) / "ct", Path(folder) / f"out-{number}", choices=choices)
            (files,) = result.outputs.values()
            found = np.asarray(read(files["nifti"]).array) > 0
            rows.append(
                {
                    "at_mm": point,
                    "offset_mm": offset,
                    "volume_ml": round(float(found.sum()) * geometry.voxel_volume_mm3 / 1000, 3),
                    "dice_consensus": round(dice(found, np.mean(masks, 0) >= 0.5), 3),
                    "dice_readers": [round(dice(found, mask), 3) for mask in masks],
                }
            )
    between = [round(dice(a, b), 3) for a, b in itertools.combinations(masks, 2)]
    return {
        "readers": len(masks),
        "readers_ml": [round(float(mask.sum()) * geometry.voxel_volume_mm3 / 1000, 3) for mask in masks],
        "between_readers": _range(between),
        "at_centre_consensus": rows[0]["dice_consensus"],
        "at_centre_readers": _range(rows[0]["dice_readers"]),
        "beside_consensus": _range([row["dice_consensus"] for row in rows[1:]]),
        "points": rows,
    }


def _range(values: list[float]) -> str:
    return f"{min(values):.3f} to {max(values):.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="lung-nodule-ct")
    arguments = parser.parse_args()
    print(json.dumps(compare(arguments.data, arguments.model), indent=1))


if __name__ == "__main__":
    main()
