"""What teaching a smaller network did: as data for the evidence, as a page of Markdown, as lines for the card."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from hounsfield.compression.gate import GateOutcome
from hounsfield.packages.evidence import Evidence


@dataclass(frozen=True)
class Size:
    """One of the two networks: its numbers to learn, its graph's bytes, and the time of one window.

    Parameters
    ----------
    parameters
        Of the network as it is trained.
    window_ms
        Median over turns that both took one after the other, in fp32.
    """

    reference: str
    digest: str
    architecture: Mapping[str, Any]
    parameters: int
    graph_bytes: int
    window_voxels: int
    window_ms: float


@dataclass(frozen=True)
class Student:
    """A smaller network beside the one that taught it.

    Parameters
    ----------
    speed_up
        Median over the turns of the teacher's time over the student's, per voxel of their windows.
    engine, threads
        Where both were timed.
    training
        What decided the weights: steps, seconds, digests, and how it was taught.
    """

    teacher: Size
    student: Size
    speed_up: float
    engine: str
    threads: int
    training: Mapping[str, Any]

    @property
    def removed(self) -> float:
        """Share of the teacher's parameters that the student does without."""
        return 1 - self.student.parameters / self.teacher.parameters

    def details(self) -> dict[str, Any]:
        """Everything as data for JSON."""
        return {**asdict(self), "parameters_removed": round(self.removed, 4)}

    def for_card(self, outcome: GateOutcome) -> str:
        """A section for the model card."""
        return "\n".join(["## Beside its teacher", "", *self._told(), *_verdict(outcome)])

    def _told(self) -> Iterator[str]:
        before, after = self.teacher, self.student
        yield f"- Taught by {before.reference} (digest `{before.digest}`)."
        yield f"- {after.parameters:,} parameters instead of {before.parameters:,}: {self.removed:.1%} fewer."
        times = f"{after.window_ms:.1f} ms instead of {before.window_ms:.1f} ms for a window"
        yield f"- {self.speed_up:.1f} times as fast in {self.engine}, fp32, {self.threads} thread(s): {times}."


def _verdict(outcome: GateOutcome) -> Iterator[str]:
    yield f"- Gate against its teacher: {outcome.verdict}; {outcome.cases} cases, {outcome.patients} patients."
    yield from ("", "|metric|stratum|items|student minus teacher|one-sided bound|margin|verdict|", "|---" * 7 + "|")
    for one in outcome.strata:
        found = one.judgement
        figures = f"{found.items}|{found.mean:+.4f}|{found.bound:+.4f}|{one.margin:g}|{found.verdict}"
        yield f"|{one.metric}|{one.stratum}|{figures}|"


def evaluated(evidence: Evidence) -> str:
    """The figures over all cases for the card: value, 95 % interval, and how many were counted."""
    lines = [
        f"{evidence.data.cases} cases that took no part in its making, {evidence.engine}; 95 % bootstrap intervals:"
    ]
    lines += ["", "|metric|value|n|", "|---|---|---|"]
    for one in (score for score in evidence.scores if score.stratum == "all"):
        unit = "" if one.unit == "1" else f" {one.unit}"
        lines.append(f"|{one.metric}|{one.value:.3f}{unit} ({one.low:.3f} to {one.high:.3f})|{one.n}|")
    return "\n".join(lines)


def student_markdown(made: Student, outcome: GateOutcome) -> str:
    """The page: sizes, speed, how it was taught, and the verdict."""
    return "\n".join(_lines(made, outcome)) + "\n"


def _lines(made: Student, outcome: GateOutcome) -> Iterator[str]:
    before, after = made.teacher, made.student
    yield from (f"# {after.reference}, taught by {before.reference}", "")
    yield from (f"The gate against its teacher: **{outcome.verdict}** (gate/gate.md).", "")
    yield from (f"||{before.reference}|{after.reference}||", "|---|---|---|---|")
    yield f"|filters|{_filters(before)}|{_filters(after)}||"
    yield f"|averaged over flips of axes|{_mirror(before)}|{_mirror(after)}||"
    yield f"|parameters|{before.parameters:,}|{after.parameters:,}|{made.removed:.1%} fewer|"
    share = after.graph_bytes / before.graph_bytes
    yield f"|graph, MB|{before.graph_bytes / 1e6:.2f}|{after.graph_bytes / 1e6:.2f}|{share:.0%}|"
    yield f"|one window, ms|{before.window_ms:.2f}|{after.window_ms:.2f}|{made.speed_up:.1f} times as fast|"
    yield from ("", f"Times: {made.engine}, fp32, {made.threads} thread(s), in turns on one machine.", "")
    yield from ("## How it was taught", "", "|||", "|---|---|")
    yield from (f"|{key.replace('_', ' ')}|{value}|" for key, value in made.training.items())
    yield from ("", "Research use only.")


def _filters(size: Size) -> str:
    found = size.architecture.get("filters")
    return "–" if found is None else ", ".join(map(str, found)) if isinstance(found, list | tuple) else str(found)


def _mirror(size: Size) -> str:
    return ", ".join(map(str, size.architecture.get("mirror") or ())) or "none"
