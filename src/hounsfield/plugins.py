"""Entry-point registries: what is installed, and why something else is not usable.

A plug-in is one line of packaging metadata, for hounsfield's own engines as for a stranger's::

    [project.entry-points."hounsfield.engines"]
    openvino = "hounsfield.inference.engines.openvino:OpenVinoEngine"

Contract of a plug-in object: importing its module is cheap and has no effects; where it needs
something that may be absent it has a method (or class or static method) ``availability()`` that
answers an :class:`Availability`. An object without it counts as available once it imports.
What this is not: a search. A name means one plug-in; two claimants are an error that lists both.
"""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from hounsfield.errors import PluginError

ENGINES = "hounsfield.engines"


@dataclass(frozen=True)
class Availability:
    """Whether something can be used here; if not, the reason and the line that installs it."""

    available: bool
    reason: str = ""
    install: str = ""

    def __bool__(self) -> bool:
        return self.available


@dataclass(frozen=True)
class Plugin:
    """One claimant of a name in a group.

    Parameters
    ----------
    name, group
        The entry point's name and group.
    target
        ``module:attribute``.
    distribution
        The installed distribution that brings it, ``name version``.
    """

    name: str
    group: str
    target: str
    distribution: str
    entry_point: EntryPoint

    def load(self) -> Any:
        """Import and return the object.

        Raises
        ------
        PluginError
            If the module or the attribute cannot be imported; the remedy is the install line.
        """
        try:
            return self.entry_point.load()
        except ImportError as error:
            raise PluginError(
                fact=f"the plug-in {self.name!r} of {self.distribution} needs {_missing(error)}",
                remedy=f"install it: {self.install_line(error)}",
            ) from error
        except Exception as error:
            raise PluginError(
                fact=f"the plug-in {self.name!r} of {self.distribution} does not load: {type(error).__name__}: {error}",
                remedy=f"repair or uninstall {self.distribution}",
            ) from error

    def availability(self) -> Availability:
        """Whether it loads and says that it can run here; never raises."""
        try:
            plugin = self.load()
        except PluginError as error:
            return Availability(False, error.fact, error.remedy.removeprefix("install it: "))
        ask = getattr(plugin, "availability", None)
        if ask is None:
            return Availability(True)
        try:
            answer = (plugin() if isinstance(plugin, type) else plugin).availability()
        except Exception as error:
            reason = f"{self.name!r} could not say whether it can run: {type(error).__name__}: {error}"
            return Availability(False, reason)
        return Availability(bool(answer), str(getattr(answer, "reason", "")), str(getattr(answer, "install", "")))

    def install_line(self, error: ImportError) -> str:
        """The pip command that brings what is missing."""
        extras = ",".join(self.entry_point.extras)
        name = self.distribution.split(" ")[0]
        if extras:
            return f"pip install '{name}[{extras}]'"
        return f"pip install {(error.name or name).split('.')[0]}"


@dataclass(frozen=True)
class Registry:
    """The plug-ins of one group, by name.

    Make it with :func:`registry`; ``claims`` may hold several plug-ins with one name, which is
    an error only when that name is asked for, so that one bad neighbour does not stop the rest.
    """

    group: str
    claims: tuple[Plugin, ...]

    def names(self) -> tuple[str, ...]:
        """All names of the group, sorted."""
        return tuple(sorted({plugin.name for plugin in self.claims}))

    def find(self, name: str) -> Plugin:
        """The one plug-in with this name.

        Raises
        ------
        PluginError
            If nobody or more than one claims the name; the claimants are listed.
        """
        found = [plugin for plugin in self.claims if plugin.name == name]
        if len(found) == 1:
            return found[0]
        if not found:
            close = difflib.get_close_matches(name, self.names(), n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"choose one of: {', '.join(self.names()) or 'none'}"
            raise PluginError(fact=f"no plug-in of {self.group} has the name {name!r}", remedy=hint)
        listed = ", ".join(f"{plugin.target} ({plugin.distribution})" for plugin in found)
        raise PluginError(
            fact=f"{len(found)} plug-ins of {self.group} claim the name {name!r}: {listed}",
            remedy="uninstall all but one of them",
        )

    def load(self, name: str) -> Any:
        """The object that the name means; see :meth:`find` and :meth:`Plugin.load`."""
        return self.find(name).load()

    def survey(self) -> dict[str, Availability]:
        """Each name with its availability; a name with two claimants is unavailable and says so."""
        answers: dict[str, Availability] = {}
        for name in self.names():
            try:
                answers[name] = self.find(name).availability()
            except PluginError as error:
                answers[name] = Availability(False, error.fact, error.remedy)
        return answers


def registry(group: str = ENGINES, *, points: Iterable[EntryPoint] | None = None) -> Registry:
    """The registry of a group, from the installed metadata (or from ``points``, for tests)."""
    found: Sequence[EntryPoint] = list(entry_points(group=group) if points is None else points)
    claims: dict[tuple[str, str], list[Plugin]] = defaultdict(list)
    for point in found:
        plugin = Plugin(point.name, group, point.value, _distribution(point), point)
        claims[point.name, point.value].append(plugin)
    # The same line of the same distribution seen twice (an editable install) is one claimant.
    unique = [_first_per_distribution(group_of) for group_of in claims.values()]
    plugins = [plugin for some in unique for plugin in some]
    return Registry(group, tuple(sorted(plugins, key=lambda plugin: (plugin.name, plugin.target, plugin.distribution))))


def _first_per_distribution(plugins: list[Plugin]) -> list[Plugin]:
    first: dict[str, Plugin] = {}
    for plugin in plugins:
        first.setdefault(plugin.distribution.split(" ")[0], plugin)
    return list(first.values())


def _distribution(point: EntryPoint) -> str:
    if point.dist is None:
        return "an unknown distribution"
    return f"{point.dist.name} {point.dist.version}"


def _missing(error: ImportError) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"the module {error.name!r}, which is not installed"
    return f"something that cannot be imported ({error})"
