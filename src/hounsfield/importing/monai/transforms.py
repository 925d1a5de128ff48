"""MONAI's transforms, inferer and activations as the steps of a package.

MONAI's arrays are (channel, x, y, z); ours are (k, j, i). With the orientation code read backwards
MONAI's first spatial axis is our k, so spacings, windows and kernels keep their order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hounsfield.errors import SourceRefused
from hounsfield.importing.claim import printable
from hounsfield.importing.monai.configs import AFTER, BEFORE, INFERERS, items_of

#: Arguments that say how MONAI handles its dictionaries and tensors, not what happens to the values.
_HANDLING = {
    *("keys", "allow_missing_keys", "dtype", "device", "track_meta", "data_type", "reader", "image_only", "meta_keys"),
    *(
        "meta_key_postfix",
        "ensure_channel_first",
        "channel_dim",
        "strict_check",
        "simple_keys",
        "wrap_sequence",
        "lazy",
    ),
}


@dataclass
class Reading:
    """What the transforms so far have said.

    ``joint`` names those whose statistics are of all channels together, ``before`` counts the intensity steps before
    the scan was resampled.
    """

    orientation: str | None = None
    spacing: list[float] | None = None
    before: int = 0
    intensity: list[dict[str, Any]] = field(default_factory=list)
    joint: list[str] = field(default_factory=list)


def read_before(table: Any, plain: Mapping[str, Any], path: Path) -> Reading:
    """Orientation, spacing and intensity steps of ``preprocessing``.

    Raises
    ------
    SourceRefused
        Naming the transform or argument that has no equal here.
    """
    reading = Reading()
    for place, target, given in items_of(table, "preprocessing", BEFORE, path):
        arguments = _resolved(given, plain, place, path)
        work = _BEFORE.get(target)
        if work is not None:
            left = {name: value for name, value in arguments.items() if name not in _HANDLING}
            work(reading, left, place, path)
            if left:
                raise _unread(place, next(iter(left)), path)
    if reading.spacing and 0 < reading.before < len(reading.intensity):
        raise SourceRefused(
            "preprocessing has intensity steps before and after Spacingd", "keep them together, and train with it", path
        )
    return reading


def grid_table(reading: Reading) -> dict[str, Any]:
    """The keys of ``[input]`` that say how MONAI resamples; none where it does not."""
    if not reading.spacing:
        return {}
    first = bool(reading.intensity) and reading.before == 0
    return {"spacing_mm": reading.spacing, "grid": "first-voxel", "resample_first": first}


def _orientation(reading: Reading, given: dict[str, Any], place: str, path: Path) -> None:
    code = given.pop("axcodes", None)
    if not isinstance(code, str) or sorted(code.replace("R", "L").replace("A", "P").replace("I", "S")) != [
        "L",
        "P",
        "S",
    ]:
        raise SourceRefused(f"{place}.axcodes is not an orientation such as RAS", "give one", path)
    given.pop("labels", None)
    if reading.spacing is not None:
        raise SourceRefused(f"{place} comes after Spacingd", "turn the image first, and train with it", path)
    reading.orientation = code[::-1]


def _spacing(reading: Reading, given: dict[str, Any], place: str, path: Path) -> None:
    pixdim = given.pop("pixdim", None)
    if not isinstance(pixdim, list) or len(pixdim) != 3 or not all(_number(n) and 0 < n < 100 for n in pixdim):
        raise SourceRefused(f"{place}.pixdim is not three spacings in mm", "give all three", path)
    mode = given.pop("mode", "bilinear")
    if mode not in ("bilinear", ["bilinear"], 1):
        raise SourceRefused(f"{place}.mode is not bilinear", "only bilinear resampling is read", path)
    for name, allowed in (("padding_mode", ("border",)), ("align_corners", (False,)), ("diagonal", (False,))):
        if given.pop(name, allowed[0]) not in allowed:
            raise _unread(place, name, path)
    for name in ("scale_extent", "recompute_affine"):
        if given.pop(name, False) is not False:
            raise _unread(place, name, path)
    for name in ("min_pixdim", "max_pixdim"):
        if given.pop(name, None) is not None:
            raise _unread(place, name, path)
    if reading.spacing is not None:
        raise SourceRefused(f"{place} resamples a second time", "keep one Spacingd", path)
    reading.spacing = [float(number) for number in pixdim]
    reading.before = len(reading.intensity)


def _scale(reading: Reading, given: dict[str, Any], place: str, path: Path) -> None:
    low, high = given.pop("minv", 0.0), given.pop("maxv", 1.0)
    if given.pop("factor", None) is not None or not _number(low) or not _number(high):
        raise _unread(place, "factor", path)
    if given.pop("channel_wise", False) is not True:
        reading.joint.append(place)
    reading.intensity.append(
        {"step": "scale-quantiles", "low": 0.0, "high": 1.0, "to_low": low, "to_high": high, "clip": False}
    )


def _scale_range(reading: Reading, given: dict[str, Any], place: str, path: Path) -> None:
    numbers = [
        given.pop(name, default) for name, default in (("a_min", None), ("a_max", None), ("b_min", 0), ("b_max", 1))
    ]
    clip = given.pop("clip", False)
    if not all(_number(n) for n in numbers) or not isinstance(clip, bool) or numbers[0] == numbers[1]:
        raise SourceRefused(f"{place} has no plain a_min, a_max, b_min and b_max", "give four numbers", path)
    low, high, to_low, to_high = numbers
    reading.intensity.append(
        {"step": "scale", "low": low, "high": high, "to_low": to_low, "to_high": to_high, "clip": clip}
    )


def _scale_percentiles(reading: Reading, given: dict[str, Any], place: str, path: Path) -> None:
    numbers = [given.pop(name, None) for name in ("lower", "upper", "b_min", "b_max")]
    clip = given.pop("clip", False)
    if not all(_number(n) for n in numbers) or not isinstance(clip, bool) or given.pop("relative", False) is not False:
        raise SourceRefused(f"{place} has no plain lower, upper, b_min and b_max", "give four numbers", path)
    if given.pop("channel_wise", False) is not True:
        reading.joint.append(place)
    low, high, to_low, to_high = numbers
    reading.intensity.append(
        {
            "step": "scale-quantiles",
            "low": low / 100,
            "high": high / 100,
            "to_low": to_low,
            "to_high": to_high,
            "clip": clip,
        }
    )


def _normalize(reading: Reading, given: dict[str, Any], place: str, path: Path) -> None:
    mean, std = given.pop("subtrahend", None), given.pop("divisor", None)
    nonzero = given.pop("nonzero", False)
    if given.pop("channel_wise", False) is not True:
        reading.joint.append(place)
    if not isinstance(nonzero, bool):
        raise _unread(place, "nonzero", path)
    if mean is None and std is None:
        reading.intensity.append({"step": "z-score", "non_zero_only": nonzero})
    elif _number(mean) and _number(std) and std > 0 and not nonzero:
        reading.intensity.append({"step": "standardise", "mean": float(mean), "std": float(std)})
    else:
        raise _unread(place, "subtrahend", path)


_BEFORE: dict[str, Callable[[Reading, dict[str, Any], str, Path], None]] = {
    "Orientationd": _orientation,
    "Spacingd": _spacing,
    "ScaleIntensityd": _scale,
    "ScaleIntensityRanged": _scale_range,
    "ScaleIntensityRangePercentilesd": _scale_percentiles,
    "NormalizeIntensityd": _normalize,
}


def read_window(table: Any, plain: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The ``[input.window]`` table of the inferer.

    Raises
    ------
    SourceRefused
        If it is no sliding window, or has an argument that changes the answer in another way.
    """
    ((place, _, given),) = items_of(table, "inferer", INFERERS, path)
    arguments = _resolved(given, plain, place, path)
    for name in ("sw_batch_size", "sw_device", "device", "progress", "cache_roi_weight_map", "cpu_thresh"):
        arguments.pop(name, None)
    roi = arguments.pop("roi_size", None)
    overlap, mode = arguments.pop("overlap", 0.25), arguments.pop("mode", "constant")
    sigma, padding = arguments.pop("sigma_scale", 0.125), arguments.pop("padding_mode", "constant")
    value = arguments.pop("cval", 0.0)
    if not isinstance(roi, list) or len(roi) != 3 or not all(type(n) is int and 1 <= n <= 1024 for n in roi):
        raise SourceRefused(f"{place}.roi_size is not three voxel numbers", "give them", path)
    if mode not in ("constant", "gaussian") or padding != "constant" or not _number(overlap) or not 0 <= overlap < 1:
        raise SourceRefused(f"{place} has another mode, padding or overlap than is read here", "change it", path)
    if not _number(sigma) or not _number(value):
        raise _unread(place, "sigma_scale", path)
    if arguments:
        raise _unread(place, next(iter(arguments)), path)
    blending = {"blending": mode, "sigma": float(sigma), "pad_value": float(value)}
    return {"shape": roi, "overlap": float(overlap), "positions": "stride", **blending}


def read_after(table: Any, plain: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Activation, threshold and way back of ``postprocessing``, as an ``[output]`` table.

    Raises
    ------
    SourceRefused
        If the labels come from anything but softmax with argmax, or sigmoid with a threshold.
    """
    activation: Any = None
    threshold: Any = None
    done: list[str] = []
    back = ""
    for place, target, given in items_of(table, "postprocessing", AFTER, path):
        arguments = _resolved(given, plain, place, path)
        if target == "Invertd":
            back = back or _way_back(arguments, done, place, path)
        done.append(target)
        if target == "Activationsd":
            said = [name for name in ("softmax", "sigmoid") if arguments.get(name) in (True, [True])]
            if len(said) != 1 or arguments.get("other") is not None:
                raise SourceRefused(f"{place} is neither softmax nor sigmoid", "give one of them", path)
            activation = said[0]
        elif target == "AsDiscreted":
            argmax = arguments.get("argmax") in (True, [True])
            threshold = arguments.get("threshold")
            if argmax == (threshold is not None) or arguments.get("rounding") is not None:
                raise SourceRefused(f"{place} is neither argmax nor a threshold", "give one of them", path)
            activation = activation or ("softmax" if argmax else None)
            if argmax != (activation == "softmax"):
                raise SourceRefused(f"{place} does not go with {activation}", "softmax needs argmax", path)
    if activation is None:
        raise SourceRefused("postprocessing says neither softmax nor sigmoid", "add Activationsd", path)
    if activation == "softmax":
        return {"activation": "softmax", "restore": back or "labels"}
    if not _number(threshold) or not 0 <= threshold <= 1:
        raise SourceRefused("postprocessing gives no threshold for sigmoid", "add AsDiscreted with a threshold", path)
    return {"activation": "sigmoid", "threshold": float(threshold), "restore": back or "labels"}


def _way_back(arguments: Mapping[str, Any], done: list[str], place: str, path: Path) -> str:
    """What ``Invertd`` brings back to the scan's grid: labels by the nearest voxel, or scores or probabilities."""
    nearest = arguments.get("nearest_interp", True)
    nearest = nearest[0] if isinstance(nearest, list) and len(nearest) == 1 else nearest
    if nearest is True:
        return "labels"
    if nearest is not False or "AsDiscreted" in done:
        raise SourceRefused(
            f"{place}.nearest_interp would interpolate labels", "invert before AsDiscreted, or by the nearest", path
        )
    return "probabilities" if "Activationsd" in done else "scores"


def _resolved(given: Mapping[str, Any], plain: Mapping[str, Any], place: str, path: Path) -> dict[str, Any]:
    """Arguments with plain references (``@name``) replaced by what they name."""
    out = {}
    for name, value in given.items():
        if isinstance(value, str) and value.startswith("@") and name not in _HANDLING and not _output(name):
            if value[1:] not in plain:
                raise SourceRefused(
                    f"{place}.{name} refers to {printable(value, 40)!r}, no plain value", "write the value itself", path
                )
            value = plain[value[1:]]
        out[name] = value
    return out


def _output(name: str) -> bool:
    """Arguments of what saves or inverts: they do not change the labels."""
    return name.startswith(("output", "transform", "orig", "resample", "separate", "squeeze", "to_tensor", "nearest"))


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9


def _unread(place: str, name: str, path: Path) -> SourceRefused:
    return SourceRefused(f"{place}.{printable(name, 40)} is not read here", "leave it out, or export an ONNX", path)
