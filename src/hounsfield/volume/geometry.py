"""Where an array lies in the patient: shape, affine to LPS millimetres, frame of reference.

One convention in the whole house: arrays are indexed ``(k, j, i)`` = (slice, row, column), and
the affine maps ``(k, j, i, 1)`` of a voxel *centre* to ``(x, y, z, 1)`` in millimetres in the
DICOM patient system (PS3.3 C.7.6.2.1.1): x grows to the patient's Left, y to Posterior, z to
Superior ("LPS"). RAS exists only at the NIfTI edge (``affine_ras``).

Orientation codes name where the index axes point, in the order (i, j, k) that other tools
use: ``"LPS"`` means columns grow to the Left, rows to Posterior, slices to Superior.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hounsfield.errors import GeometryRefused

_POSITIVE: Final = "LPS"
_NEGATIVE: Final = "RAI"
_ORTHONORMAL_TOLERANCE: Final = 1e-3

Shape = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Geometry:
    """The place of a ``(slices, rows, columns)`` array in the patient.

    Parameters
    ----------
    shape
        (slices, rows, columns), each at least 1.
    affine
        (4, 4) float64, index (k, j, i, 1) of a voxel centre to LPS mm.
    frame_of_reference_uid
        DICOM Frame of Reference UID, ``None`` where the source has none.

    Raises
    ------
    GeometryRefused
        If the shape is empty, or the affine is not finite, singular or not affine.
    """

    shape: Shape
    affine: NDArray[np.float64]
    frame_of_reference_uid: str | None = None

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        if len(shape) != 3 or min(shape) < 1:
            raise GeometryRefused(f"the shape {shape} is not (slices, rows, columns)", "check the file")
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise GeometryRefused("the affine is not a finite 4x4 matrix", "check the spacing and position tags")
        if not np.allclose(affine[3], (0, 0, 0, 1)):
            raise GeometryRefused("the last row of the affine is not (0, 0, 0, 1)", "check the header")
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
        if lengths.min() < 1e-6 or abs(np.linalg.det(affine[:3, :3])) < 1e-6 * lengths.prod():
            raise GeometryRefused(
                f"the voxel spacing {tuple(lengths.round(6).tolist())} mm or the axes are degenerate",
                "check the spacing and orientation tags",
            )
        affine.setflags(write=False)
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "affine", affine)

    @classmethod
    def from_parts(
        cls,
        shape: Shape,
        spacing_mm: ArrayLike = (1.0, 1.0, 1.0),
        origin_mm: ArrayLike = (0.0, 0.0, 0.0),
        direction: ArrayLike | None = None,
        frame_of_reference_uid: str | None = None,
    ) -> Geometry:
        """Build from spacing (k, j, i) mm, LPS origin mm and a (3, 3) direction.

        The columns of ``direction`` are the unit LPS vectors of the index axes k, j, i; by
        default those of an axial "LPS" volume (k to Superior, j to Posterior, i to Left).
        """
        axes = np.eye(3)[:, ::-1] if direction is None else np.asarray(direction, dtype=np.float64)
        affine = np.eye(4)
        affine[:3, :3] = axes * np.asarray(spacing_mm, dtype=np.float64)
        affine[:3, 3] = np.asarray(origin_mm, dtype=np.float64)
        return cls(shape, affine, frame_of_reference_uid)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance of neighbouring voxel centres along (k, j, i), mm."""
        k, j, i = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        return (k, j, i)

    @property
    def origin_mm(self) -> tuple[float, float, float]:
        """LPS mm of the centre of voxel (0, 0, 0)."""
        x, y, z = self.affine[:3, 3].tolist()
        return (x, y, z)

    @property
    def direction(self) -> NDArray[np.float64]:
        """(3, 3) unit LPS vectors of the axes k, j, i, as columns."""
        direction: NDArray[np.float64] = self.affine[:3, :3] / np.asarray(self.spacing_mm)
        return direction

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel, mm3."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    @property
    def extent_mm(self) -> tuple[float, float, float]:
        """Size of the array along (k, j, i) including the outer half voxels, mm."""
        k, j, i = (n * s for n, s in zip(self.shape, self.spacing_mm, strict=True))
        return (k, j, i)

    @property
    def centre_mm(self) -> tuple[float, float, float]:
        """LPS mm of the middle of the array."""
        middle = [(n - 1) / 2 for n in self.shape]
        x, y, z = self.index_to_mm(middle).tolist()
        return (x, y, z)

    @property
    def affine_ras(self) -> NDArray[np.float64]:
        """(4, 4) NIfTI affine: index (i, j, k, 1) to RAS mm (note the index order)."""
        flip = np.diag([-1.0, -1.0, 1.0, 1.0])
        reverse = np.eye(4)[[2, 1, 0, 3]]
        result: NDArray[np.float64] = flip @ self.affine @ reverse
        return result

    @classmethod
    def from_affine_ras(
        cls, shape_ijk: Shape, affine_ras: ArrayLike, frame_of_reference_uid: str | None = None
    ) -> Geometry:
        """Build from a NIfTI shape (i, j, k) and affine, index (i, j, k, 1) to RAS mm."""
        flip = np.diag([-1.0, -1.0, 1.0, 1.0])
        reverse = np.eye(4)[[2, 1, 0, 3]]
        affine = flip @ np.asarray(affine_ras, dtype=np.float64) @ reverse
        return cls((shape_ijk[2], shape_ijk[1], shape_ijk[0]), affine, frame_of_reference_uid)

    @property
    def is_orthonormal(self) -> bool:
        """Whether the axes are at right angles (within 1e-3), so that no shear is present."""
        axes = self.direction
        return bool(np.abs(axes.T @ axes - np.eye(3)).max() < _ORTHONORMAL_TOLERANCE)

    @property
    def is_right_handed(self) -> bool:
        """Whether (i, j, k) form a right-handed system, as DICOM slices along their normal do."""
        return bool(np.linalg.det(self.affine[:3, [2, 1, 0]]) > 0)

    @property
    def orientation(self) -> str:
        """Nearest of the 48 codes, letters for the axes (i, j, k), such as ``"LPS"``."""
        axis_of, sign_of = self._nearest_axes()
        letters = [(_POSITIVE if sign_of[n] > 0 else _NEGATIVE)[axis_of[n]] for n in range(3)]
        return "".join(reversed(letters))

    @property
    def obliquity_degrees(self) -> float:
        """Largest angle between an index axis and its nearest patient axis, degrees."""
        axis_of, _ = self._nearest_axes()
        cosines = [abs(self.direction[axis_of[n], n]) for n in range(3)]
        return float(np.degrees(np.arccos(min(1.0, min(cosines)))))

    def _nearest_axes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """For index axes k, j, i: the patient axis each follows, and the sign (a bijection)."""
        direction = self.direction
        best = max(
            itertools.permutations(range(3)),
            key=lambda order: sum(abs(direction[order[n], n]) for n in range(3)),
        )
        return best, tuple(1 if direction[best[n], n] >= 0 else -1 for n in range(3))

    def index_to_mm(self, index: ArrayLike) -> NDArray[np.float64]:
        """LPS mm (..., 3) of (fractional) indices (..., 3) in the order (k, j, i)."""
        result: NDArray[np.float64] = np.asarray(index, dtype=np.float64) @ self.affine[:3, :3].T + self.affine[:3, 3]
        return result

    def mm_to_index(self, point_mm: ArrayLike) -> NDArray[np.float64]:
        """Fractional indices (..., 3) in the order (k, j, i) of LPS points (..., 3) in mm."""
        inverse = np.linalg.inv(self.affine[:3, :3])
        result: NDArray[np.float64] = (np.asarray(point_mm, dtype=np.float64) - self.affine[:3, 3]) @ inverse.T
        return result

    def contains_mm(self, point_mm: ArrayLike) -> bool:
        """Whether an LPS point lies in the array, outer half voxels included."""
        index = self.mm_to_index(point_mm)
        return bool(((index >= -0.5) & (index <= np.asarray(self.shape) - 0.5)).all())

    def cropped(self, start: Shape, shape: Shape) -> Geometry:
        """The box of ``shape`` whose first voxel is ``start``; negative starts pad."""
        affine = self.affine.copy()
        affine[:3, 3] = self.index_to_mm(start)
        return Geometry(shape, affine, self.frame_of_reference_uid)

    def reoriented(self, code: str) -> tuple[Geometry, tuple[int, int, int], tuple[bool, bool, bool]]:
        """The same voxels with index axes along ``code``; oblique volumes go to the nearest.

        Returns
        -------
        geometry, order, flips
            ``flip(transpose(array, order), axes where flips)`` moves an array along.
        """
        wanted = parse_orientation(code)
        axis_of, sign_of = self._nearest_axes()
        order = tuple(axis_of.index(axis) for axis, _ in wanted)
        flips = tuple(sign_of[o] != sign for o, (_, sign) in zip(order, wanted, strict=True))
        affine = np.eye(4)
        start = [0, 0, 0]
        for new, (old, flip) in enumerate(zip(order, flips, strict=True)):
            affine[:3, new] = -self.affine[:3, old] if flip else self.affine[:3, old]
            start[old] = self.shape[old] - 1 if flip else 0
        affine[:3, 3] = self.index_to_mm(start)
        shape = (self.shape[order[0]], self.shape[order[1]], self.shape[order[2]])
        moved = Geometry(shape, affine, self.frame_of_reference_uid)
        return moved, (order[0], order[1], order[2]), (flips[0], flips[1], flips[2])

    def resampled(self, spacing_mm: ArrayLike) -> Geometry:
        """The grid of the same extent with ``spacing_mm`` (k, j, i), or the nearest to it.

        The outer faces of the array stay where they are, so the spacing is adjusted to
        ``extent / round(extent / spacing)`` and nothing is cut or shifted.
        """
        wanted = np.asarray(spacing_mm, dtype=np.float64)
        if wanted.shape != (3,) or not np.isfinite(wanted).all() or wanted.min() <= 0:
            raise GeometryRefused(
                f"the spacing {wanted.tolist()} mm is not three positive numbers", "give (k, j, i) mm"
            )
        old_shape = np.asarray(self.shape, dtype=np.float64)
        new_shape = np.maximum(1, np.rint(np.asarray(self.extent_mm) / wanted)).astype(int)
        factor = old_shape / new_shape
        affine = self.affine.copy()
        affine[:3, :3] *= factor
        affine[:3, 3] = self.index_to_mm((factor - 1) / 2)
        k, j, i = new_shape.tolist()
        return Geometry((k, j, i), affine, self.frame_of_reference_uid)

    def is_close(self, other: Geometry, tolerance_mm: float = 1e-3) -> bool:
        """Whether all eight corner voxels of both lie within ``tolerance_mm``, with equal shape."""
        if self.shape != other.shape:
            return False
        corners = np.array(list(itertools.product(*((0, n - 1) for n in self.shape))), dtype=np.float64)
        distance = np.linalg.norm(self.index_to_mm(corners) - other.index_to_mm(corners), axis=1)
        return bool(distance.max() <= tolerance_mm)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Geometry):
            return NotImplemented
        return (
            self.shape == other.shape
            and self.frame_of_reference_uid == other.frame_of_reference_uid
            and bool(np.array_equal(self.affine, other.affine))
        )

    def __hash__(self) -> int:
        return hash((self.shape, self.affine.tobytes(), self.frame_of_reference_uid))


def parse_orientation(code: str) -> tuple[tuple[int, int], ...]:
    """(patient axis, sign) of the index axes (k, j, i) for a code such as ``"LPS"``.

    Raises
    ------
    GeometryRefused
        If the code does not name each patient axis once.
    """
    pairs = []
    for letter in reversed(code.upper()):
        if letter in _POSITIVE:
            pairs.append((_POSITIVE.index(letter), 1))
        elif letter in _NEGATIVE:
            pairs.append((_NEGATIVE.index(letter), -1))
    if len(code) != 3 or sorted(axis for axis, _ in pairs) != [0, 1, 2]:
        raise GeometryRefused(f"{code!r} is not an orientation code", "use three letters such as LPS, RAS or PIR")
    return tuple(pairs)


def all_orientations() -> tuple[str, ...]:
    """The 48 orientation codes."""
    return tuple(
        "".join(_POSITIVE[a] if s else _NEGATIVE[a] for a, s in zip(axes, signs, strict=True))
        for axes in itertools.permutations(range(3))
        for signs in itertools.product((True, False), repeat=3)
    )
