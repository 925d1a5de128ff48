"""Checkpoints of PyTorch read as data: tensors, numbers and texts, with no pickle machinery at all."""

from hounsfield.importing.checkpoints.reading import is_checkpoint, read_checkpoint
from hounsfield.importing.checkpoints.state import State, states_in
from hounsfield.importing.checkpoints.tensors import Tensor

__all__ = ["State", "Tensor", "is_checkpoint", "read_checkpoint", "states_in"]
