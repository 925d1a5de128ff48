"""How good the averaged network is on whole validation cases, as one number that grows.

Segmentation: mean Dice of the labels over sliding windows. Classes: area under the ROC curve
(Mann-Whitney), the mean over findings. Numbers: Lin's concordance, the mean over quantities.
Detection: mean sensitivity at 1/8 to 8 false positives per case.
This number only steers the training; what a package claims is evaluated elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hounsfield.evaluation.overlap import dice
from hounsfield.evaluation.quantities import concordance
from hounsfield.findings.peaks import find_peaks
from hounsfield.training.batches import Patches
from hounsfield.training.cache import Box, Cache, Stored
from hounsfield.training.recipe import Recipe

_VOXELS = 512
_RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


@dataclass(frozen=True)
class Score:
    """The steering number and what it is made of."""

    metric: str
    value: float
    parts: Mapping[str, float]


def validate(
    network: nn.Module,
    recipe: Recipe,
    cases: Sequence[Stored],
    cache: Cache,
    patches: Patches,
    precision: torch.dtype,
    stride: int = 1,
) -> Score:
    """Run the network (left in evaluation mode) over the cases."""
    network.eval()
    device = next(network.parameters()).device
    with torch.inference_mode(), torch.autocast(device.type, precision, enabled=precision != torch.float32):
        if recipe.task == "segmentation":
            return _segmentation(network, recipe, cases, cache)
        if recipe.task == "detection":
            return _detection(network, recipe, cases, cache, device, stride)
        if recipe.quantities:
            return _numbers(network, recipe, cases, patches, device)
        return _classes(network, recipe, cases, patches, device)


def _numbers(
    network: nn.Module, recipe: Recipe, cases: Sequence[Stored], patches: Patches, device: torch.device
) -> Score:
    found, known = [], []
    for stored in cases:
        batch = patches.voxels(stored, _VOXELS, device) if recipe.maps else patches.middle(stored, device)
        found.append(network(*batch.inputs).float().cpu().numpy())
        known.append(batch.target.cpu().numpy())
    one, two = np.concatenate(known).astype(np.float64), np.concatenate(found).astype(np.float64)
    weights = np.ones((1, len(one)))
    parts = {
        spec.label: round(float(np.nan_to_num(concordance(one[:, n], two[:, n], weights)[0])), 4)
        for n, spec in enumerate(recipe.quantities)
    }
    return Score("concordance", float(np.mean(list(parts.values()))), parts)


def _segmentation(network: nn.Module, recipe: Recipe, cases: Sequence[Stored], cache: Cache) -> Score:
    rows = []
    for stored in cases:
        logits, label = whole_logits(network, recipe, stored, cache)
        rows.append(case_dice(logits.argmax(0), label, recipe.label_count))
    value, means = mean_dice(rows)
    return Score("Dice", value, {f"label {n}": round(mean, 4) for n, mean in enumerate(means, 1)})


def whole_logits(
    network: nn.Module, recipe: Recipe, stored: Stored, cache: Cache
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Logits (classes, k, j, i) of a whole case by sliding windows, and its labels (k, j, i)."""
    box = _all(stored)
    device = next(network.parameters()).device
    return _slide(network, recipe, cache.image(stored, box), device).numpy(), cache.label(stored, box)


def case_dice(found: NDArray[Any], label: NDArray[Any], labels: int) -> NDArray[np.float64]:
    """Dice of each label, counted from 1; NaN where the case does not have it and nothing was found."""
    return np.array([_dice(found == v, label == v) for v in range(1, labels + 1)], np.float64)


def mean_dice(rows: Sequence[NDArray[np.float64]]) -> tuple[float, list[float]]:
    """The mean over labels of the means over cases, and those; a label that no case has counts as 0."""
    table = np.array(rows, np.float64)
    means = [float(np.nanmean(column)) if np.isfinite(column).any() else 0.0 for column in table.T]
    return float(np.mean(means)), means


def _dice(found: NDArray[np.bool_], label: NDArray[np.bool_]) -> float:
    """Dice, or NaN where the case does not have the label and nothing was found."""
    return float("nan") if not label.any() and not found.any() else dice(found, label)


def _slide(network: nn.Module, recipe: Recipe, image: NDArray[np.float32], device: torch.device) -> Tensor:
    """(classes, k, j, i) logits of a whole case on the CPU."""
    from monai.inferers import sliding_window_inference

    window = recipe.input.window
    logits: Tensor = sliding_window_inference(
        torch.from_numpy(image)[None],
        window.shape,
        recipe.validation.batch,
        lambda patch: network(patch).float(),
        overlap=window.overlap,
        mode=window.blending,
        sigma_scale=window.sigma,
        cval=window.pad_value,
        sw_device=device,
        device=torch.device("cpu"),
    )
    return logits[0]


def _classes(
    network: nn.Module, recipe: Recipe, cases: Sequence[Stored], patches: Patches, device: torch.device
) -> Score:
    scores, targets = [], []
    for stored in cases:
        batch = patches.middle(stored, device)
        logits = network(*batch.inputs).float()[0]
        single = len(recipe.data.target) == 1 and recipe.loss != "bce"
        scores.append((logits.softmax(0) if single else logits.sigmoid()).cpu().numpy())
        target = batch.target[0].cpu().numpy()
        targets.append(np.eye(len(logits))[int(target)] if len(recipe.data.target) == 1 else target)
    names = recipe.data.classes if len(recipe.data.target) == 1 else recipe.data.target
    table, wanted = np.array(scores), np.array(targets)
    parts = {name: auc(table[:, n], wanted[:, n] > 0) for n, name in enumerate(names)}
    known = [value for value in parts.values() if np.isfinite(value)]
    kept = {name: round(value, 4) for name, value in parts.items() if np.isfinite(value)}
    return Score("AUC", float(np.mean(known)) if known else 0.0, kept)


def auc(scores: NDArray[Any], positive: NDArray[np.bool_]) -> float:
    """Area under the ROC curve by ranks (Mann-Whitney); ties count half; NaN with one class only."""
    from scipy.stats import rankdata

    n, m = int(positive.sum()), int((~positive).sum())
    if n == 0 or m == 0:
        return float("nan")
    return float((rankdata(scores)[positive].sum() - n * (n + 1) / 2) / (n * m))


def _detection(
    network: nn.Module, recipe: Recipe, cases: Sequence[Stored], cache: Cache, device: torch.device, stride: int
) -> Score:
    from scipy.ndimage import find_objects
    from scipy.ndimage import label as components

    hits: list[tuple[float, bool]] = []
    lesions = 0
    for stored in cases:
        box = _all(stored)
        output = _slide(network, recipe, cache.image(stored, box), device).numpy()
        numbered, count = components(cache.label(stored, box) > 0, np.ones((3, 3, 3)))
        lesions += count
        boxes = find_objects(numbered)
        taken: set[int] = set()
        for peak in find_peaks(output, recipe.label_count, stride, 0.02):
            inside = [
                n
                for n, one in enumerate(boxes)
                if all(p.start - 1 <= c <= p.stop for p, c in zip(one, peak.centre, strict=True))
            ]
            new = [n for n in inside if n not in taken]
            if new or not inside:
                hits.append((peak.score, bool(new)))
            taken.update(new[:1])
    values = sensitivities(hits, lesions, len(cases))
    parts = {f"at {rate:g} per case": round(value, 4) for rate, value in zip(_RATES, values, strict=True)}
    return Score("CPM", float(np.mean(values)), parts)


def sensitivities(hits: Sequence[tuple[float, bool]], lesions: int, cases: int) -> list[float]:
    """Sensitivity at 1/8 ... 8 false positives per case (the LUNA16 points)."""
    ordered = sorted(hits, key=lambda hit: -hit[0])
    true = np.cumsum([hit for _, hit in ordered]) if ordered else np.zeros(0)
    false = np.cumsum([not hit for _, hit in ordered]) if ordered else np.zeros(0)
    answers = []
    for rate in _RATES:
        kept = true[false <= rate * cases]
        answers.append(float(kept[-1]) / lesions if len(kept) and lesions else 0.0)
    return answers


def _all(stored: Stored) -> Box:
    k, j, i = stored.shape
    return slice(0, k), slice(0, j), slice(0, i)
