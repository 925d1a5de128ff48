"""The closed list of networks that safetensors weights may name (needs the ``train`` extra)."""

from hounsfield.architectures.registry import build, names

__all__ = ["build", "names"]
