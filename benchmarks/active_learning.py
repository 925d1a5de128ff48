"""How much the review order gains over a random order: the same labels bought in different orders.

    .venv/bin/python benchmarks/active_learning.py [--seeds 8] [--out benchmarks/results/active_learning.json]

Nodules of LIDC-IDRI (shared/data/lidc-nodule-crops): the largest slice of each at half its resolution,
32 x 32 pixels around a point that lies up to 4 pixels beside its centre in each direction, and what at
least half of its readers outlined. A small network (two hidden layers of 24) looks at each pixel: its
grey value at four scales, blobs and edges at three, the spread around it, how far it lies from the
point. It begins with a few labelled nodules of the training patients; each round buys more of them, in
the order of an arm, and trains a new network on all that were bought:

- ``random``: any order.
- ``unsure x unlike``: ``telling_order`` of the page Review over what the network says of the unlabelled
  nodules: the mean binary entropy of its outline, and the features of the page.
- ``unlike``: the same with every result half unsure, as the page has it where a model gives no scores.

The test patients (the source's own split) are never bought. The gain is the difference in Dice, mean
over all rounds and test nodules; its 95 % interval resamples seeds and test patients together. One
thread, some minutes; what is known is written after each seed. The network is far smaller than those
that are shipped: the gain is the order's with such a model and so few labels, not more.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import time
import zipfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional

from hounsfield.usecases.node.awaiting import UNKNOWN, features, telling_order

ROOT: Final = Path(__file__).resolve().parents[1]
SOURCE: Final = ROOT.parent / "shared" / "data" / "lidc-nodule-crops"
HALF, SIZE, SHIFT = 48, 32, 4
FIRST, STEP, ROUNDS = 4, 4, 8
STEPS, BATCH, RATE = 200, 2048, 1e-2
SCALES: Final = (1.0, 2.0, 4.0)
POSSIBLE: Final = 0.1
DRAWS: Final = 2000
ARMS: Final = ("random", "unsure x unlike", "unlike")
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Nodules:
    """What a network sees (n, 1024, features) and outlines (n, 1024); of each the patient and the ml of one pixel."""

    seen: Floats
    masks: Floats
    patients: tuple[str, ...]
    pixel_ml: Floats


def read_nodules(split: str) -> Nodules:
    """The largest slice of every nodule of a part, wide enough to be shifted."""
    with (SOURCE / "nodules.csv").open(encoding="utf-8") as file:
        facts = {f"{row['patient_id']}/{row['nodule']}": row for row in csv.DictReader(file) if row["split"] == split}
    seen, masks, patients, sizes = [], [], [], []
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(SOURCE / "volumes.zip") as archive:
        names = defaultdict(list)
        for name in sorted(archive.namelist()):
            if name.startswith("img/") and name.endswith(".png"):
                names[name.removeprefix("img/").rsplit("/", 1)[0]].append(name)
        for nodule, row in sorted(facts.items()):
            outlines = [_picture(archive, name.replace("img/", "mask/", 1)) for name in names[nodule]]
            readers = [bit for bit in range(4) if any((one >> bit & 1).any() for one in outlines)]
            agreed = [np.mean([one >> bit & 1 for bit in readers], 0) >= 0.5 for one in outlines]
            best = int(np.argmax([one.sum() for one in agreed]))
            if not agreed[best].any():
                continue
            box = _box(agreed[best])
            picture = _halved(_picture(archive, names[nodule][best])[box]) / np.float32(255)
            y, x = (HALF - SIZE) // 2 + rng.integers(-SHIFT, SHIFT + 1, 2)
            seen.append(_features(picture)[y : y + SIZE, x : x + SIZE])
            masks.append((_halved(agreed[best][box]) >= 0.5)[y : y + SIZE, x : x + SIZE].astype(np.float32))
            patients.append(row["patient_id"])
            sizes.append((2 * float(row["pixel_spacing_mm"])) ** 2 * float(row["slice_thickness_mm"]) / 1000)
    far = np.hypot(*(np.indices((SIZE, SIZE)) - (SIZE - 1) / 2)).astype(np.float32) / SIZE
    whole = [np.concatenate((one, far[..., None]), -1).reshape(SIZE * SIZE, -1) for one in seen]
    labels = np.stack(masks).reshape(len(masks), -1)
    return Nodules(np.stack(whole), labels, tuple(patients), np.array(sizes, np.float32))


def _features(picture: Floats) -> Floats:
    """(rows, columns, 11) of a picture: grey values, blobs, edges, and the spread around each pixel."""
    smooth = [ndimage.gaussian_filter(picture, scale) for scale in SCALES]
    blobs = [scale**2 * ndimage.gaussian_laplace(picture, scale) for scale in SCALES]
    edges = [scale * ndimage.gaussian_gradient_magnitude(picture, scale) for scale in SCALES]
    spread = np.sqrt(np.maximum(0, ndimage.uniform_filter(picture**2, 5) - ndimage.uniform_filter(picture, 5) ** 2))
    found: Floats = np.stack([picture, *smooth, *blobs, *edges, spread], -1).astype(np.float32)
    return found


def _picture(archive: zipfile.ZipFile, name: str) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(archive.read(name))))


def _halved(picture: NDArray[Any]) -> Floats:
    means: Floats = picture.reshape(HALF, 2, HALF, 2).mean((1, 3)).astype(np.float32)
    return means


def _box(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    """96 x 96 pixels around the centre of an outline, within the 128 x 128 of the source."""
    wide = 2 * HALF
    centre = np.argwhere(mask).mean(0)
    low = [int(np.clip(round(one - wide / 2), 0, 128 - wide)) for one in centre]
    return slice(low[0], low[0] + wide), slice(low[1], low[1] + wide)


def train(nodules: Nodules, labelled: list[int], seed: int) -> nn.Module:
    """A new network on the pixels of the labelled nodules: cross-entropy and soft Dice."""
    torch.manual_seed(seed)
    pixels = torch.from_numpy(nodules.seen[labelled].reshape(-1, nodules.seen.shape[-1]))
    inside = torch.from_numpy(nodules.masks[labelled].reshape(-1, 1))
    mean, spread = pixels.mean(0), pixels.std(0) + 1e-6
    network = nn.Sequential(
        *(Standard(mean, spread), nn.Linear(pixels.shape[1], 24), nn.Tanh()),
        *(nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 1)),
    )
    optimiser = torch.optim.AdamW(network.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=STEPS)
    for _ in range(STEPS):
        drawn = torch.randint(len(pixels), (BATCH,))
        logits, truth = network(pixels[drawn]), inside[drawn]
        chance = logits.sigmoid()
        overlap = (2 * (chance * truth).sum() + 1) / (chance.sum() + truth.sum() + 1)
        loss = functional.binary_cross_entropy_with_logits(logits, truth) + 1 - overlap
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return network.eval()


class Standard(nn.Module):
    """Every feature with the mean 0 and the spread 1 that it has among the labelled pixels."""

    def __init__(self, mean: Tensor, spread: Tensor) -> None:
        super().__init__()
        self.mean, self.spread = mean, spread

    def forward(self, pixels: Tensor) -> Tensor:
        """The same shape."""
        return (pixels - self.mean) / self.spread


def predict(network: nn.Module, nodules: Nodules, chosen: NDArray[np.int64]) -> Floats:
    """Probabilities (n, 32, 32)."""
    with torch.inference_mode():
        said: Floats = network(torch.from_numpy(nodules.seen[chosen])).sigmoid().numpy()
    return said.reshape(len(chosen), SIZE, SIZE)


def doubts_of(chances: Floats) -> NDArray[np.float64]:
    """Mean binary entropy (bits) of each outline where it is possible at all; 1 where it is nowhere."""
    safe = np.clip(chances.astype(np.float64), 1e-6, 1 - 1e-6)
    bits = -(safe * np.log2(safe) + (1 - safe) * np.log2(1 - safe))
    possible = chances > POSSIBLE
    return np.array([one[where].mean() if where.any() else 1.0 for one, where in zip(bits, possible, strict=True)])


def places_of(chances: Floats, pixel_ml: Floats) -> NDArray[np.float64]:
    """The page's features of each result: what it measured, as rows of an outcome."""
    found = []
    for one, ml in zip(chances, pixel_ml.tolist(), strict=True):
        parts, count = ndimage.label(one > 0.5)
        volumes = [float(ml * (parts == number).sum()) for number in range(1, count + 1)]
        found.append(features({"series": [{"measured": [{"volume_ml": volume} for volume in volumes]}]}))
    return np.array(found)


def next_ones(arm: str, network: nn.Module, pool: Nodules, left: NDArray[np.int64], seed: int) -> list[int]:
    """Which nodules an arm buys next."""
    if arm == "random":
        return [int(one) for one in np.random.default_rng(seed).permutation(left)[:STEP]]
    chances = predict(network, pool, left)
    doubts = doubts_of(chances) if arm != "unlike" else np.full(len(left), UNKNOWN)
    order = telling_order(doubts, places_of(chances, pool.pixel_ml[left]))
    return [int(left[one]) for one in order[:STEP]]


def dice_of(network: nn.Module, test: Nodules) -> Floats:
    """Dice of every test nodule."""
    said = predict(network, test, np.arange(len(test.patients))).reshape(test.masks.shape) > 0.5
    shared = (said & (test.masks > 0)).sum(1)
    dice: Floats = (2 * shared / np.maximum(1, said.sum(1) + test.masks.sum(1))).astype(np.float32)
    return dice


def curves(pool: Nodules, test: Nodules, seed: int) -> Floats:
    """Dice (arms, rounds, test nodules) of one seed; every arm begins with the same labels and network."""
    first = np.random.default_rng(seed).permutation(len(pool.patients))[:FIRST].tolist()
    begun = train(pool, first, seed)
    found = []
    for arm in ARMS:
        labelled, network, own = list(first), begun, [dice_of(begun, test)]
        for number in range(1, ROUNDS + 1):
            left = np.setdiff1d(np.arange(len(pool.patients)), labelled)
            labelled += next_ones(arm, network, pool, left, 1000 * seed + number)
            network = train(pool, labelled, 1000 * seed + number)
            own.append(dice_of(network, test))
        found.append(np.stack(own))
    return np.stack(found)


def gain_of(gains: NDArray[np.float64], patients: tuple[str, ...]) -> dict[str, float]:
    """The mean of gains (seeds, nodules) with an interval that draws seeds and patients anew."""
    rng = np.random.default_rng(0)
    names, number = np.unique(patients, return_inverse=True)
    drawn = []
    for _ in range(DRAWS):
        weight = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))[number]
        drawn.append(float((gains[rng.integers(len(gains), size=len(gains))].mean(0) * weight).sum() / weight.sum()))
    low, high = np.quantile(drawn, (0.025, 0.975))
    return {"mean": round(float(gains.mean()), 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def summary(found: NDArray[np.float64], pool: Nodules, test: Nodules, seconds: float) -> dict[str, Any]:
    """What was measured; ``found`` is Dice (seeds, arms, rounds, nodules)."""
    bought = [FIRST + STEP * number for number in range(ROUNDS + 1)]
    means = found.mean((0, 3))
    enough = {arm: next((n for n, one in zip(bought, own, strict=True) if one >= means[0, -1]), None)
              for arm, own in zip(ARMS, means, strict=True)}  # fmt: skip
    gains = {
        arm: {
            "all_rounds": gain_of((found[:, place, 1:] - found[:, 0, 1:]).mean(1), test.patients),
            "last_round": gain_of(found[:, place, -1] - found[:, 0, -1], test.patients),
        }
        for place, arm in enumerate(ARMS)
        if place
    }
    return {
        "seeds": len(found),
        "pool": {"nodules": len(pool.patients), "patients": len(set(pool.patients))},
        "test": {"nodules": len(test.patients), "patients": len(set(test.patients))},
        "labelled": bought,
        "dice": {arm: [round(float(one), 4) for one in own] for arm, own in zip(ARMS, means, strict=True)},
        "labels_to_reach_the_last_random_dice": enough,
        "dice_gained_over_random": gains,
        "cpu_seconds": round(seconds),
    }


def main() -> None:
    """Measure and print; also write it where ``--out`` says."""
    asked = argparse.ArgumentParser()
    asked.add_argument("--seeds", type=int, default=8)
    asked.add_argument("--out", type=Path)
    given = asked.parse_args()
    torch.set_num_threads(1)
    pool, test = read_nodules("train"), read_nodules("test")
    found: list[Floats] = []
    for seed in range(given.seeds):
        found.append(curves(pool, test, seed))
        told = summary(np.stack(found).astype(np.float64), pool, test, time.process_time())
        if given.out is not None:
            given.out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
