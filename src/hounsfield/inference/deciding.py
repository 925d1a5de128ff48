"""From scores to labels: the class with the highest score, or the highest one above a threshold."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import PackageInvalid
from hounsfield.inference.head import Head
from hounsfield.packages.manifest import OutputSpec

_CANDIDATE_STEP = 17
_FEW = 8


@dataclass(frozen=True)
class Decision:
    """How scores become labels.

    Parameters
    ----------
    rule
        ``"highest"``: channel c means label c, the highest score wins, on a tie the lower label.
        ``"above"``: channel c means label c + 1 (no background channel); the label whose score
        exceeds ``threshold`` the most wins, 0 where none does.
    threshold
        In the units of the scores: for a sigmoid the logit of the manifest's threshold.
    """

    rule: Literal["highest", "above"]
    threshold: float = 0.0


def decision(output: OutputSpec, classes: int) -> Decision:
    """The rule for a graph that answers ``classes`` channels.

    Softmax keeps the order of the logits, so it is never computed; a sigmoid is compared with its
    threshold as a logit. Activation ``none`` takes the channels as they are: with background
    if there is one channel more than segments.

    Raises
    ------
    PackageInvalid
        If the channels do not fit the manifest's segments.
    """
    segments = len(output.segments)
    with_background = output.activation == "softmax" or (output.activation == "none" and classes == segments + 1)
    if classes != segments + with_background:
        raise PackageInvalid(
            fact=f"the graph answers {classes} channels, the manifest names {segments} segments ({output.activation})",
            remedy="give one channel per segment, and one for the background with softmax",
        )
    if with_background:
        return Decision("highest")
    if output.activation == "none":
        return Decision("above", output.threshold)
    t = output.threshold
    return Decision("above", math.log(t / (1 - t)) if 0 < t < 1 else math.copysign(math.inf, t - 0.5))


class Decider:
    """Labels of flat blocks of voxels.

    Parameters
    ----------
    rule
        How scores become labels.
    head
        The linear head, if the network's answers are the features before it.
    """

    def __init__(self, rule: Decision, head: Head | None) -> None:
        self.rule = rule
        self.head = None
        if head is not None:
            self.head = np.ascontiguousarray(np.column_stack((head.weight, head.bias)), dtype=np.float32)

    def labels(self, sums: NDArray[np.float32], dtype: np.dtype[np.unsignedinteger]) -> NDArray[np.unsignedinteger]:
        """Labels (n,) of blended answers (channels + 1, n) float32, C order.

        The last channel is the weight: sums need not be divided by it, as every rule keeps its
        answer when all scores and the threshold grow by the same factor. Weight 0 (no
        window was run there) is background.
        """
        weight = sums[-1]
        scores = sums[:-1] if self.head is None else self.head @ sums
        labels = self._above(scores, weight, dtype) if self.rule.rule == "above" else highest(scores, dtype)
        if weight.min() <= 0:
            labels[weight <= 0] = 0
        return labels

    def _above(self, scores: NDArray[np.float32], weight: NDArray[np.float32], dtype: np.dtype) -> NDArray:  # type: ignore[type-arg]
        labels = highest(scores, dtype)
        labels += 1
        if self.rule.threshold != -math.inf:  # at threshold 0 every score is above
            labels[~(scores.max(axis=0) > np.float32(self.rule.threshold) * weight)] = 0
        return labels


def highest(scores: NDArray[np.float32], dtype: np.dtype) -> NDArray:  # type: ignore[type-arg]
    """``argmax`` over the first axis of (classes, n), as ``dtype``.

    Few classes, or many in one block: a running maximum. Else the maximum first (fast), then
    equality with it for the classes that a sample of the block shows, which is nearly always
    enough because neighbours are alike; what is left is decided in full.
    """
    classes, n = scores.shape
    if classes <= _FEW:
        return _running(scores, dtype)
    seen = np.unique(np.ascontiguousarray(scores[:, ::_CANDIDATE_STEP].T).argmax(axis=1))
    if len(seen) > classes // 4:
        return _running(scores, dtype)
    top = scores.max(axis=0)
    labels = np.zeros(n, dtype)
    found = np.zeros(n, np.bool_)
    for label in seen[::-1]:
        here = scores[label] == top
        np.copyto(labels, np.asarray(label, dtype), where=here)
        found |= here
    if not found.all():
        rest = np.flatnonzero(~found)
        labels[rest] = scores[:, rest].argmax(axis=0)
    return labels


def _running(scores: NDArray[np.float32], dtype: np.dtype) -> NDArray:  # type: ignore[type-arg]
    best, labels = scores[0].copy(), np.zeros(scores.shape[1], dtype)
    here, candidate = np.empty(len(labels), np.bool_), np.empty(len(labels), dtype)
    for label in range(1, scores.shape[0]):
        np.greater(scores[label], best, out=here)
        np.maximum(best, scores[label], out=best)
        np.multiply(here, np.asarray(label, dtype), out=candidate)
        np.maximum(labels, candidate, out=labels)
    return labels
