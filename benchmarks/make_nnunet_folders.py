"""Folders of several small nnU-Net models with random weights, and nnU-Net's own answers for them.

For tests/importing/test_nnunet_folders.py: two cascades, and weights in TotalSegmentator's layout (there are no
real ones here). Run by a Python that has nnunetv2 (2.8.1 made those in the repository):

    PYTHON benchmarks/make_nnunet_folders.py tests/importing/nnunet_folders

A cascade's second stage is given the labels that the first one's predictor gave for the whole image, as
``nnUNetv2_predict -prev_stage_predictions`` does. Models that make one answer are merged as TotalSegmentator 2 does:
each model's labels are written over those before, under their number in the class map.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
from make_nnunet_models import documents, image, predicting, torch, train
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoMirroring import (
    nnUNetTrainerNoMirroring,
)

CASCADES = {
    "cascade": {
        "spacing": [1.1, 1.0, 1.0],
        "low": [2.2, 2.0, 2.0],
        "image": (1.3, 0.9, 0.9),
        "shape": (24, 30, 27),
        "mirror": (0, 2),
        "folds": ["0", "1"],
    },
    "cascade-regions": {
        "spacing": [4.0, 1.0, 1.0],
        "low": [4.0, 2.0, 2.0],
        "image": (5.0, 0.8, 0.8),
        "shape": (9, 36, 30),
        "patch": [8, 24, 24],
        "kernels": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
        "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
        "residual": True,
        "regions": True,
        "channels": 2,
        "mask": True,
    },
}
PARTS = {
    "Dataset291_TotalSegmentator_part1_organs_1559subj": {"spleen": 1, "kidney_right": 2, "kidney_left": 3},
    "Dataset292_TotalSegmentator_part2_vertebrae_1532subj": {"sacrum": 1, "vertebrae_S1": 2},
    "Dataset295_TotalSegmentator_part5_ribs_1559subj": {"rib_left_1": 1, "rib_left_2": 2, "sternum": 3},
}
CT = {"spacing": [1.5, 1.5, 1.5], "image": (2.0, 0.9, 0.9), "shape": (16, 40, 36), "ct": True, "old": True}


def predict(folder: Path, model: dict, data: np.ndarray, before: np.ndarray | None = None) -> np.ndarray:
    """nnU-Net's labels, its windows added up in float32 (see make_nnunet_models.py)."""
    predictor = predicting.nnUNetPredictor(device=torch.device("cpu"), perform_everything_on_device=False)
    predictor.initialize_from_trained_model_folder(str(folder), model.get("folds", ["0"]))
    predictor.use_mirroring = model.get("mirror") is not None
    previous = None if before is None else before[None].astype(np.float32)  # as nnU-Net reads a file
    half, torch.half = torch.half, torch.float32
    answer = predictor.predict_single_npy_array(data, {"spacing": list(model["image"])}, previous, None, False)
    torch.half = half
    print(folder.name, dict(zip(*[one.tolist() for one in np.unique(answer, return_counts=True)], strict=True)))
    return answer.astype(np.uint8)


def answered(
    kind: type[nnUNetTrainer],
    folder: Path,
    documents: tuple[str, dict, dict],
    model: dict,
    data: np.ndarray,
    before: np.ndarray | None = None,
) -> np.ndarray:
    """The labels of the first random model that answers each label somewhere, 2 % of the image at least."""
    _, plans, dataset = documents
    first = int(plans["dataset_name"][7:10])  # models of several data sets must not be the same
    for seed in range(first, first + 40):
        shutil.rmtree(folder, ignore_errors=True)
        for fold in model.get("folds", ["0"]):
            torch.manual_seed(100 * seed + int(fold))
            train(kind, folder, documents, fold, model.get("mirror"))
        answer = predict(folder, model, data, before)
        counts = np.bincount(answer.ravel(), minlength=len(dataset["labels"]))
        if counts.min() >= 0.02 * answer.size:
            return answer
    raise SystemExit(f"no seed of {folder.name} answers every label")


def cascade(name: str, model: dict, target: Path, rng: np.random.Generator) -> None:
    """Two results folders beside each other."""
    _, plans, dataset = documents(model)
    full = plans["configurations"]["3d_fullres"]
    low = {**full, "data_identifier": "x_3d_lowres", "spacing": model["low"], "next_stage": "3d_cascade_fullres"}
    second = {"inherits_from": "3d_fullres", "data_identifier": "x_3d_cascade_fullres", "previous_stage": "3d_lowres"}
    plans["configurations"] = {"3d_lowres": low, "3d_fullres": full, "3d_cascade_fullres": second}
    data, answer, answers = image(model, rng), None, []
    for stage in ("3d_lowres", "3d_cascade_fullres"):
        folder = target / name / f"nnUNetTrainer__nnUNetPlans__{stage}"
        answer = answered(nnUNetTrainer, folder, (stage, plans, dataset), model, data, answer)
        answers.append(answer)
    save(target / f"{name}.npz", data, model, low=answers[0], labels=answers[1])


def merged(target: Path, rng: np.random.Generator) -> None:
    """Three data sets, and their answers written over each other."""
    name = "totalsegmentator"
    data = image(CT, rng)
    together, first = np.zeros(data.shape[1:], np.uint8), 1
    for part, labels in PARTS.items():
        _, plans, dataset = documents(CT)
        dataset["labels"] = {"background": 0, **labels}
        plans["dataset_name"] = part
        folder = target / name / part / "nnUNetTrainerNoMirroring__nnUNetPlans__3d_fullres"
        answer = answered(nnUNetTrainerNoMirroring, folder, ("3d_fullres", plans, dataset), CT, data)
        for label in labels.values():
            together[answer == label] = first + label - 1
        first += len(labels)
    save(target / f"{name}.npz", data, CT, labels=together)


def save(path: Path, data: np.ndarray, model: dict, **labels: np.ndarray) -> None:
    """An image and the labels for it."""
    np.savez_compressed(path, image=data.astype(np.int16), spacing=np.asarray(model["image"]), **labels)


def main() -> None:
    """Write all."""
    target = Path(sys.argv[1])
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    rng = np.random.default_rng(20261122)
    for name, model in CASCADES.items():
        cascade(name, model, target, rng)
    merged(target, rng)


if __name__ == "__main__":
    main()
