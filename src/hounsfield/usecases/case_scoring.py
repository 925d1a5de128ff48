"""One package over many cases: read, infer, compare; what fails is kept by name."""

from __future__ import annotations

import heapq
import time
from collections import Counter
from dataclasses import replace

from hounsfield.errors import GeometryRefused, HounsfieldError, InputError
from hounsfield.evaluation.dataset import Case
from hounsfield.evaluation.pictures import draw_case
from hounsfield.evaluation.record import FailedCase
from hounsfield.evaluation.report import WorstCase
from hounsfield.evaluation.scoring import (
    ScoredSegment,
    ScoringRules,
    SegmentScores,
    foreign_labels,
    label_map,
    reference_of,
    score_case,
)
from hounsfield.evaluation.summary import ScoredCase
from hounsfield.packages import ModelPackage
from hounsfield.reading import read, scan
from hounsfield.usecases.events import Note, OnEvent, silent
from hounsfield.usecases.inferring import infer_stage
from hounsfield.usecases.job import Choices
from hounsfield.usecases.loading import load_stage
from hounsfield.usecases.points import MIDDLE, read_points
from hounsfield.usecases.sessions import Sessions
from hounsfield.usecases.stages import Labelled, Loaded
from hounsfield.volume import Acquisition, LabelMap


class CaseScorer:
    """Scores cases one by one, with the network loaded once.

    Parameters
    ----------
    package, choices
        What reads, and how.
    rules
        How it is compared.
    worst
        How many of the lowest Dice keep a picture.
    sessions
        Where networks are opened.

    Attributes
    ----------
    cases, failed
        In the order they came; every case is in one of them.
    foreign
        Labels of references that the package does not answer: how many cases hold each.
    engine, ran_precision
        What really ran.
    """

    def __init__(
        self,
        package: ModelPackage,
        choices: Choices,
        rules: ScoringRules,
        worst: int = 0,
        sessions: Sessions | None = None,
    ) -> None:
        self._package, self._choices, self._rules, self._most = package, choices, rules, worst
        self._segments = tuple(
            ScoredSegment(spec.number, spec.label, spec.lesion) for spec in package.manifest.output.segments
        )
        self._sessions = Sessions() if sessions is None else sessions
        self._heap: list[tuple[float, int, WorstCase]] = []
        self.cases: list[ScoredCase] = []
        self.failed: list[FailedCase] = []
        self.foreign: Counter[int] = Counter()
        self.engine = self.ran_precision = ""

    def add(self, case: Case, on_event: OnEvent = silent) -> None:
        """Score a case, or note why it gave no score; a package or engine that cannot run at all raises."""
        self._sessions.open(self._package, self._choices)
        try:
            self.cases.append(self._score(case))
        except Exception as error:
            self.failed.append(FailedCase(case.id, type(error).__name__, in_words(error)))
            on_event(Note(f"{case.id} gave no score: {in_words(error)}", "warn"))

    def close(self) -> None:
        """Free the network."""
        self._sessions.close()

    @property
    def worst(self) -> tuple[WorstCase, ...]:
        """The lowest Dice first."""
        return tuple(item[2] for item in sorted(self._heap, key=lambda item: (-item[0], item[1])))

    def _score(self, case: Case) -> ScoredCase:
        began = time.perf_counter()
        loaded, labelled = self.answer(case)
        seconds = time.perf_counter() - began
        annotators = [label_map(read(path)) for path in case.annotators]
        label = None if case.label is None else label_map(read(case.label))
        numbers = [segment.number for segment in self._segments]
        reference = reference_of(label, annotators, numbers, self._rules.consensus_share)
        scores = score_case(labelled.labels, reference, self._segments, self._rules, annotators)
        self.foreign.update(foreign_labels(reference, self._segments))
        self.engine, self.ran_precision = labelled.engine, labelled.precision
        self._keep_if_bad(case, loaded, labelled, reference, scores)
        told = {name: cell for name, cell in case.columns.items() if cell}
        columns = {**acquired(loaded.whole.provenance.acquisition), **told}
        return ScoredCase(case.id, case.patient_id, scores, columns, seconds, loaded.warnings)

    def answer(self, case: Case) -> tuple[Loaded, Labelled]:
        """The scan and the package's labels of it, without a score.

        Raises
        ------
        InputError
            If the case has several images; and whatever reading it raises.
        """
        if len(case.images) != 1:
            raise InputError(
                f"the case has {len(case.images)} images, only models with one image are evaluated",
                "give one image per case",
            )
        with scan(case.images[0][1]) as contents:
            series = contents.choose(repair=self._choices.repair)
            choices = choices_of(case, self._package, self._choices)
            loaded = load_stage(series, self._package, choices)
        return loaded, infer_stage(loaded, self._package, choices, self._sessions, silent)

    def _keep_if_bad(
        self, case: Case, loaded: Loaded, labelled: Labelled, reference: LabelMap, scores: tuple[SegmentScores, ...]
    ) -> None:
        lowest = min(scores, key=lambda one: one.dice)
        full = len(self._heap) >= self._most
        if not self._most or (full and lowest.dice >= -self._heap[0][0]):
            return
        if not loaded.whole.geometry.is_close(reference.geometry):
            raise GeometryRefused("the reference lies on another grid than the scan", "correct the label map")
        picture = draw_case(loaded.whole, labelled.labels, reference, lowest.segment.number)
        item = (-lowest.dice, len(self.cases), WorstCase(case.id, lowest.segment, lowest.dice, lowest.hd95_mm, picture))
        if full:
            heapq.heapreplace(self._heap, item)
        else:
            heapq.heappush(self._heap, item)


def choices_of(case: Case, package: ModelPackage, choices: Choices) -> Choices:
    """The choices with the case's point, for a package that reads the surroundings of one.

    The column ``at`` says it (as ``run --at`` does); without one it is the middle of the scan.
    """
    if package.manifest.input.point is None or choices.at:
        return choices
    told = case.columns.get("at", "")
    return replace(choices, at=read_points([told]) if told else (MIDDLE,))


def acquired(scan: Acquisition) -> dict[str, str]:
    """What the scan itself says of person and machine, as columns; the table's own cells go first."""
    facts = {
        "sex": scan.sex,
        "age_years": scan.age_years,
        "manufacturer": scan.manufacturer,
        "site": scan.institution_hash,
        "manufacturer_model_name": scan.manufacturer_model_name,
        "magnetic_field_tesla": scan.magnetic_field_tesla,
        "convolution_kernel": scan.convolution_kernel,
    }
    return {name: "" if value is None else str(value) for name, value in facts.items()}


def in_words(error: Exception) -> str:
    """Fact and remedy, without the path (the case is named already); unforeseen errors say so."""
    if isinstance(error, HounsfieldError):
        return " ".join(f"{error.fact}; {error.remedy}".split())
    return " ".join(f"an error that was not foreseen: {error}; please report it".split())[:500]
