"""Prepared cases on disk, memory-mapped; a bounded part of them in memory.

Each case is prepared once and written under a name that is a hash of its files' content and of the
input table, first under a temporary name. Reading a box copies only that box: no mapping stays
open, so the resident memory of the cache never exceeds its limit.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import OutputError
from hounsfield.evaluation.dataset import Case, content_digest
from hounsfield.training.cases import LoadedCase, load_case
from hounsfield.training.recipe import Recipe

_VOXELS_PER_LABEL = 4096  # of maps, too
_FORMAT = 2
Box = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class Stored:
    """A prepared case in the cache.

    Parameters
    ----------
    case_id
        Its name in the table.
    folder
        Holds ``image.npy`` (channels, k, j, i) float32, ``label.npy`` (k, j, i), ``voxels.npy``
        (n, 4) int32: label, k, j, i of some voxels of each label (of maps: 1, where they are known).
    shape
        (k, j, i).
    channels
        Of the image.
    spacing_mm
        Of the grid.
    voxels
        The content of ``voxels.npy``.
    """

    case_id: str
    folder: Path
    shape: tuple[int, int, int]
    channels: int
    spacing_mm: tuple[float, float, float]
    voxels: NDArray[np.int32]

    @property
    def bytes(self) -> int:
        """Size of image and label on disk."""
        return sum(path.stat().st_size for path in self.folder.glob("*.npy"))

    def labels(self) -> tuple[int, ...]:
        """The labels that occur in the case, background left out."""
        return tuple(sorted({int(value) for value in self.voxels[:, 0]}))


class Cache:
    """Boxes of prepared cases; at most ``memory_bytes`` of whole cases are kept in memory.

    Cases are admitted until the limit is reached and then stay: with random access a cache that
    evicts would only copy. What was not admitted is read from its file each time.
    """

    def __init__(self, folder: Path, memory_bytes: int) -> None:
        self._folder = folder
        self._limit = memory_bytes
        self._kept: dict[Path, NDArray[Any]] = {}
        self.bytes_in_memory = 0

    def store(self, case: Case, recipe: Recipe) -> Stored:
        """The prepared case, from the disk if it is there already.

        Raises
        ------
        InputError
            As :func:`hounsfield.training.cases.load_case` raises.
        OutputError
            If the disk refuses it; nothing half-written stays.
        """
        place = self._folder / _key(case, recipe)
        if not (place / "facts.json").is_file():
            self._write(place, load_case(case, recipe))
        facts = json.loads((place / "facts.json").read_text(encoding="ascii"))
        return Stored(
            case.id, place, tuple(facts["shape"]), facts["channels"], tuple(facts["spacing_mm"]),
            np.load(place / "voxels.npy"),
        )  # fmt: skip

    def image(self, stored: Stored, box: Box) -> NDArray[np.float32]:
        """A copy of a box of the image: (channels, k, j, i) float32."""
        return self._read(stored.folder / "image.npy", (slice(None), *box))

    def label(self, stored: Stored, box: Box) -> NDArray[Any]:
        """A copy of a box of the label: (k, j, i)."""
        return self._read(stored.folder / "label.npy", box)

    def maps(self, stored: Stored, box: Box) -> NDArray[np.float32]:
        """A copy of a box of the maps: (quantities, k, j, i) float32."""
        return self._read(stored.folder / "label.npy", (slice(None), *box))

    def _read(self, path: Path, box: tuple[slice, ...]) -> NDArray[Any]:
        kept = self._kept.get(path)
        if kept is None:
            mapped = np.load(path, mmap_mode="r", allow_pickle=False)
            if self.bytes_in_memory + mapped.nbytes > self._limit:
                return np.array(mapped[box])
            kept = np.array(mapped)
            self._kept[path] = kept
            self.bytes_in_memory += kept.nbytes
        return kept[box].copy()

    def _write(self, place: Path, loaded: LoadedCase) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            stage = Path(tempfile.mkdtemp(prefix=".partial-", dir=self._folder))
        except OSError as error:
            raise _refused(error, self._folder) from error
        try:
            _save(stage / "image.npy", loaded.image)
            if loaded.label is not None:
                _save(stage / "label.npy", loaded.label)
            _save(stage / "voxels.npy", _voxels(loaded.label))
            facts = {
                "shape": loaded.image.shape[1:],
                "channels": loaded.image.shape[0],
                "spacing_mm": loaded.spacing_mm,
            }
            (stage / "facts.json").write_text(json.dumps(facts), encoding="ascii")
            if not (place / "facts.json").is_file():
                stage.rename(place)
        except OSError as error:
            if not (place / "facts.json").is_file():
                raise _refused(error, self._folder) from error
        finally:
            shutil.rmtree(stage, ignore_errors=True)


def store_all(cache: Cache, cases: Sequence[Case], recipe: Recipe) -> list[Stored]:
    """All cases, in their order."""
    return [cache.store(case, recipe) for case in cases]


def _key(case: Case, recipe: Recipe) -> str:
    facts = [
        _FORMAT,
        [(name, content_digest(path)) for name, path in case.images],
        None if case.label is None else content_digest(case.label),
        [content_digest(path) for path in case.annotators] if case.label is None else [],
        recipe.input.model_dump(mode="json", exclude={"window"}),
        recipe.input.window.pad_value,
        recipe.task,
        recipe.label_count,
        recipe.data.phases,
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def _save(path: Path, array: NDArray[Any]) -> None:
    with path.open("xb") as file:
        np.save(file, array, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())


def _voxels(label: NDArray[Any] | None) -> NDArray[np.int32]:
    """Up to 4096 voxels of every label, chosen by a fixed seed: (n, 4) label, k, j, i."""
    rows = [np.empty((0, 4), np.int32)]
    if label is not None and label.ndim == 4:  # maps: the voxels where all are known, as those of label 1
        label = np.isfinite(label).all(axis=0).astype(np.uint8)
    for value in [] if label is None else np.unique(label[label > 0]).tolist():
        places = np.argwhere(label == value)
        if len(places) > _VOXELS_PER_LABEL:
            chosen = np.random.default_rng(int(value)).choice(len(places), _VOXELS_PER_LABEL, replace=False)
            places = places[np.sort(chosen)]
        rows.append(np.column_stack([np.full(len(places), value), places]).astype(np.int32))
    return np.concatenate(rows)


def _refused(error: OSError, folder: Path) -> OutputError:
    return OutputError(
        fact=f"a prepared case cannot be written ({(error.strerror or 'error').lower()})",
        remedy="free space, or choose another output folder",
        path=folder,
    )
