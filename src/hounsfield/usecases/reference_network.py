"""A package's reference weights in its named architecture, for PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hounsfield.errors import EngineUnavailable
from hounsfield.inference import TorchNetwork
from hounsfield.packages import ModelPackage


def reference_network(package: ModelPackage) -> TorchNetwork:
    """The network of a package.

    Raises
    ------
    EngineUnavailable
        If the package holds graphs only.
    """
    weights, description = package.weights_path, package.manifest.architecture
    if weights is None or description is None:
        raise EngineUnavailable(f"{package.reference} has no reference weights for torch", "use another engine")
    return network_of(weights, description)


def network_of(weights: Path, description: Mapping[str, Any]) -> TorchNetwork:
    """The network of a safetensors file and the description of its architecture."""

    def made() -> Any:
        from safetensors.torch import load_file

        from hounsfield.architectures import build, load_weights

        network = build(description)
        load_weights(network, load_file(weights))
        return network.eval()

    return TorchNetwork(made)
