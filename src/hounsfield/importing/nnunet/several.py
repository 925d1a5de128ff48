"""A folder of several nnU-Net results folders: which of them make one answer, and in which order they run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hounsfield.errors import SourceRefused
from hounsfield.importing.claim import printable
from hounsfield.importing.nnunet.model import found_folds, one_configuration
from hounsfield.importing.nnunet.plans import Configuration, configuration_of, refuse_pickle_plans
from hounsfield.importing.nnunet.weights import Fold

_MOST_MODELS = 16


@dataclass(frozen=True, eq=False)
class Stage:
    """One results folder.

    Parameters
    ----------
    place
        Its path within the source, ``/`` between parts.
    plan, folds
        What its plan and its checkpoints say.
    """

    place: str
    plan: Configuration
    folds: list[Fold]

    @property
    def title(self) -> str:
        """Its path as the answers name it: two underscores would look like a name of Python's own."""
        return self.place.replace("__", " ")

    @property
    def dataset(self) -> str:
        """The folder around it, which nnU-Net names after its data set."""
        return self.place.rpartition("/")[0]


@dataclass(frozen=True, eq=False)
class Group:
    """A model, and in a cascade the one before it, whose labels it is given."""

    last: Stage
    first: Stage | None = None

    @property
    def stages(self) -> tuple[Stage, ...]:
        """In the order in which they run."""
        return (self.last,) if self.first is None else (self.first, self.last)


def places_in(source: Path) -> list[str]:
    """Results folders within a folder that is none itself."""
    if not source.is_dir() or (source / "plans.json").exists():
        return []
    inner = [path.parent for depth in ("*", "*/*") for path in sorted(source.glob(f"{depth}/plans.json"))]
    return sorted(path.relative_to(source).as_posix() for path in inner if any(path.glob("fold_*")))


def stages_in(source: Path) -> list[Stage]:
    """Every results folder, read.

    Raises
    ------
    SourceRefused
        If one cannot be imported, or there are too many.
    """
    places = places_in(source)
    if len(places) > _MOST_MODELS:
        raise SourceRefused(f"it holds {len(places)} nnU-Net models", f"give at most {_MOST_MODELS}", source)
    return [_stage(source, place) for place in places]


def _stage(source: Path, place: str) -> Stage:
    folder = source / place
    refuse_pickle_plans(folder)
    folds = found_folds(folder)
    return Stage(place, configuration_of(folder, one_configuration(folds, folder)), folds)


def groups_of(stages: list[Stage], source: Path) -> list[Group]:
    """The models that answer, each cascade as one.

    Raises
    ------
    SourceRefused
        If a cascade lacks its first stage, or has several.
    """
    firsts = {stage.place: _first_of(stage, stages, source) for stage in stages if stage.plan.previous is not None}
    used = {first.place for first in firsts.values()}
    return [Group(stage, firsts.get(stage.place)) for stage in stages if stage.place not in used]


def _first_of(stage: Stage, stages: list[Stage], source: Path) -> Stage:
    wanted = str(stage.plan.previous)
    found = [one for one in stages if one.dataset == stage.dataset and one.plan.name == wanted]
    name = printable(stage.place, 120)
    if len(found) != 1:
        count = f"{len(found)} models" if found else "no model"
        raise SourceRefused(
            f"{name} is the second of a cascade, and {count} of {printable(wanted, 60)} lie beside it",
            "keep the two results folders of the cascade",
            source,
        )
    before = found[0].plan
    if before.previous is not None:
        raise SourceRefused(f"{name} is the third of a cascade", "nnU-Net's cascades have two stages", source)
    if (before.labels, before.channels) != (stage.plan.labels, stage.plan.channels):
        raise SourceRefused(f"the two stages of {name} answer other labels", "give folders of one training", source)
    lost = sorted(set(stage.plan.labels.foreground) - set(stage.plan.labels.values))
    if lost:
        raise SourceRefused(f"no region of {name} ever answers the label {lost[0]}", "import the stages apart", source)
    return found[0]


def are_choices(groups: list[Group]) -> bool:
    """Whether the groups answer the same for one data set, so that one of them is to be chosen."""
    first = groups[0].last
    return len(groups) > 1 and all(
        (one.last.dataset, one.last.plan.labels.names) == (first.dataset, first.plan.labels.names) for one in groups
    )


def demand_one_answer(groups: list[Group], source: Path) -> None:
    """Raise SourceRefused where models that are not choices cannot be merged into one answer."""
    owner: dict[str, str] = {}
    for group in groups:
        place = group.last.place
        if group.last.plan.channels != groups[0].last.plan.channels:
            raise SourceRefused("its models read other channels", "import each by itself", source)
        for name in group.last.plan.labels.names:
            if name in owner:
                raise SourceRefused(
                    f"two of its models answer {printable(name, 64)!r}",
                    f"import each by itself, for example {printable(owner[name], 120)}",
                    source,
                )
            owner[name] = place
