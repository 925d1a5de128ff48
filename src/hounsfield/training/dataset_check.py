"""Look at every case of a data set before anything is trained on it."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import HounsfieldError, InputError
from hounsfield.evaluation.dataset import Case, Dataset, read_dataset
from hounsfield.training.cases import checked_label, read_volume
from hounsfield.training.montage import Picture, montage_png, picture_of
from hounsfield.volume import TimeSeries

_PER_PAGE = 48
_OUTLIER = 3.0
_SHOWN = 6


@dataclass(frozen=True)
class DatasetIssue:
    """One thing that is wrong or surprising; ``cases`` are ids of rows, never of patients."""

    code: str
    severity: str
    message: str
    cases: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The issue as data."""
        return {"code": self.code, "severity": self.severity, "message": self.message, "cases": list(self.cases)}


@dataclass(frozen=True)
class DatasetReport:
    """What was found.

    Parameters
    ----------
    issues
        ``refuse`` stops a training, ``warn`` deserves a look.
    cases, patients
        By split.
    classes
        By split: how many cases have each label, or each value of the target.
    montages
        PNG pages with one slice per case.
    """

    issues: tuple[DatasetIssue, ...]
    cases: dict[str, int]
    patients: dict[str, int]
    classes: dict[str, dict[str, int]]
    montages: tuple[Path, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether nothing stops a training."""
        return all(issue.severity != "refuse" for issue in self.issues)

    def as_dict(self) -> dict[str, Any]:
        """The report as data, for ``--json``."""
        return {
            "usable": self.usable,
            "issues": [issue.as_dict() for issue in self.issues],
            "cases": self.cases,
            "patients": self.patients,
            "classes": self.classes,
            "montages": [str(path) for path in self.montages],
        }


@dataclass
class _Facts:
    """What is gathered case by case."""

    found: list[DatasetIssue] = field(default_factory=list)
    spacing_mm: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    voxels: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    labels: dict[str, dict[int, int]] = field(default_factory=dict)
    pictures: list[Picture] = field(default_factory=list)


def check_dataset(
    table: Path,
    split_file: Path | None = None,
    target: str = "",
    montage_folder: Path | None = None,
    told: Callable[[int, int], None] = lambda done, total: None,
) -> DatasetReport:
    """Read every image and label of a table and report what a training would stumble over.

    Parameters
    ----------
    target
        Column of the class; empty for label maps.
    montage_folder
        Where to draw the pages; ``None`` for none.
    told
        Called with the cases done and their number.
    """
    try:
        dataset = read_dataset(table, split_file=split_file, labels=not target)
    except InputError as error:
        code = "leakage" if "several splits" in error.fact else "table"
        return DatasetReport((DatasetIssue(code, "refuse", f"{error.fact}; {error.remedy}"),), {}, {}, {})
    facts = _Facts()
    for number, case in enumerate(dataset.cases, start=1):
        _look(case, facts, montage_folder is not None)
        told(number, len(dataset.cases))
    facts.found += _duplicates(dataset, facts) + _spacings(facts) + _absent_labels(dataset, facts, target)
    classes = _classes(dataset, facts, target)
    facts.found += _one_class(classes, target)
    pages = () if montage_folder is None else _draw(facts.pictures, montage_folder)
    order = {"refuse": 0, "warn": 1, "note": 2}
    return DatasetReport(
        tuple(sorted(facts.found, key=lambda issue: order[issue.severity])),
        dict(Counter(case.split for case in dataset.cases)),
        {split: len({c.patient_id for c in dataset.cases if c.split == split}) for split in dataset.splits},
        classes,
        pages,
    )


def _look(case: Case, facts: _Facts, draw: bool) -> None:
    """One case: can it be read, are its voxels numbers, does its label fit."""
    try:
        volumes = [read_volume(path) for _, path in case.images]
        first = volumes[0].at(0) if isinstance(volumes[0], TimeSeries) else volumes[0]
        paths = [case.label] if case.label is not None else list(case.annotators)
        drawn = [(read_volume(path), path) for path in paths]
        labels = [
            checked_label(one, path, first.geometry, case.id)
            for one, path in drawn
            if not (isinstance(one, TimeSeries) and one.geometry.is_close(first.geometry, 0.05))
        ]
    except HounsfieldError as error:
        code = "geometry" if "grid" in error.fact else "unreadable"
        facts.found.append(DatasetIssue(code, "refuse", f"{error.fact}; {error.remedy}", (case.id,)))
        return
    facts.spacing_mm[case.id] = first.geometry.spacing_mm
    whole = hashlib.sha256()
    for volume in volumes:
        array = np.ascontiguousarray(volume.array)
        whole.update(str(array.shape).encode() + array.tobytes())
        _voxels(case.id, array, facts)
        if not isinstance(volume, TimeSeries) and not volume.geometry.is_close(first.geometry, 0.05):
            facts.found.append(DatasetIssue("geometry", "warn", "the channels lie on different grids", (case.id,)))
    facts.voxels[whole.hexdigest()].append(case.id)
    label = labels[0] if labels else None
    if label is not None:
        values, counts = np.unique(label[label > 0], return_counts=True)
        facts.labels[case.id] = dict(zip(values.tolist(), counts.tolist(), strict=True))
        if len(values) == 0:
            facts.found.append(DatasetIssue("empty-label", "warn", "the label is empty", (case.id,)))
    if draw:
        facts.pictures.append(picture_of(case.id, first.array, label))


def _voxels(case_id: str, array: NDArray[Any], facts: _Facts) -> None:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        count = int((~np.isfinite(array)).sum())
        facts.found.append(DatasetIssue("nan", "refuse", f"{count} voxels are not numbers", (case_id,)))
    elif array.min() == array.max():
        facts.found.append(DatasetIssue("constant", "warn", "all voxels have the same value", (case_id,)))


def _duplicates(dataset: Dataset, facts: _Facts) -> list[DatasetIssue]:
    split_of = {case.id: case.split for case in dataset.cases}
    issues = []
    for ids in facts.voxels.values():
        if len(ids) > 1:
            across = len({split_of[one] for one in ids}) > 1
            where = ", in different splits" if across else ""
            message = f"the same voxels under {len(ids)} ids{where}"
            issues.append(DatasetIssue("duplicate", "refuse" if across else "warn", message, tuple(ids)))
    return issues


def _spacings(facts: _Facts) -> list[DatasetIssue]:
    if not facts.spacing_mm:
        return []
    median = np.median(np.array(list(facts.spacing_mm.values())), axis=0)
    far = [
        case
        for case, spacing in facts.spacing_mm.items()
        if max(np.maximum(np.array(spacing) / median, median / np.array(spacing))) > _OUTLIER
    ]
    usual = " x ".join(f"{value:.3g}" for value in median)
    return [DatasetIssue("spacing", "warn", f"voxels far from the usual {usual} mm", tuple(far))] if far else []


def _absent_labels(dataset: Dataset, facts: _Facts, target: str) -> list[DatasetIssue]:
    """A label value of one case only is more often a slip than a structure."""
    if target:
        return []
    having: dict[int, list[str]] = defaultdict(list)
    for case_id, counts in facts.labels.items():
        for value in counts:
            having[value].append(case_id)
    rare = {value: ids for value, ids in having.items() if len(ids) <= max(1, len(facts.labels) // 50)}
    return [
        DatasetIssue(
            "label", "warn", f"the label {value} occurs in {len(ids)} of {len(facts.labels)} cases", tuple(ids)
        )
        for value, ids in sorted(rare.items())
        if len(facts.labels) > 2
    ]


def _classes(dataset: Dataset, facts: _Facts, target: str) -> dict[str, dict[str, int]]:
    table: dict[str, Counter[str]] = {split: Counter() for split in dataset.splits}
    for case in dataset.cases:
        names = [case.columns.get(target, "")] if target else [f"label {v}" for v in facts.labels.get(case.id, {})]
        table[case.split].update(names)
    return {split: dict(sorted(counter.items())) for split, counter in table.items()}


def _one_class(classes: dict[str, dict[str, int]], target: str) -> list[DatasetIssue]:
    issues = []
    for split, counts in classes.items():
        if target and len(counts) < 2:
            issues.append(DatasetIssue("one-class", "refuse", f"all cases of {split!r} have the same {target}"))
        elif target and max(counts.values()) > 10 * min(counts.values()):
            issues.append(DatasetIssue("imbalance", "warn", f"classes of {split!r}: {counts}"))
        elif not target and not counts:
            issues.append(DatasetIssue("one-class", "refuse", f"no case of {split!r} has a labelled voxel"))
    return issues


def _draw(pictures: Sequence[Picture], folder: Path) -> tuple[Path, ...]:
    from hounsfield.training.checkpoints import write_bytes

    folder.mkdir(parents=True, exist_ok=True)
    pages = []
    for number, start in enumerate(range(0, len(pictures), _PER_PAGE), start=1):
        path = folder / f"montage-{number:03d}.png"
        write_bytes(path, montage_png(pictures[start : start + _PER_PAGE]))
        pages.append(path)
    return tuple(pages)
