"""Where in a checkpoint the weights lie: every table of named tensors, by its dotted place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hounsfield.importing.checkpoints.tensors import Tensor

_MOST_DEPTH = 4
_NOT_WEIGHTS = ("optimizer", "optim", "scheduler", "scaler", "callbacks", "loops")


@dataclass(frozen=True)
class State:
    """A table of named tensors; ``place`` is its dotted key in the file, ``""`` for the file itself."""

    place: str
    tensors: Mapping[str, Tensor]

    @property
    def parameters(self) -> int:
        """Numbers in all tensors together."""
        total = 0
        for tensor in self.tensors.values():
            count = 1
            for size in tensor.shape:
                count *= size
            total += count
        return total


def states_in(content: Any) -> tuple[State, ...]:
    """Every table in the content whose values are tensors (beside a few plain values)."""
    return tuple(_found(content, "", 0))


def _found(content: Any, place: str, depth: int) -> Iterator[State]:
    if not isinstance(content, Mapping) or depth > _MOST_DEPTH:
        return
    tensors = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if tensors and 2 * len(tensors) >= len(content):
        yield State(place, tensors)
        return
    for key, value in content.items():
        if isinstance(key, str) and not any(word in key.lower() for word in _NOT_WEIGHTS):
            yield from _found(value, f"{place}.{key}" if place else key, depth + 1)
