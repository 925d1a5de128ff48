"""``network_def`` of a bundle as a network of the closed list, every argument typed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hounsfield.errors import SourceRefused
from hounsfield.importing.claim import printable
from hounsfield.importing.monai.configs import NETWORKS, items_of
from hounsfield.importing.tables import whole

_GROUP = "GROUP"


def read_network(table: Any, path: Path) -> dict[str, Any]:
    """The ``[architecture]`` table.

    Raises
    ------
    SourceRefused
        Naming the target or argument that is not read.
    """
    ((place, target, given),) = items_of(table, "network_def", NETWORKS, path)
    arguments = dict(given)
    if arguments.pop("spatial_dims", 3) != 3:
        raise SourceRefused(f"{place}.spatial_dims is not 3", "only three-dimensional networks are read", path)
    arguments.pop("dropout_prob", None)
    arguments.pop("dropout", None)
    taken = (_segresnet if target == "SegResNet" else _unet)(arguments, place, path)
    ends = {
        "channels_in": _whole(arguments, "in_channels", 1, place, path, 16),
        "channels_out": _whole(arguments, "out_channels", 2, place, path, 4096),
    }
    if arguments:
        fact = f"{place}.{printable(next(iter(arguments)), 40)} is not read here"
        raise SourceRefused(fact, "leave it out, or export an ONNX", path)
    return {"name": "segresnet" if target == "SegResNet" else "monai-unet", **ends, **taken}


def _segresnet(given: dict[str, Any], place: str, path: Path) -> dict[str, Any]:
    groups = given.pop("num_groups", 8)
    norm = given.pop("norm", None)
    if norm is not None:
        plain = isinstance(norm, list) and len(norm) == 2 and isinstance(norm[1], Mapping)
        if not plain or str(norm[0]).upper() != _GROUP or set(norm[1]) != {"num_groups"}:
            raise SourceRefused(f"{place}.norm is not [GROUP, num_groups]", "only group norm is read", path)
        groups = norm[1]["num_groups"]
    act = given.pop("act", "RELU")
    if str(act[0] if isinstance(act, list) and act else act).upper() != "RELU":
        raise SourceRefused(f"{place}.act is not RELU", "only ReLU is read for SegResNet", path)
    return {
        "filters": _whole(given, "init_filters", 8, place, path, 1024),
        "blocks_down": _list(given, "blocks_down", [1, 2, 2, 4], place, path),
        "blocks_up": _list(given, "blocks_up", [1, 1, 1], place, path),
        "groups": _checked(groups, "num_groups", place, path, 1024),
        "final_convolution": _flag(given, "use_conv_final", True, place, path),
        "upsample": _word(given, "upsample_mode", "nontrainable", place, path),
    }


def _unet(given: dict[str, Any], place: str, path: Path) -> dict[str, Any]:
    if given.pop("adn_ordering", "NDA") != "NDA":
        raise SourceRefused(f"{place}.adn_ordering is not NDA", "only MONAI's default order is read", path)
    return {
        "filters": _list(given, "channels", None, place, path),
        "strides": _list(given, "strides", None, place, path),
        "units": _whole(given, "num_res_units", 0, place, path, 16, low=0),
        "act": _word(given, "act", "PRELU", place, path),
        "norm": _word(given, "norm", "INSTANCE", place, path),
        "kernel": _whole(given, "kernel_size", 3, place, path, 15),
        "up_kernel": _whole(given, "up_kernel_size", 3, place, path, 15),
        "bias": _flag(given, "bias", True, place, path),
    }


def _whole(given: dict[str, Any], name: str, default: int, place: str, path: Path, high: int, low: int = 1) -> int:
    return _checked(given.pop(name, default), name, place, path, high, low)


def _checked(value: Any, name: str, place: str, path: Path, high: int, low: int = 1) -> int:
    if not whole(value, low, high):
        fact = f"{place}.{name} is not a whole number from {low} to {high}"
        raise SourceRefused(fact, "give the number itself", path)
    number: int = value
    return number


def _list(given: dict[str, Any], name: str, default: list[int] | None, place: str, path: Path) -> list[int]:
    value = given.pop(name, default)
    if not isinstance(value, list) or not 1 <= len(value) <= 12 or not all(whole(n, 1, 4096) for n in value):
        raise SourceRefused(f"{place}.{name} is not a list of whole numbers", "give the numbers themselves", path)
    return value


def _flag(given: dict[str, Any], name: str, default: bool, place: str, path: Path) -> bool:
    value = given.pop(name, default)
    if not isinstance(value, bool):
        raise SourceRefused(f"{place}.{name} is not true or false", "give one of them", path)
    return value


def _word(given: dict[str, Any], name: str, default: str, place: str, path: Path) -> str:
    value = given.pop(name, default)
    if not isinstance(value, str) or not value.isalnum() or len(value) > 32:
        raise SourceRefused(f"{place}.{name} is not a plain word", "give the name without arguments", path)
    return value.lower()
