"""The configuration of a bundle as data: what is read must be plain, what is not read must be known.

A MONAI configuration is a program: ``$`` begins an expression, ``_target_`` names what to call. Here
nothing is evaluated or called. ``network_def``, ``preprocessing``, ``inferer`` and ``postprocessing`` must hold
plain values and targets of the allow-list. The rest says how MONAI runs the bundle (device, data
list, evaluator); it is not read, and refused where it holds anything but MONAI's own machinery.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hounsfield.errors import SourceRefused
from hounsfield.importing.claim import printable
from hounsfield.importing.tables import read_table

READ = ("network_def", "preprocessing", "inferer", "postprocessing")
NETWORKS = ("SegResNet", "UNet")
BEFORE = (
    "Compose",
    "LoadImaged",
    "EnsureChannelFirstd",
    "EnsureTyped",
    "Orientationd",
    "Spacingd",
    "ScaleIntensityd",
    "ScaleIntensityRanged",
    "ScaleIntensityRangePercentilesd",
    "NormalizeIntensityd",
)
AFTER = ("Compose", "Activationsd", "Invertd", "AsDiscreted", "SaveImaged", "EnsureTyped")
INFERERS = ("SlidingWindowInferer",)
_MACHINERY = (
    *("Dataset", "CacheDataset", "DataLoader", "CheckpointLoader", "StatsHandler", "SupervisedEvaluator"),
    *("MeanDice", "ValidationHandler", "MetricsSaver"),
)
_RUN_KEYS = re.compile(
    r"(imports|bundle_root|ckpt_\w+|output_\w+|data(set|list|loader)?(_\w+)?|test_datalist|device|amp|network|handlers|"
    r"evaluator|evaluating|checkpointloader|initialize|run|separate_folder|load_pretrain)"
)
_IMPORTS = re.compile(r"\$import (glob|os|json|numpy|torch|monai|pathlib)( as \w{1,20})?")
_NETWORK = re.compile(r"\$@network_def\.to\(@device\)")
_SHARP = re.compile(
    r"__|\b(import|eval|exec|compile|lambda|getattr|setattr|globals|locals|open)\b|system|popen|spawn|socket|subprocess"
)


def read_config(folder: Path) -> dict[str, Any]:
    """The read part of ``configs/inference.json``, checked; ``unread`` names the rest.

    Raises
    ------
    SourceRefused
        Naming the key that holds an expression, an unknown target, or a script.
    """
    _refuse_scripts(folder)
    path = folder / "configs" / "inference.json"
    if not path.exists():
        other = sorted(one.name for one in path.parent.glob("inference.*"))
        fact = f"it has configs/{other[0]}, not inference.json" if other else "it has no configs/inference.json"
        raise SourceRefused(fact, "save the configuration as JSON", folder)
    table = read_table(path)
    unread = []
    for key, value in table.items():
        if key in READ:
            _demand_plain(value, key, path)
        elif isinstance(value, str | list | dict) and _check_unread(key, value, path):
            unread.append(key)
    return {**{key: table[key] for key in READ if key in table}, "unread": unread, "plain": _plain_values(table)}


def _refuse_scripts(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise SourceRefused(f"{printable(name, 100)!r} is a link", "replace it by the file itself", folder)
        if path.suffix in (".py", ".pyc", ".so", ".sh", ".ipynb"):
            raise SourceRefused(
                f"it brings a program: {printable(name, 100)!r}",
                "a bundle with code of its own cannot be imported: export its network as ONNX where you trust it",
                folder,
            )


def _demand_plain(value: Any, key: str, path: Path) -> None:
    """Refuse expressions, macros and keys that change how a configuration is read."""
    for place, item in _walk(value, key):
        if isinstance(item, str) and item.lstrip().startswith(("$", "%")):
            raise SourceRefused(
                f"{place} holds the expression {printable(item, 60)!r}", "write the value itself in its place", path
            )
        name = place.rpartition(".")[2]
        if name.startswith("_") and name != "_target_" and not (name == "_disabled_" and item is False):
            raise SourceRefused(f"{place} changes how the configuration is read", "remove it", path)


def _check_unread(key: str, value: Any, path: Path) -> bool:
    """Whether a key that is not read holds an expression or a target, all of it known machinery."""
    machinery = False
    for place, item in _walk(value, key):
        if place.endswith("._target_"):
            machinery = True
            if item not in _MACHINERY:
                raise _outside(place, item, path)
        if not isinstance(item, str) or not item.lstrip().startswith(("$", "%")):
            continue
        machinery = True
        known = _RUN_KEYS.fullmatch(key) is not None and item.startswith("$")
        if key == "imports":
            known = known and _IMPORTS.fullmatch(item) is not None
        elif key == "network":
            known = known and _NETWORK.fullmatch(item) is not None
        if not known or (key != "imports" and _SHARP.search(item)):
            raise SourceRefused(
                f"{printable(place, 80)} holds the expression {printable(item, 60)!r}",
                "remove it: what is evaluated cannot be imported",
                path,
            )
    return machinery


def _outside(place: str, item: Any, path: Path) -> SourceRefused:
    return SourceRefused(
        f"{printable(place, 80)} is {printable(repr(item), 60)}, which is not on the list",
        "docs/how-to/import.md lists the networks and transforms that are read",
        path,
    )


def items_of(table: Any, key: str, allowed: tuple[str, ...], path: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(place, target, arguments) of a component, or of the parts of a ``Compose``.

    Raises
    ------
    SourceRefused
        If a target is not of the allow-list.
    """
    if not isinstance(table, Mapping) or not isinstance(table.get("_target_"), str):
        raise SourceRefused(f"{key} names no _target_", "give the component with its arguments", path)
    target = str(table["_target_"])
    if target not in allowed:
        raise _outside(f"{key}._target_", target, path)
    arguments = {str(name): value for name, value in table.items() if not str(name).startswith("_")}
    if target != "Compose":
        yield key, target, arguments
        return
    parts = arguments.pop("transforms", None)
    if not isinstance(parts, list) or arguments:
        raise SourceRefused(f"{key} is no plain list of transforms", "give the transforms only", path)
    for number, part in enumerate(parts):
        yield from items_of(part, f"{key}.transforms[{number}]", allowed, path)


def _plain_values(table: Mapping[str, Any]) -> dict[str, Any]:
    """Top-level values that ``@name`` may refer to: numbers, words, and flat lists of them."""

    def plain(value: Any) -> bool:
        if isinstance(value, list):
            return all(isinstance(item, int | float) for item in value)
        return isinstance(value, int | float) or (isinstance(value, str) and value.isalnum())

    return {key: value for key, value in table.items() if plain(value)}


def _walk(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _walk(inner, f"{place}.{key}")
            if isinstance(inner, Mapping | list):
                yield f"{place}.{key}", None
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _walk(inner, f"{place}[{number}]")
    else:
        yield place, value
