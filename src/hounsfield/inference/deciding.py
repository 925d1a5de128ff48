"""From scores to labels: the class with the highest score, or the highest one above a threshold."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import PackageInvalid
from hounsfield.inference.head import Head
from hounsfield.packages.manifest import OutputSpec
from hounsfield.packages.steps import WindowStep

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
        exceeds ``threshold`` the most wins, 0 where none does. ``"last"``: as ``"above"``, but the
        highest label that exceeds the threshold wins.
    threshold
        In the units of the scores: for a sigmoid the logit of the manifest's threshold.
    soft
        Scores become probabilities before they are interpolated, and the threshold is one.
    nearest
        A voxel of the scan gets the label of the network's nearest voxel, instead of an interpolated score.
    """

    rule: Literal["highest", "above", "last"]
    threshold: float = 0.0
    soft: Literal["softmax", "sigmoid"] | None = None
    nearest: bool = False


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
    rule = _rule(output, len(output.segments), classes)
    if output.restore == "labels":
        return replace(rule, nearest=True)
    if output.restore == "probabilities" and output.activation != "none":
        threshold = 0.0 if rule.rule == "highest" else output.threshold
        return replace(rule, threshold=threshold, soft=output.activation)
    return rule


def step_decision(step: WindowStep) -> Decision:
    """The rule for the network of a window step."""
    return _rule(step, len(step.numbers), step.ends()[2])


class _Answer(Protocol):
    """What a manifest says of how scores become labels."""

    @property
    def activation(self) -> str: ...
    @property
    def threshold(self) -> float: ...
    @property
    def winner(self) -> str: ...


def _rule(output: _Answer, segments: int, classes: int) -> Decision:
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
    rule: Literal["above", "last"] = "last" if output.winner == "last" else "above"
    return Decision(rule, math.log(t / (1 - t)) if 0 < t < 1 else math.copysign(math.inf, t - 0.5))


class Decider:
    """Labels of blocks of voxels.

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

    @property
    def weighted(self) -> bool:
        """Whether labels depend on the weights even where every window was run."""
        threshold = self.rule.threshold
        return (
            self.head is not None
            or self.rule.soft is not None
            or (self.rule.rule != "highest" and threshold not in (0.0, -math.inf))
        )

    def labels(self, sums: NDArray[np.float32], weights: NDArray[np.float32] | None, dtype: Any) -> NDArray[Any]:
        """Labels (...) of blended answers (channels, ...) float32 and their weights (...).

        Sums need not be divided by their weight, as every rule keeps its answer when all scores
        and the threshold grow by the same factor. Weight 0 (no window was run there) is
        background. ``None`` stands for weights of one.
        """
        if self.head is not None:
            ones = np.ones(sums.shape[1:], np.float32) if weights is None else weights
            flat = np.concatenate((sums.reshape(len(sums), -1), ones.reshape(1, -1)))
            scores = apply_head(self.head, flat).T.reshape(-1, *sums.shape[1:])
        else:
            scores = sums
        if self.rule.rule == "last":
            return self._last(scores, weights, dtype)
        labels, best = highest(scores, dtype)
        if self.rule.rule == "above":
            labels += 1
            if self.rule.threshold != -math.inf:  # at threshold 0 every score is above
                limit = np.float32(self.rule.threshold)
                labels[~(best > (limit if weights is None else limit * weights))] = 0
        if weights is not None and weights.min() <= 0:
            labels[weights <= 0] = 0
        return labels

    def _last(self, scores: NDArray[np.float32], weights: NDArray[np.float32] | None, dtype: Any) -> NDArray[Any]:
        """The last label whose score exceeds the threshold (times the weight), 0 where none does."""
        limit = np.float32(self.rule.threshold)
        labels = np.zeros(scores.shape[1:], dtype)
        for channel, score in enumerate(scores):
            labels[score > (limit if weights is None else limit * weights)] = channel + 1
        if weights is not None and weights.min() <= 0:
            labels[weights <= 0] = 0
        return labels


def apply_head(head: NDArray[np.float32], sums: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores (n, classes) of sums (features + 1, n), the last of which are the weights.

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


def highest(scores: NDArray[np.float32], dtype: Any) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """The class with the highest of (classes, ...) scores as ``dtype``, and that score.

    On a tie the lower class wins.
    """
    if len(scores) > _FEW:
        rows = np.ascontiguousarray(np.moveaxis(scores, 0, -1))
        wide = rows.argmax(axis=-1)
        return wide.astype(dtype), np.take_along_axis(rows, wide[..., None], axis=-1)[..., 0]
    best, labels = scores[0].copy(), np.zeros(scores.shape[1:], dtype)
    here, candidate = np.empty(best.shape, np.bool_), np.empty(best.shape, dtype)
    for label in range(1, len(scores)):  # a running maximum: numpy's argmax is slow on few classes
        np.greater(scores[label], best, out=here)
        np.maximum(best, scores[label], out=best)
        np.multiply(here, np.asarray(label, dtype), out=candidate)
        np.maximum(labels, candidate, out=labels)
    return labels, best
