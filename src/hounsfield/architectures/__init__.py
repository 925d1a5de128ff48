"""The closed list of networks that safetensors weights may name (needs the ``train`` extra)."""

from hounsfield.architectures.registry import Architecture, architecture, build, names
from hounsfield.architectures.weights import load_weights, weights_of

__all__ = ["Architecture", "architecture", "build", "load_weights", "names", "weights_of"]
