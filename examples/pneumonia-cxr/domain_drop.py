"""What a change of hospital and age costs: train on adults and test on children at 28 x 28, and the other way round.

Adults: NIH chest X-rays, text-mined labels. Children of one to five years: PneumoniaMNIST (Guangzhou).
The same small network, the same steps and the same seed for both; the adults' 256 x 256 are averaged down to
28 x 28. The children's table names no patients, so their intervals take each image for a patient of its own.

Usage: python domain_drop.py ../../../shared/data OUT.json [STEPS]
"""

from __future__ import annotations

import csv
import io
import json
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from hounsfield.evaluation.classification import auc_interval

SIDE, STEPS, BATCH, SEED = 28, 600, 64, 20261122


@dataclass(frozen=True)
class Part:
    """(images, 28, 28) in [0, 1], whether each is called pneumonia, and whose it is."""

    images: NDArray[np.float32]
    positive: NDArray[np.bool_]
    patients: list[str]


def adults(folder: Path) -> dict[str, Part]:
    """Training and test part of the NIH images, split by patient as the source says."""
    with (folder / "labels.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    parts = {}
    with zipfile.ZipFile(folder / "images.zip") as archive:
        for name, kept in (("train", "train"), ("test", "val")):
            own = [row for row in rows if row["split"] == kept]
            pictures = [
                np.asarray(Image.open(io.BytesIO(archive.read(row["file"]))).resize((SIDE, SIDE), Image.Resampling.BOX))
                for row in own
            ]
            positive = np.array([row["label"] == "1" for row in own])
            parts[name] = Part(np.stack(pictures).astype(np.float32) / 255, positive, [row["patient"] for row in own])
    return parts


def children(path: Path) -> dict[str, Part]:
    """Training and test part of PneumoniaMNIST."""
    with np.load(path, allow_pickle=False) as arrays:
        return {
            part: Part(
                arrays[f"{part}_images"].astype(np.float32) / 255,
                arrays[f"{part}_labels"].ravel() == 1,
                [f"{part}-{number}" for number in range(len(arrays[f"{part}_labels"]))],
            )
            for part in ("train", "test")
        }


def network() -> nn.Module:
    """Three convolutions and a mean."""
    blocks: list[nn.Module] = []
    for before, after in ((1, 32), (32, 64), (64, 128)):
        blocks += [nn.Conv2d(before, after, 3, 1, 1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.3), nn.Linear(128, 1))


def standardised(images: NDArray[np.float32]) -> Tensor:
    """Each image with mean 0 and deviation 1: contrast between the collections is no clue."""
    mean, std = images.mean((1, 2), keepdims=True), images.std((1, 2), keepdims=True)
    return torch.from_numpy((images - mean) / (std + 1e-6))[:, None]


def changed(images: Tensor, generator: torch.Generator) -> Tensor:
    """Moved, scaled and contrasted at random."""
    count = len(images)
    scale = 1 + 0.15 * (2 * torch.rand(count, generator=generator) - 1)
    matrix = torch.zeros(count, 2, 3)
    matrix[:, 0, 0] = matrix[:, 1, 1] = scale
    matrix[:, :, 2] = 0.15 * (2 * torch.rand(count, 2, generator=generator) - 1)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return moved * (1 + 0.2 * torch.randn(count, 1, 1, 1, generator=generator))


def trained(part: Part, steps: int) -> nn.Module:
    """The network after ``steps`` balanced batches of 64."""
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    model, images = network(), standardised(part.images)
    target = torch.from_numpy(part.positive.astype(np.float32))
    chance = torch.where(target > 0, 1 / target.sum(), 1 / (1 - target).sum())
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        chosen = torch.multinomial(chance, BATCH, replacement=True, generator=generator)
        loss = F.binary_cross_entropy_with_logits(model(changed(images[chosen], generator))[:, 0], target[chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return model.eval()


def main() -> None:
    shared, out = Path(sys.argv[1]), Path(sys.argv[2])
    steps = int(sys.argv[3]) if len(sys.argv) > 3 else STEPS
    data = {"adults": adults(shared / "cxr-nih-pneumonia"), "children": children(shared / "cxr/pneumoniamnist.npz")}
    rows = []
    for source, parts in data.items():
        model = trained(parts["train"], steps)
        for place, others in data.items():
            test = others["test"]
            with torch.inference_mode():
                scores = torch.sigmoid(model(standardised(test.images))[:, 0]).numpy().astype(np.float64)
            found = auc_interval(test.positive, scores, test.patients, SEED)
            rows.append({"trained_on": source, "tested_on": place, "images": len(test.positive), **found.as_dict()})
            print(f"{source} to {place}: AUC {found.mean:.3f} ({found.low:.3f} to {found.high:.3f})", flush=True)
    shown = {
        f"{row['trained_on']}_to_{row['tested_on']}": f"{row['mean']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
        for row in rows
    }
    text = json.dumps({**shown, "seed": SEED, "steps": steps, "rows": rows}, indent=1) + "\n"
    out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
