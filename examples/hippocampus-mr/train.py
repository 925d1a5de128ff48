"""Train the network of the ``hippocampus-mr`` package on two CPU cores in about an hour.

Reads the Medical Segmentation Decathlon Task04 cases named in ``splits.json``, trains a small
nnU-Net-style 3-D U-Net in BF16, and writes ``weights.safetensors`` (the exponential moving
average of the weights) and ``training.json`` (settings, seed, data digest, loss curve).
No choice is made on the test part: it is not even opened here.

Usage: python train.py DATA_FOLDER OUT_FOLDER [--stop-at 3000]
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import nibabel
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from hounsfield.architectures import build, weights_of

ARCHITECTURE = {
    "name": "plain-unet",
    "channels_in": 1,
    "channels_out": 3,
    "filters": [32, 64, 96, 128],
    "deep_supervision": 2,
}


@dataclass(frozen=True)
class Settings:
    steps: int = 5000
    stop_at: int = 5000
    batch: int = 2
    patch: tuple[int, int, int] = (32, 48, 32)
    learning_rate: float = 1.5e-3
    weight_decay: float = 1e-4
    warm_up_steps: int = 200
    ema: float = 0.998
    seed: int = 20261122


def load_case(folder: Path, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """One case as (slices, rows, columns) in LPS order: z-scored image and integer labels."""
    image = np.asarray(nibabel.load(folder / "images" / f"{name}.nii.gz").dataobj, np.float32)
    label = np.asarray(nibabel.load(folder / "labels" / f"{name}.nii.gz").dataobj, np.int64)
    image, label = (np.ascontiguousarray(a[::-1, ::-1].transpose(2, 1, 0)) for a in (image, label))
    low, high = np.percentile(image, [0.5, 99.5])
    image = np.clip(image, low, high)
    image = (image - image.mean()) / max(float(image.std()), 1e-8)
    return torch.from_numpy(image.astype(np.float32)), torch.from_numpy(label)


def uniform(low: float, high: float) -> float:
    return float(torch.empty(1).uniform_(low, high))


def random_grid(shape: torch.Size, patch: tuple[int, int, int]) -> torch.Tensor:
    """A sampling grid (1, *patch, 3): random turn, scale, left-right flip, shift and elastic field."""
    angles = [math.radians(uniform(-20, 20)) if uniform(0, 1) < 0.5 else 0.0 for _ in range(3)]
    turn = torch.eye(3)
    for axis, angle in enumerate(angles):
        a, b = [i for i in range(3) if i != axis]
        one = torch.eye(3)
        one[a, a] = one[b, b] = math.cos(angle)
        one[a, b], one[b, a] = -math.sin(angle), math.sin(angle)
        turn = turn @ one
    scale = torch.tensor([uniform(0.8, 1.2) if uniform(0, 1) < 0.5 else 1.0 for _ in range(3)])
    if uniform(0, 1) < 0.5:
        scale[2] = -scale[2]
    axes = [torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in patch]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1) * scale @ turn.T
    if uniform(0, 1) < 0.3:
        coarse = torch.randn(1, 3, *(max(3, n // 10) for n in patch)) * uniform(0.5, 2.5)
        field = F.interpolate(coarse, size=patch, mode="trilinear", align_corners=True)
        grid = grid + field[0].permute(1, 2, 3, 0)
    size = torch.tensor([float(n) for n in shape])
    room = (size - torch.tensor([float(n) for n in patch])).abs() / 2 + 2
    grid = grid + (torch.rand(3) * 2 - 1) * room
    return (grid / (size / 2)).flip(-1)[None]


def sample(image: torch.Tensor, label: torch.Tensor, patch: tuple[int, int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """An augmented training pair (1, *patch) and (*patch)."""
    grid = random_grid(image.shape, patch)
    image = F.grid_sample(image[None, None], grid, mode="bilinear", align_corners=False)[0]
    label = F.grid_sample(label[None, None].float(), grid, mode="nearest", align_corners=False)[0, 0].long()
    if uniform(0, 1) < 0.15:
        size = [max(8, round(n * uniform(0.5, 1))) for n in patch]
        low = F.interpolate(image[None], size=size, mode="trilinear")
        image = F.interpolate(low, size=patch, mode="trilinear")[0]
    if uniform(0, 1) < 0.15:
        kernel = torch.exp(-0.5 * (torch.arange(-2, 3) / uniform(0.4, 1.0)) ** 2)
        kernel = kernel / kernel.sum()
        for axis in range(3):
            view = [1, 1, 1, 1, 1]
            view[axis + 2] = 5
            padding = [0, 0, 0]
            padding[axis] = 2
            image = F.conv3d(image[None], kernel.view(view), padding=padding)[0]
    if uniform(0, 1) < 0.4:
        low, high = image.min(), image.max()
        mean, std = image.mean(), image.std()
        image = ((image - low) / (high - low + 1e-8)) ** uniform(0.7, 1.4)
        image = (image - image.mean()) / (image.std() + 1e-8) * std + mean
    if uniform(0, 1) < 0.4:
        image = image * uniform(0.75, 1.25) + uniform(-0.2, 0.2)
    if uniform(0, 1) < 0.2:
        image = image + torch.randn_like(image) * uniform(0.02, 0.25)
    return image, label


def dice_and_cross_entropy(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Soft Dice over the foreground of the batch plus cross-entropy (Isensee 2021)."""
    probability = logits.softmax(1)
    one_hot = F.one_hot(label, logits.shape[1]).permute(0, 4, 1, 2, 3).float()
    axes = (0, 2, 3, 4)
    overlap = (probability * one_hot).sum(axes)
    total = probability.sum(axes) + one_hot.sum(axes)
    dice = (2 * overlap + 1) / (total + 1)
    return F.cross_entropy(logits, label) + 1 - dice[1:].mean()


def loss_of(outputs: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Weighted loss over the deep-supervision outputs (batch, heads, classes, k, j, i)."""
    weights = [0.5**head for head in range(outputs.shape[1])]
    losses = [w * dice_and_cross_entropy(outputs[:, h].float(), label) for h, w in enumerate(weights)]
    return torch.stack(losses).sum() / sum(weights)


def learning_rate_at(step: int, s: Settings) -> float:
    if step < s.warm_up_steps:
        return s.learning_rate * (step + 1) / s.warm_up_steps
    done = (step - s.warm_up_steps) / max(1, s.steps - s.warm_up_steps)
    return s.learning_rate * 0.5 * (1 + math.cos(math.pi * done)) + 1e-6


@torch.no_grad()
def validation_dice(network: torch.nn.Module, cases: list[tuple[torch.Tensor, torch.Tensor]]) -> list[float]:
    """Mean Dice of labels 1 and 2 over whole cases padded to (40, 56, 40) or more."""
    network.eval()
    scores = []
    for image, label in cases:
        shape = [max(n, math.ceil(m / 8) * 8) for n, m in zip((40, 56, 40), image.shape, strict=True)]
        padded = torch.zeros(shape)
        padded[tuple(slice(0, n) for n in image.shape)] = image
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(padded[None, None])[0]
        found = logits.argmax(0)[tuple(slice(0, n) for n in image.shape)]
        scores.append(
            [
                2 * float(((found == c) & (label == c)).sum()) / float((found == c).sum() + (label == c).sum())
                for c in (1, 2)
            ]
        )
    network.train()
    return [round(float(v), 4) for v in np.mean(scores, 0)]


def data_digest(folder: Path, names: list[str]) -> str:
    """sha256 over the image and label files of the named cases, in order."""
    total = hashlib.sha256()
    for name in names:
        for kind in ("images", "labels"):
            total.update(hashlib.sha256((folder / kind / f"{name}.nii.gz").read_bytes()).digest())
    return total.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=Settings.steps, help="length of the learning-rate schedule")
    parser.add_argument("--stop-at", type=int, default=Settings.steps, help="stop early, at this step of the schedule")
    arguments = parser.parse_args()
    s = Settings(steps=arguments.steps, stop_at=min(arguments.stop_at, arguments.steps))
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(s.seed)
    splits = json.loads(Path(__file__).with_name("splits.json").read_text())
    training = [load_case(arguments.data, name) for name in splits["training"]]
    validation = [load_case(arguments.data, name) for name in splits["validation"]]
    network = build(ARCHITECTURE).to(memory_format=torch.channels_last_3d)
    average = copy.deepcopy(network)
    compiled = torch.compile(network)
    save_file(weights_of(average), arguments.out / "weights.safetensors")
    optimiser = torch.optim.AdamW(network.parameters(), lr=s.learning_rate, weight_decay=s.weight_decay)
    curve, running, started = [], [], time.monotonic()
    order: list[int] = []
    for step in range(s.stop_at):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate_at(step, s)
        if len(order) < s.batch:
            order += torch.randperm(len(training)).tolist()
        pairs = [sample(*training[order.pop(0)], s.patch) for _ in range(s.batch)]
        image = torch.stack([p[0] for p in pairs]).to(memory_format=torch.channels_last_3d)
        label = torch.stack([p[1] for p in pairs])
        with torch.autocast("cpu", torch.bfloat16):
            outputs = compiled(image)
        loss = loss_of(outputs, label)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 12.0)
        optimiser.step()
        running.append(float(loss))
        decay = min(s.ema, (step + 1) / (step + 10))
        with torch.no_grad():
            for kept, new in zip(average.parameters(), network.parameters(), strict=True):
                kept.lerp_(new, 1 - decay)
        if (step + 1) % 250 == 0:
            point = {
                "step": step + 1,
                "loss": round(float(np.mean(running)), 4),
                "seconds": round(time.monotonic() - started),
            }
            running = []
            if (step + 1) % 1000 == 0 or step + 1 == s.stop_at:
                point["validation_dice"] = validation_dice(average, validation)
                save_file(weights_of(average), arguments.out / "weights.safetensors")
            curve.append(point)
            print(json.dumps(point), flush=True)
    record = {
        "architecture": ARCHITECTURE,
        "settings": asdict(s),
        "training_cases": len(training),
        "training_data_sha256": data_digest(arguments.data, splits["training"]),
        "torch": torch.__version__,
        "curve": curve,
    }
    (arguments.out / "training.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
