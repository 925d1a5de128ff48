"""A TensorFlow.js layers model that is a MeshNet: a chain of convolutions and activations."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import SourceRefused
from hounsfield.importing.claim import printable
from hounsfield.importing.tables import at, read_table, whole

_MOST_LAYERS = 200
_MOST_FILTERS = 1024
_MOST_WEIGHTS_BYTES = 1024**3
_ONLY = "only MeshNet (a chain of 3-D convolutions with ELU, ReLU or GELU) is read from TensorFlow.js"


@dataclass(frozen=True)
class Chain:
    """What the layers are.

    Parameters
    ----------
    convolutions
        Names of the layers, first to last; the last is the 1x1x1 head.
    dilations
        Of all but the last.
    filters, classes, activation
        Channels inside, channels of the answer, and what lies between convolutions.
    """

    convolutions: tuple[str, ...]
    dilations: tuple[int, ...]
    filters: int
    classes: int
    activation: str

    @property
    def description(self) -> dict[str, Any]:
        """The ``[architecture]`` table."""
        return {
            "name": "meshnet",
            "channels_in": 1,
            "channels_out": self.classes,
            "filters": self.filters,
            "dilations": list(self.dilations),
            "activation": self.activation,
        }


def read_chain(path: Path) -> Chain:
    """The chain of a ``model.json``.

    Raises
    ------
    SourceRefused
        Naming the layer that does not belong to a MeshNet.
    """
    table = read_table(path)
    layers = at(table, "modelTopology.model_config.config.layers", list, path)
    if not 3 <= len(layers) <= _MOST_LAYERS:
        raise SourceRefused(f"it has {len(layers)} layers", _ONLY, path)
    return _chain([_layer(layer, path) for layer in layers], path)


def _layer(layer: Any, path: Path) -> tuple[str, dict[str, Any]]:
    kind = layer.get("class_name") if isinstance(layer, dict) else None
    config = layer.get("config") if isinstance(layer, dict) else None
    if not isinstance(kind, str) or not isinstance(config, dict) or not isinstance(config.get("name"), str):
        raise SourceRefused("a layer has no class_name, config or name", "fetch the file again", path)
    if kind not in ("InputLayer", "Conv3D", "Activation"):
        raise SourceRefused(f"its layer {_shown(config)} is a {printable(kind, 60)}", _ONLY, path)
    return kind, {**config, "inbound": layer.get("inbound_nodes", [])}


def _chain(layers: list[tuple[str, dict[str, Any]]], path: Path) -> Chain:
    kinds = [kind for kind, _ in layers]
    names = [config["name"] for _, config in layers]
    inside = (len(layers) - 2) // 2
    if kinds != ["InputLayer", *["Conv3D", "Activation"] * inside, "Conv3D"] or len(set(names)) != len(names):
        raise SourceRefused("its layers are no chain of convolutions and activations", _ONLY, path)
    for before, (_, config) in zip(names, layers[1:], strict=False):
        if config["inbound"] not in ([[[before, 0, 0, {}]]], []):
            raise SourceRefused(f"its layer {_shown(config)} does not follow the one before it", _ONLY, path)
    convolutions = [config for kind, config in layers if kind == "Conv3D"]
    activations = {str(config.get("activation")) for kind, config in layers if kind == "Activation"}
    if len(activations) != 1 or not activations <= {"elu", "relu", "gelu"}:
        raise SourceRefused(
            f"its activations are {', '.join(sorted(printable(a, 20) for a in activations))}", _ONLY, path
        )
    filters, classes = _filters(convolutions[0], 1, path), _filters(convolutions[-1], 2, path)
    dilations = [_dilation(config, 3, filters, path) for config in convolutions[:-1]]
    _dilation(convolutions[-1], 1, classes, path)
    shape = layers[0][1].get("batch_input_shape")
    if not isinstance(shape, list) or len(shape) != 5 or shape[4] != 1:
        raise SourceRefused("its input is not one image channel in three dimensions", _ONLY, path)
    return Chain(
        tuple(config["name"] for config in convolutions), tuple(dilations), filters, classes, activations.pop()
    )


def _filters(config: dict[str, Any], least: int, path: Path) -> int:
    number: Any = config.get("filters")
    if not whole(number, least, _MOST_FILTERS):
        raise SourceRefused("the number of filters is no whole number of a sane size", "do not trust the file", path)
    return int(number)


def _dilation(config: dict[str, Any], size: int, filters: Any, path: Path) -> int:
    """The dilation of a convolution, all else being what MeshNet has."""
    dilation = config.get("dilation_rate")
    wanted = {
        "kernel_size": [size] * 3,
        "strides": [1] * 3,
        "padding": "same",
        "data_format": "channels_last",
        "activation": "linear",
        "use_bias": True,
        "filters": filters,
    }
    wrong = [key for key, value in wanted.items() if config.get(key) != value]
    if (
        not isinstance(dilation, list)
        or len(dilation) != 3
        or len(set(map(str, dilation))) != 1
        or not whole(dilation[0], 1, 64)
    ):
        wrong.append("dilation_rate")
    if wrong:
        raise SourceRefused(f"{wrong[0]} of its layer {_shown(config)} is not as MeshNet has it", _ONLY, path)
    number: int = config["dilation_rate"][0]
    return number


def read_weights(folder: Path, chain: Chain) -> dict[str, NDArray[np.float32]]:
    """Weights by the network's names, kernels turned from (k, j, i, in, out) to (out, in, k, j, i).

    Raises
    ------
    SourceRefused
        If the manifest of the weights names other files, tensors, types or sizes than the layers need.
    """
    path = folder / "model.json"
    groups = at(read_table(path), "weightsManifest", list, path)
    if len(groups) != 1 or not isinstance(groups[0], dict) or groups[0].get("paths") != ["model.bin"]:
        raise SourceRefused("its weights are not in the one file model.bin beside it", "put them there", path)
    data = _bytes(folder / "model.bin")
    found: dict[str, NDArray[np.float32]] = {}
    offset = 0
    for entry in at(groups[0], "weights", list, path):
        name, shape = _entry(entry, path)
        count = math.prod(shape)
        if offset + 4 * count > len(data):
            raise SourceRefused(f"the weights end before {printable(name, 60)!r}", "fetch model.bin again", path)
        values = np.frombuffer(data, "<f4", count, offset)
        if not np.isfinite(values).all():
            raise SourceRefused(f"the tensor {printable(name, 60)!r} holds NaN or infinity", "fetch it again", path)
        found[name] = values.reshape(shape)
        offset += 4 * count
    if offset != len(data):
        raise SourceRefused("the weights file is longer than its tensors", "fetch model.bin again", path)
    return _named(found, chain, path)


def _entry(entry: Any, path: Path) -> tuple[str, tuple[int, ...]]:
    name, shape = (entry.get("name"), entry.get("shape")) if isinstance(entry, dict) else (None, None)
    sane = isinstance(shape, list) and len(shape) <= 5 and all(whole(size, 1, 65536) for size in shape)
    if not isinstance(name, str) or not sane or math.prod(shape or ()) * 4 > _MOST_WEIGHTS_BYTES:
        raise SourceRefused(
            "a tensor of the weights has no name, or an impossible shape", "do not trust the file", path
        )
    if entry.get("dtype") != "float32" or "quantization" in entry:
        raise SourceRefused(f"the tensor {printable(name, 60)!r} is not plain float32", "export it in float32", path)
    return name, tuple(shape or ())


def _named(found: dict[str, NDArray[np.float32]], chain: Chain, path: Path) -> dict[str, NDArray[np.float32]]:
    out: dict[str, NDArray[np.float32]] = {}
    for number, layer in enumerate(chain.convolutions):
        place = "head" if number == len(chain.convolutions) - 1 else f"hidden.{number}"
        kernel, bias = found.pop(f"{layer}/kernel", None), found.pop(f"{layer}/bias", None)
        if kernel is None or bias is None or kernel.ndim != 5:
            raise SourceRefused(f"the weights of layer {printable(layer, 60)!r} are missing", "fetch it again", path)
        out[f"{place}.weight"] = np.ascontiguousarray(kernel.transpose(4, 3, 0, 1, 2))
        out[f"{place}.bias"] = bias
    if found:
        raise SourceRefused(f"no layer uses the weights {printable(next(iter(found)), 60)!r}", "fetch it again", path)
    return out


def _bytes(path: Path) -> bytes:
    if path.is_symlink() or not path.is_file():
        raise SourceRefused("the weights are missing, or a link", "put model.bin beside model.json", path)
    if path.stat().st_size > _MOST_WEIGHTS_BYTES:
        raise SourceRefused("the weights are larger than any MeshNet", "do not trust the file", path)
    return path.read_bytes()


def _shown(config: dict[str, Any]) -> str:
    return repr(printable(str(config["name"]), 60))
