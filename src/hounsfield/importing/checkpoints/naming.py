"""Which tensor of a checkpoint is which of a network: prefixes, older names, and every mismatch listed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hounsfield.errors import SourceRefused
from hounsfield.importing.checkpoints.tensors import Tensor
from hounsfield.importing.claim import printable

_LISTED = 12
_COUNTER = "num_batches_tracked"
#: Renames per architecture, in order: what published checkpoints call it, and what ours does.
_RENAMES: dict[str, tuple[tuple[str, str], ...]] = {
    "densenet121": (
        (r"\b(norm|conv|relu)\.([12])\.", r"\1\2."),
        (r"(denselayer\d+)\.(norm|conv)", r"\1.layers.\2"),
        (r"^classifier\.(?:0\.)?(weight|bias)$", r"class_layers.out.\1"),
    ),
}
#: Tensors beside the weights that such checkpoints hold and no network reads.
_BESIDE: dict[str, tuple[str, ...]] = {"densenet121": ("op_threshs",)}


@dataclass(frozen=True)
class Fit:
    """The network's name of each tensor → the checkpoint's, and what is worth saying about it."""

    names: Mapping[str, str]
    facts: tuple[str, ...]


def fit(tensors: Mapping[str, Tensor], wanted: Mapping[str, tuple[int, ...]], architecture: str) -> Fit:
    """Match a checkpoint's tensors to a network's by name and shape.

    Parameters
    ----------
    tensors
        Of the checkpoint, by its own names.
    wanted
        Shapes of the network's parameters and buffers.
    architecture
        A name of the closed list.

    Raises
    ------
    SourceRefused
        Listing what is missing, what is left over, and what has another shape.
    """
    prefix = prefix_of(tensors, wanted, architecture)
    ours = {_ours(name.removeprefix(prefix), architecture): name for name in tensors}
    beside = {name for name in ours if name in _BESIDE.get(architecture, ())}
    left = [name for name in ours if name not in wanted and name not in beside]
    used = [tensors[ours[name]] for name in wanted if name in ours]
    twice = {name for name in left if any(tensors[ours[name]].same_as(other) for other in used)}
    faults = [f"missing {name}" for name in wanted if name not in ours and not name.endswith(_COUNTER)]
    faults += [f"left over {printable(ours[name], 100)}" for name in left if name not in twice]
    faults += [
        f"{printable(ours[name], 100)} has shape {list(tensors[ours[name]].shape)}, not {list(wanted[name])}"
        for name in wanted
        if name in ours and tensors[ours[name]].shape != wanted[name]
    ]
    if faults:
        more = f" and {len(faults) - _LISTED} more" if len(faults) > _LISTED else ""
        raise SourceRefused(
            f"the weights do not fit {architecture}: {'; '.join(faults[:_LISTED])}{more}",
            "correct [architecture] in the answers, or choose another architecture",
        )
    facts = [f"All {len(used)} tensors of the network are from the checkpoint, with their numbers unchanged."]
    facts += [f"The prefix {printable(prefix, 60)} of the names was dropped."] if prefix else []
    facts += [f"{len(twice)} tensors that the checkpoint names twice were taken once."] if twice else []
    facts += [f"Not part of the network and left out: {', '.join(sorted(beside))}."] if beside else []
    return Fit({name: ours[name] for name in wanted if name in ours}, tuple(facts))


def prefix_of(shapes: Mapping[str, object], wanted: Mapping[str, object], architecture: str) -> str:
    """The leading part of the names (``module.``, ``model.net.``) without which most of them fit."""
    names = list(shapes)
    best, most = "", -1
    for candidate in _prefixes(names):
        found = sum(_ours(name.removeprefix(candidate), architecture) in wanted for name in names)
        if found > most:
            best, most = candidate, found
    return best


def _prefixes(names: Sequence[str]) -> list[str]:
    """Every whole-word prefix that most names share, shortest first."""
    out, parts = [""], min(names, key=len).split(".") if names else []
    longest = max(names, key=len).split(".") if names else []
    for source in (parts, longest):
        for count in range(1, min(5, len(source))):
            prefix = ".".join(source[:count]) + "."
            if prefix not in out and 2 * sum(name.startswith(prefix) for name in names) > len(names):
                out.append(prefix)
    return out


def _ours(name: str, architecture: str) -> str:
    for pattern, replacement in _RENAMES.get(architecture, ()):
        name = re.sub(pattern, replacement, name)
    return name


def looks_like_densenet121(shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, int] | None:
    """Input channels and classes, if the names are those of a DenseNet-121 for images, else ``None``."""
    stem = next((shape for name, shape in shapes.items() if name.endswith("features.conv0.weight")), None)
    head = next(
        (s for name, s in shapes.items() if re.search(r"(classifier(\.0)?|class_layers\.out)\.weight$", name)), None
    )
    last = any("denseblock4.denselayer16." in name for name in shapes)
    if stem is None or head is None or len(stem) != 4 or len(head) != 2 or not last:
        return None
    third = any("denseblock3.denselayer25." in name for name in shapes)
    return (stem[1], head[0]) if stem[0] == 64 and head[1] == 1024 and not third else None
