"""From scores to labels: the class with the highest score, or the highest one above a threshold."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import PackageInvalid
from hounsfield.inference.head import Head
from hounsfield.packages.manifest import OutputSpec

_FEW = 8
_ROWS = 64


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

    def labels(self, sums: NDArray[np.float32], dtype: Any) -> NDArray[Any]:
        """Labels (n,) of blended answers (channels + 1, n) float32, C order.

        The last channel is the weight: sums need not be divided by it, as every rule keeps its
        answer when all scores and the threshold grow by the same factor. Weight 0 (no
        window was run there) is background.
        """
        weight = sums[-1]
        scores = sums[:-1].T if self.head is None else apply_head(self.head, sums)
        labels = highest(scores, dtype)
        if self.rule.rule == "above":
            best = np.take_along_axis(scores, labels[:, None].astype(np.intp), axis=1)[:, 0]
            labels += 1
            if self.rule.threshold != -math.inf:  # at threshold 0 every score is above
                labels[~(best > np.float32(self.rule.threshold) * weight)] = 0
        if weight.min() <= 0:
            labels[weight <= 0] = 0
        return labels


def apply_head(head: NDArray[np.float32], sums: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores (n, classes) of sums (features + 1, n).

    As a stack of small products, each too small for the linear-algebra library to start threads
    for: its threads would fight for the cores with those of the network, and waste both.
    """
    channels, n = sums.shape
    scores = np.empty((n, head.shape[0]), np.float32)
    whole = n - n % _ROWS
    if whole:
        stack = sums[:, :whole].reshape(channels, -1, _ROWS).transpose(1, 2, 0)
        np.matmul(stack, head.T, out=scores[:whole].reshape(-1, _ROWS, head.shape[0]))
    if whole < n:
        np.matmul(sums[:, whole:].T, head.T, out=scores[whole:])
    return scores


def highest(scores: NDArray[np.float32], dtype: Any) -> NDArray[Any]:
    """``argmax`` over the last axis of (n, classes), as ``dtype``; on a tie the lower class."""
    n, classes = scores.shape
    if classes > _FEW:
        wide: NDArray[Any] = np.ascontiguousarray(scores).argmax(axis=1).astype(dtype)
        return wide
    best, labels = scores[:, 0].copy(), np.zeros(n, dtype)
    here, candidate = np.empty(n, np.bool_), np.empty(n, dtype)
    for label in range(1, classes):  # a running maximum: numpy's argmax is slow on few classes
        np.greater(scores[:, label], best, out=here)
        np.maximum(best, scores[:, label], out=best)
        np.multiply(here, np.asarray(label, dtype), out=candidate)
        np.maximum(labels, candidate, out=labels)
    return labels
