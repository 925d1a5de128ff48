"""The last steps in the jail that need torch: build, load, export, and make a golden case."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hounsfield.architectures import architecture, build, load_weights, weights_of
from hounsfield.architectures.export import example_inputs, export_onnx
from hounsfield.errors import SourceRefused
from hounsfield.importing.claim import printable
from hounsfield.importing.draft import Golden

_MOST_PARAMETERS = 2_000_000_000


@dataclass(frozen=True)
class Ends:
    """Files of the package in the conversion's folder, and the golden case."""

    files: Mapping[str, str]
    goldens: tuple[Golden, ...]


def network_of(description: Mapping[str, Any]) -> tuple[nn.Module, dict[str, tuple[int, ...]]]:
    """The named network, weights undefined, and the shapes of its parameters and buffers.

    Raises
    ------
    PackageInvalid
        If the name or an argument does not fit the closed list.
    SourceRefused
        If the network would be larger than any model.
    """
    architecture(str(description.get("name")))
    try:
        network = build(description)
    except RuntimeError as error:
        raise SourceRefused("the network would be too large", "check [architecture]") from error
    shapes = {name: tuple(tensor.shape) for name, tensor in weights_of(network).items()}
    if sum(int(np.prod(shape)) for shape in shapes.values()) > _MOST_PARAMETERS:
        raise SourceRefused("the network would be too large", "check [architecture]")
    return network, shapes


def fill(network: nn.Module, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Copy arrays into the network; batch counters that the source lacks are 0.

    Raises
    ------
    SourceRefused
        If a number is NaN or infinite.
    """
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise SourceRefused(f"the tensor {printable(name, 100)!r} holds NaN or infinity", "fetch or train it again")
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    for name, tensor in weights_of(network).items():
        if name not in tensors and name.endswith("num_batches_tracked"):
            tensors[name] = torch.zeros_like(tensor)
    load_weights(network, tensors)


def finish(
    network: nn.Module,
    description: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
    window: tuple[int, int, int],
    folder: Path,
) -> Ends:
    """Fill the network, write graph, weights and a golden case (seeded noise) into ``folder``."""
    from safetensors.torch import save_file

    fill(network, arrays)
    network.float().eval()
    save_file(weights_of(network), str(folder / "weights.safetensors"))
    export_onnx(network, description, window, folder / "fp32.onnx")
    golden = golden_case(network, example_inputs(description, window, batch=1)["image"], folder, "golden")
    return Ends({"graphs/fp32.onnx": "fp32.onnx", "weights.safetensors": "weights.safetensors"}, (golden,))


def finish_step(
    network: nn.Module,
    description: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
    window: tuple[int, int, int],
    folder: Path,
    step: str,
) -> Golden:
    """Fill the network of a step, write ``STEP.onnx`` and a golden case of ``graphs/STEP.onnx`` into ``folder``."""
    fill(network, arrays)
    network.float().eval()
    export_onnx(network, description, window, folder / f"{step}.onnx")
    image = example_inputs(description, window, batch=1)["image"]
    return replace(golden_case(network, image, folder, step), graph=f"graphs/{step}.onnx")


def golden_case(network: nn.Module, image: torch.Tensor, folder: Path, name: str) -> Golden:
    """The network's answer in torch, float32, written beside its input."""
    with torch.inference_mode():
        answer = network(image)
    np.save(folder / f"{name}-image.npy", image.numpy(), allow_pickle=False)
    np.save(folder / f"{name}-answer.npy", answer.numpy(), allow_pickle=False)
    return Golden(f"{name}-image.npy", f"{name}-answer.npy", f"torch {torch.__version__}")
