"""Blended answers of a box of voxels."""

from __future__ import annotations

from typing import Any, NamedTuple


class Sums(NamedTuple):
    """``values`` (channels, k, j, i) float32 and ``weights`` (1, k, j, i) float32.

    ``weights`` is ``None`` where nobody asks for them: the values are then sums whose weight is
    positive everywhere, which is enough to know the highest.
    """

    values: Any
    weights: Any | None

    def part(self, *box: slice) -> Sums:
        """The sums of a part of the box, as views."""
        at = (slice(None), *box)
        return Sums(self.values[at], None if self.weights is None else self.weights[at])
