"""Everything a training reads: the cases of both parts in the cache, their targets and records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from hounsfield.errors import InputError
from hounsfield.evaluation.dataset import Dataset, read_dataset
from hounsfield.planning.units import parse_bytes
from hounsfield.training.batches import Patches
from hounsfield.training.cache import Cache, Stored
from hounsfield.training.cases import records_of, targets_of
from hounsfield.training.recipe import Recipe

Told = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Material:
    """Training and validation cases, prepared.

    Parameters
    ----------
    training, validation
        Cases in the cache; validation may be empty.
    digest
        sha256 of both parts of the data set.
    patients
        How many different ones are in the training part.
    record_mean, record_std
        Of the training part's record columns, missing values left out.
    """

    training: tuple[Stored, ...]
    validation: tuple[Stored, ...]
    cache: Cache
    patches: Patches
    validation_patches: Patches
    digest: str
    patients: int
    record_mean: torch.Tensor | None = None
    record_std: torch.Tensor | None = None


def gather(recipe: Recipe, folder: Path, cache_folder: Path, stride: int, processes: int, told: Told) -> Material:
    """Read the table, prepare every case once, and check that there is something to learn.

    Parameters
    ----------
    folder
        The recipe's own, for relative paths.
    processes
        On this machine, which share the memory limit.
    told
        Called with a stage, the number done and the total.

    Raises
    ------
    InputError
        For anything wrong with the table, the split, a case, its label or its target.
    """
    labels = recipe.reads_labels
    split = None if recipe.data.split_file is None else folder / recipe.data.split_file
    dataset = read_dataset(
        folder / recipe.data.table, split_file=split, labels=labels, images=bool(recipe.input.channels)
    )
    training = dataset.part(recipe.data.train)
    validation = dataset.part(recipe.data.validation).cases if recipe.data.validation else ()
    cache = Cache(cache_folder, parse_bytes(recipe.data.memory) // processes)
    stored: list[Stored] = []
    cases = (*training.cases, *validation)
    for number, case in enumerate(cases, start=1):
        stored.append(cache.store(case, recipe))
        told("prepare", number, len(cases))
    own, other = tuple(stored[: len(training.cases)]), tuple(stored[len(training.cases) :])
    targets: dict[str, tuple[float, ...]] = {}
    if labels and not recipe.maps:
        _check_labels(own, recipe, dataset.path)
    elif not labels:
        targets = targets_of(training.cases, recipe, dataset.path)
        if validation:
            targets |= targets_of(validation, recipe, dataset.path)
    records = records_of(cases, recipe.data.record, dataset.path) if recipe.task == "fusion" else {}
    mean, std = _moments(np.array([records[c.id] for c in training.cases])) if records else (None, None)
    both = Dataset(dataset.path, cases, dataset.columns)
    return Material(
        own,
        other,
        cache,
        Patches(recipe, own, cache, targets, records, stride),
        Patches(recipe, other, cache, targets, records, stride),
        both.digest(),
        len({case.patient_id for case in training.cases}),
        mean,
        std,
    )


def _check_labels(cases: tuple[Stored, ...], recipe: Recipe, path: Path) -> None:
    seen = {label for stored in cases for label in stored.labels()}
    absent = sorted(set(range(1, recipe.label_count + 1)) - seen)
    if absent:
        raise InputError(
            fact=f"no training case has the label {', '.join(map(str, absent))}: there is nothing to learn",
            remedy="correct the labels or the split, or take the segment out of the recipe",
            path=path,
        )


def _moments(table: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> tuple[torch.Tensor, torch.Tensor]:
    known = np.isfinite(table)
    count = np.maximum(known.sum(0), 1)
    filled = np.where(known, table, 0.0)
    mean = filled.sum(0) / count
    std = np.sqrt((np.where(known, filled - mean, 0.0) ** 2).sum(0) / count)
    std = np.where(std > 0, std, 1.0)
    return torch.tensor(mean, dtype=torch.float32), torch.tensor(std, dtype=torch.float32)
