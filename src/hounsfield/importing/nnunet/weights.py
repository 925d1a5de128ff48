"""From nnU-Net's names of the weights to ours, fold by fold, every mismatch listed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import SourceRefused
from hounsfield.importing.checkpoints import Tensor, read_checkpoint
from hounsfield.importing.claim import printable

CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth", "checkpoint_latest.pth")
_LISTED = 8
_RENAMES = (
    (r"^encoder\.stages\.(\d+)\.0\.convs\.(\d+)\.(conv|norm)\.(\w+)$", r"down.\1.\2.\3.\4"),
    (r"^encoder\.stem\.convs\.0\.(conv|norm)\.(\w+)$", r"stem.\1.\2"),
    (r"^encoder\.stages\.(\d+)\.blocks\.(\d+)\.(conv[12])\.(conv|norm)\.(\w+)$", r"down.\1.\2.\3.\4.\5"),
    (r"^encoder\.stages\.(\d+)\.blocks\.(\d+)\.skip\.[01]\.(conv|norm)\.(\w+)$", r"down.\1.\2.skip.\3.\4"),
    (r"^decoder\.transpconvs\.(\d+)\.(\w+)$", r"up.\1.\2"),
    (r"^decoder\.stages\.(\d+)\.convs\.(\d+)\.(conv|norm)\.(\w+)$", r"join.\1.\2.\3.\4"),
    (r"^decoder\.seg_layers\.(\d+)\.(\w+)$", r"heads.\1.\2"),
)


@dataclass(frozen=True)
class Fold:
    """One ``fold_*`` checkpoint as data.

    Parameters
    ----------
    name
        ``0`` ... ``4`` or ``all``.
    configuration, trainer
        What it says it was trained with.
    mirror
        Axes (of nnU-Net's arrays) that its trainer allows to be mirrored.
    tensors
        ``network_weights``.
    """

    name: str
    configuration: str
    trainer: str
    mirror: tuple[int, ...]
    tensors: Mapping[str, Tensor]


def read_fold(folder: Path, name: str, checkpoint: str) -> Fold:
    """Read a fold's checkpoint; tensors are read when asked for.

    Raises
    ------
    SourceRefused
        If it is missing, is more than data, or is no checkpoint of nnU-Net 2.
    """
    path = folder / f"fold_{name}" / checkpoint
    if path.is_symlink() or not path.is_file():
        raise SourceRefused(
            f"fold_{name} has no {checkpoint}", "finish its training, or remove the folder of the fold", folder
        )
    content = read_checkpoint(path)
    table = content if isinstance(content, Mapping) else {}
    weights, arguments = table.get("network_weights"), table.get("init_args")
    trainer, mirror = table.get("trainer_name"), table.get("inference_allowed_mirroring_axes")
    if not isinstance(weights, Mapping) or not isinstance(arguments, Mapping) or not isinstance(trainer, str):
        raise SourceRefused("it is no checkpoint of nnU-Net 2", "give the results folder as nnU-Net wrote it", path)
    if not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in weights.items()):
        raise SourceRefused("its network_weights are not all tensors", "train again, or export ONNX", path)
    axes = tuple(mirror) if isinstance(mirror, tuple | list) else ()
    if any(type(axis) is not int or not 0 <= axis <= 2 for axis in axes) or len(set(axes)) != len(axes):
        raise SourceRefused("its inference_allowed_mirroring_axes are no axes", "check the trainer", path)
    return Fold(name, str(arguments.get("configuration")), trainer, axes, weights)


def fold_arrays(fold: Fold, wanted: Mapping[str, tuple[int, ...]], path: Path) -> dict[str, NDArray[Any]]:
    """The fold's numbers by the names of a ``Member``; 2-D kernels get an axis k of 1.

    Raises
    ------
    SourceRefused
        Listing what is missing, left over, or has another shape.
    """
    ours = _by_our_names(fold.tensors)
    used = {_key(tensor) for tensor in ours.values()}
    odd = [name for name in fold.tensors if _renamed(name) is None and _key(fold.tensors[name]) not in used]
    faults = [f"missing {name}" for name in wanted if name not in ours]
    faults += [f"left over {name}" for name in ours if name not in wanted]
    faults += [f"unknown {printable(name, 80)}" for name in odd]
    shapes = {name: _shape(ours[name].shape, wanted[name]) for name in wanted if name in ours}
    faults += [
        f"{name} has shape {list(ours[name].shape)}, not {list(wanted[name])}"
        for name, shape in shapes.items()
        if shape != wanted[name]
    ]
    if faults:
        more = f" and {len(faults) - _LISTED} more" if len(faults) > _LISTED else ""
        raise SourceRefused(
            f"the weights of fold_{fold.name} do not fit plans.json: {'; '.join(faults[:_LISTED])}{more}",
            "give plans.json, dataset.json and checkpoints of one training",
            path,
        )
    return {name: np.asarray(ours[name].array(), np.float32).reshape(shapes[name]) for name in wanted}


def _by_our_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    heads = []
    for name, tensor in tensors.items():
        new = _renamed(name)
        if new is not None and new.startswith("heads."):
            heads.append((int(new.split(".")[1]), new.split(".")[2], tensor))
        elif new is not None:
            found[new] = tensor
    last = max((level for level, _, _ in heads), default=0)  # the others are for deep supervision only
    return found | {f"head.{part}": tensor for level, part, tensor in heads if level == last}


def _renamed(name: str) -> str | None:
    plain = re.sub(r"^(?:_orig_mod\.|module\.)+", "", name)
    for pattern, replacement in _RENAMES:
        if re.match(pattern, plain):
            return re.sub(pattern, replacement, plain)
    return None


def _key(tensor: Tensor) -> tuple[int, int, tuple[int, ...], tuple[int, ...]]:
    return id(tensor.storage), tensor.offset, tensor.shape, tensor.stride


def _shape(found: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[int, ...]:
    return (*found[:2], 1, *found[2:]) if len(found) == 4 and len(wanted) == 5 else found
