"""From a study to jobs: what its series are, which routes want them, and why the others do not."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hounsfield.department.jobs import NewJob
from hounsfield.department.routes import Check, Route, SeriesFacts, checks
from hounsfield.errors import SettingsError
from hounsfield.packages import open_package
from hounsfield.planning import Budget
from hounsfield.reading import Series
from hounsfield.reading import scan as scan_path


@dataclass(frozen=True)
class Order:
    """What a job runs on what: plain data, fixed when the job is made.

    Parameters
    ----------
    digests
        The instances, by digest of their files.
    at_mm
        Read only the surroundings of this LPS point; ``None`` reads whole scans.
    deidentify
        Options with which the person is taken out first; ``None``: he is not.
    """

    model: str
    precision: str
    memory: str
    whole: bool
    repair: bool
    allow_unproven: bool
    destinations: tuple[str, ...]
    digests: tuple[str, ...] = ()
    at_mm: tuple[float, float, float] | None = None
    captures: bool = False
    deidentify: Mapping[str, bool] | None = None
    explain: bool = False

    @classmethod
    def of(cls, route: Route, digests: Sequence[str]) -> Order:
        """The order that a route gives."""
        return cls(
            route.model,
            route.precision,
            route.memory,
            route.whole,
            route.repair,
            route.allow_unproven,
            route.destinations,
            tuple(digests),
            captures=route.captures,
            deidentify=None if route.deidentify is None else route.deidentify.model_dump(),
            explain=route.explain,
        )

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Order:
        """The order from :meth:`to_json`."""
        data = json.loads(text)
        point = data.get("at_mm")
        at_mm = None if point is None else (float(point[0]), float(point[1]), float(point[2]))
        lists = {name: tuple(data[name]) for name in ("destinations", "digests")}
        return cls(**{**data, **lists, "at_mm": at_mm})


@dataclass(frozen=True)
class RouteAnswer:
    """What one route says of one series."""

    route: str
    model: str
    matches: bool
    checks: tuple[Check, ...]


@dataclass(frozen=True)
class SeriesAnswer:
    """What all routes say of one series."""

    series: str
    instances: int
    answers: tuple[RouteAnswer, ...]
    files: tuple[Path, ...] = field(default=(), repr=False)

    def as_dict(self) -> dict[str, Any]:
        """The answer as data."""
        return {
            "series": self.series,
            "instances": self.instances,
            "routes": [
                {
                    "route": one.route,
                    "model": one.model,
                    "matches": one.matches,
                    "checks": [asdict(check) for check in one.checks],
                }
                for one in self.answers
            ],
        }


def facts_of(series: Series, calling_ae: str = "") -> SeriesFacts:
    """What routes may look at, of one series."""
    about = series.acquisition
    texts: Mapping[str, str | None] = {
        "modality": series.modality,
        "body_part": about.body_part,
        "study_description": about.study_description,
        "series_description": about.series_description or series.description,
        "protocol_name": about.protocol_name,
        "manufacturer": about.manufacturer,
        "calling_ae": calling_ae,
    }
    numbers: dict[str, tuple[float, ...]] = {}
    if series.geometry is not None:
        spacing = series.geometry.spacing_mm
        numbers = {
            "slices": (float(series.geometry.shape[0]),),
            "spacing_mm": tuple(spacing),
            "slice_spacing_mm": (spacing[0],),
        }
    if about.slice_thickness_mm is not None:
        numbers["slice_thickness_mm"] = (about.slice_thickness_mm,)
    return SeriesFacts(
        texts={**{name: (text,) for name, text in texts.items() if text}, "image_type": about.image_type},
        numbers=numbers,
        kind=series.kind.value,
        contrast=bool((about.contrast_agent or "").strip()),
    )


def ask_routes(routes: Sequence[Route], series: Sequence[Series], calling_ae: str = "") -> tuple[SeriesAnswer, ...]:
    """What every route says of every series, with each condition."""
    return tuple(_ask(routes, one, calling_ae) for one in series)


def _ask(routes: Sequence[Route], series: Series, calling_ae: str) -> SeriesAnswer:
    facts = facts_of(series, calling_ae)
    answers = []
    for route in routes:
        asked = checks(route, facts)
        answers.append(RouteAnswer(route.name, route.model, all(check.holds for check in asked), asked))
    return SeriesAnswer(series.summary, series.instances, tuple(answers), series.files)


def try_routes(routes: Sequence[Route], study: Path, calling_ae: str = "") -> tuple[SeriesAnswer, ...]:
    """A dry run: which routes a study in a folder or file would take, and why.

    Raises
    ------
    NothingToRead, LimitExceeded
        As :func:`hounsfield.reading.scan`.
    """
    with scan_path(study) as contents:
        return ask_routes(routes, contents.series, calling_ae)


def check_routes(routes: Sequence[Route]) -> None:
    """Whether each route's model is here and can run as asked.

    Raises
    ------
    PackageError
        If a model is not installed or broken.
    SettingsError
        If a budget is not a size, the model has nothing for the precision, or cannot be explained.
    """
    for route in routes:
        package = open_package(route.model)
        Budget.parse(route.memory or None)
        if package.manifest.graph_for(route.precision) is None:
            fact = f"route {route.name}: {package.reference} cannot run at {route.precision}"
            raise SettingsError(fact, f"choose one of {', '.join(package.precisions)}")
        if route.explain:
            from hounsfield.usecases.explaining import demand_explanation

            demand_explanation(package)


def jobs_for(routes: Sequence[Route], answers: Sequence[SeriesAnswer], study_uid: str, version: int) -> list[NewJob]:
    """One job for each route that wants at least one series: on all that it wants."""
    made = []
    for number, route in enumerate(routes):
        files = [path for one in answers if one.answers[number].matches for path in one.files]
        if files:
            order = Order.of(route, [path.stem for path in dict.fromkeys(files)])
            made.append(NewJob(study_uid, version, route.name, order.to_json(), route.priority, route.shadow))
    return made
