"""One package that answers scores or numbers over many cases; what fails is kept by name."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import InputError
from hounsfield.evaluation.dataset import Case, Dataset
from hounsfield.evaluation.detection import Candidate, Target
from hounsfield.evaluation.detection_summary import DetectedCase
from hounsfield.evaluation.record import FailedCase
from hounsfield.evaluation.score_record import AnsweredCase
from hounsfield.evaluation.scoring import label_map
from hounsfield.findings.maps import ParameterMap
from hounsfield.packages import ModelPackage
from hounsfield.reading import read, scan
from hounsfield.training.cases import maps_of, read_volume
from hounsfield.usecases.case_scoring import acquired, choices_of, in_words
from hounsfield.usecases.events import Note, OnEvent, silent
from hounsfield.usecases.inferring import infer_stage
from hounsfield.usecases.job import Choices
from hounsfield.usecases.loading import load_stage, loaded_part
from hounsfield.usecases.records import checked_record
from hounsfield.usecases.run_record import answer_record, is_record_only
from hounsfield.usecases.sessions import Sessions
from hounsfield.usecases.small_networks import reads_named_inputs
from hounsfield.usecases.stages import Labelled, Loaded
from hounsfield.volume import Volume

Floats = NDArray[np.float64]
_MOST_VOXELS = 500
_PICTURES = (".png", ".jpg", ".jpeg")


class ScoreScorer:
    """Answers cases one by one, with the network loaded once.

    Attributes
    ----------
    cases, failed
        In the order they came; every case is in one of them.
    engine, ran_precision
        What really ran.
    """

    def __init__(self, package: ModelPackage, choices: Choices, known: Mapping[str, Mapping[str, float]]) -> None:
        self._package, self._choices, self._known = package, choices, known
        self._sessions = Sessions()
        self.cases: list[AnsweredCase] = []
        self.failed: list[FailedCase] = []
        self.detections: list[tuple[DetectedCase, ...]] = []
        self.voxels: list[tuple[Floats, Floats]] = []
        self.engine = self.ran_precision = ""

    def add(self, case: Case, on_event: OnEvent = silent) -> None:
        """Answer a case, or note why it gave no answer; a package or engine that cannot run at all raises."""
        if not reads_named_inputs(self._package):
            self._sessions.open(self._package, self._choices)
        try:
            self.cases.append(self._answered(case))
        except Exception as error:
            self.failed.append(FailedCase(case.id, type(error).__name__, in_words(error)))
            on_event(Note(f"{case.id} gave no answer: {in_words(error)}", "warn"))

    def close(self) -> None:
        """Free the network."""
        self._sessions.close()

    def _answered(self, case: Case) -> AnsweredCase:
        began = time.perf_counter()
        if is_record_only(self._package):
            return self._record(case, began)
        known = self._known.get(case.id, {})
        choices = choices_of(case, self._package, self._choices)
        told = {name: cell for name, cell in case.columns.items() if cell}
        columns = self._package.manifest.input.record
        choices = replace(choices, record=tuple((one.name, told.get(one.name)) for one in columns))
        loaded = self._loaded(case, choices)
        answer: Labelled = infer_stage(loaded, self._package, choices, self._sessions, silent)
        self.engine, self.ran_precision = answer.engine, answer.precision
        if self._package.manifest.output.boxes:
            self.detections.append(detected_case(case, answer, len(self._package.manifest.output.boxes)))
        answers = {one.label: one.probability for one in answer.scores}
        answers |= {label: one.value for label, one in answer.numbers}
        if answer.maps:
            truth, found = compared_maps(case, answer.maps)
            self.voxels.append((truth, found))
            labels = [one.label for one in answer.maps]
            answers, known = (dict(zip(labels, side.mean(axis=1).tolist(), strict=True)) for side in (found, truth))
        return AnsweredCase(
            case.id,
            case.patient_id,
            answers,
            known,
            {**acquired(loaded.whole.provenance.acquisition), **told},
            time.perf_counter() - began,
            (*loaded.warnings, *answer.warnings),
        )

    def _record(self, case: Case, began: float) -> AnsweredCase:
        columns = self._package.manifest.input.record
        told = {name: cell for name, cell in case.columns.items() if cell}
        values, warnings = checked_record({one.name: told.get(one.name) for one in columns}, columns)
        answer = answer_record(self._package, self._choices, values)
        self.engine, self.ran_precision = answer.ran.engine, answer.ran.precision
        scores = {one.label: one.probability for one in answer.scores}
        seconds = time.perf_counter() - began
        return AnsweredCase(case.id, case.patient_id, scores, self._known[case.id], told, seconds, warnings)

    def _loaded(self, case: Case, choices: Choices) -> Loaded:
        if len(case.images) != 1:
            raise InputError(
                f"the case has {len(case.images)} images, only models with one image are evaluated",
                "give one image per case",
            )
        path = case.images[0][1]
        if path.suffix.lower() in _PICTURES:
            return self._picture(path, choices)
        with scan(path) as contents:
            return load_stage(contents.choose(repair=choices.repair), self._package, choices)

    def _picture(self, path: Path, choices: Choices) -> Loaded:
        """A PNG or JPEG of a data set, read as in training: one slice of 1 mm pixels."""
        volume = read_volume(path)
        if not isinstance(volume, Volume):
            raise InputError("it is no single picture", "give one image per case", path)
        return loaded_part(volume, self._package, choices, (), path, time.perf_counter())


def compared_maps(case: Case, maps: Sequence[ParameterMap]) -> tuple[Floats, Floats]:
    """Known and found numbers (quantities, voxels) of up to 500 voxels, evenly spread over those that are known.

    Raises
    ------
    InputError
        If the case has no maps, or the network read not one of those voxels.
    GeometryRefused
        If they lie on another grid.
    """
    if case.label is None:
        raise InputError("the case has no known maps", "fill in the column 'label'")
    geometry = read_volume(case.images[0][1]).geometry
    truth = maps_of(case.label, len(maps), geometry, case.id)
    found = np.stack([one.array for one in maps])
    both = np.flatnonzero(np.isfinite(truth).all(axis=0) & np.isfinite(found).all(axis=0))
    if not both.size:
        raise InputError("the network read no voxel whose numbers are known", "check the maps")
    chosen = both[np.linspace(0, both.size - 1, min(_MOST_VOXELS, both.size)).astype(int)]
    known, answered = (side.reshape(len(maps), -1)[:, chosen].astype(np.float64) for side in (truth, found))
    return known, answered


def known_numbers(data: Dataset, package: ModelPackage) -> dict[str, dict[str, float]]:
    """The table's number of every quantity, by case."""
    labels = [one.label for one in package.manifest.output.quantities]
    return {case.id: {label: number_in(case, label, data) for label in labels} for case in data.cases}


def detected_case(case: Case, answer: Labelled, kinds: int) -> tuple[DetectedCase, ...]:
    """Candidates and targets of a scan, one per kind; targets are the components of label 1, 2 ... in order.

    Raises
    ------
    InputError
        If the case has no label map.
    """
    from scipy import ndimage

    if case.label is None:
        raise InputError("the case has no label map", "fill in the column 'label'")
    labels = label_map(read(case.label))
    made = []
    for kind in range(kinds):
        numbered, count = ndimage.label(labels.array == kind + 1, np.ones((3, 3, 3)))
        targets = []
        for number in range(1, count + 1):
            voxels = np.argwhere(numbered == number)
            x, y, z = labels.geometry.index_to_mm(voxels.mean(axis=0)).tolist()
            volume = len(voxels) * labels.geometry.voxel_volume_mm3
            targets.append(Target((x, y, z), (6 * volume / math.pi) ** (1 / 3)))
        found = tuple(Candidate(one.centre_mm, one.score) for one in answer.detected if one.kind == kind)
        made.append(DetectedCase(case.id, case.patient_id, found, tuple(targets)))
    return tuple(made)


def known_classes(data: Dataset, package: ModelPackage, target: str) -> dict[str, dict[str, float]]:
    """What the table says of every case: 1 or 0 by label of the package.

    With softmax one column (``target``, else the package's own) holds the label; with sigmoid every label is a
    column of 0 and 1, unless ``target`` names one column.

    Raises
    ------
    InputError
        If a column is missing, or a cell is no label of the package, or no case is of a class.
    """
    output = package.manifest.output
    labels = [one.label for one in output.classes]
    column = target or output.target
    if column or output.activation == "softmax":
        if not column:
            raise InputError("it is not said which column holds the class", "name it with --target COLUMN", data.path)
        known = {case.id: _one_of(case, column, labels, data) for case in data.cases}
    else:
        known = {case.id: {label: _zero_or_one(case, label, data) for label in labels} for case in data.cases}
    for one in output.classes:
        found = {row[one.label] for row in known.values()}
        if one.reported and len(found) < 2:
            which = "every" if 1.0 in found else "no"
            raise InputError(
                f"{which} case is {one.label!r}, so nothing can be told apart", "add cases of both kinds", data.path
            )
    return known


def _one_of(case: Case, column: str, labels: Sequence[str], data: Dataset) -> dict[str, float]:
    cell = _cell(case, column, data)
    if cell not in labels:
        raise InputError(
            f"case {case.id}: {column} is {cell!r}, not a class of the package", f"use: {', '.join(labels)}", data.path
        )
    return {label: float(label == cell) for label in labels}


def _zero_or_one(case: Case, column: str, data: Dataset) -> float:
    cell = _cell(case, column, data)
    if cell not in ("0", "1"):
        raise InputError(f"case {case.id}: {column} is {cell!r}, not 0 or 1", "correct the cell", data.path)
    return float(cell)


def number_in(case: Case, column: str, data: Dataset) -> float:
    """A finite number of the table; raises InputError otherwise."""
    cell = _cell(case, column, data)
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"case {case.id}: {column} is {cell!r}, not a number", "correct the cell", data.path)
    return value


def _cell(case: Case, column: str, data: Dataset) -> str:
    if column not in case.columns:
        known = ", ".join(case.columns) or "none"
        raise InputError(f"the table has no column {column!r}", f"its further columns are: {known}", data.path)
    return case.columns[column]
