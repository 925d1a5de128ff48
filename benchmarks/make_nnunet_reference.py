"""Answers of nnU-Net's own functions on small random volumes, for tests/preparing/test_nnunet_steps.py.

Run by a Python that has nnunetv2 (2.8.1 made the file in the repository):

    PYTHON benchmarks/make_nnunet_reference.py tests/preparing/nnunet_reference.npz
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from nnunetv2.inference.sliding_window_prediction import compute_gaussian, compute_steps_for_sliding_window
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from scipy.ndimage import gaussian_filter

CASES = {
    "isotropic": {"shape": (13, 17, 15), "spacing": (1.3, 0.9, 1.1), "target": [1.0, 1.0, 1.0]},
    "thick-slices": {"shape": (7, 21, 18), "spacing": (5.0, 0.8, 0.8), "target": [4.0, 1.0, 1.0]},
    "thick-slices-turned": {"shape": (19, 20, 8), "spacing": (0.8, 0.8, 5.0), "target": [1.0, 1.0, 2.5]},
    "network-thick": {"shape": (16, 14, 15), "spacing": (1.5, 1.0, 1.0), "target": [4.0, 0.9, 0.9]},
    "twice-as-fine": {"shape": (6, 16, 16), "spacing": (6.0, 1.0, 1.0), "target": [3.0, 1.0, 1.0]},
    "two-d": {"shape": (6, 15, 14), "spacing": (3.0, 1.2, 0.9), "target": [1.0, 1.0]},
    "masked": {"shape": (14, 16, 15), "spacing": (1.0, 1.2, 1.0), "target": [1.1, 1.0, 1.0], "mask": True},
    "ct": {"shape": (12, 15, 16), "spacing": (2.0, 1.0, 1.0), "target": [1.5, 1.2, 1.2], "ct": True},
    "two-channels": {"shape": (11, 13, 12), "spacing": (1.2, 1.0, 1.0), "target": [1.0, 1.1, 1.0], "channels": 2},
    "turned-axes": {"shape": (9, 12, 14), "spacing": (1.0, 1.2, 2.0), "target": [1.5, 1.0, 1.0], "turn": [2, 0, 1]},
}
#: Grids between which labels are resampled (a cascade): thick slices, both ways, halved and doubled (exact ties).
LABELS = {
    "isotropic": {"shape": (12, 13, 12), "spacing": (1, 1, 1), "new": (17, 12, 9), "target": (0.7, 1, 1.333)},
    "thick": {"shape": (9, 20, 16), "spacing": (5, 0.8, 0.8), "new": (12, 13, 13), "target": (3.75, 1.2, 1.0)},
    "network-thick": {"shape": (10, 12, 9), "spacing": (1.2, 1, 1), "new": (12, 6, 18), "target": (1.0, 2.0, 0.5)},
    "same-slices": {"shape": (5, 16, 14), "spacing": (5, 0.8, 0.8), "new": (5, 11, 11), "target": (5, 1.2, 1.0)},
    "doubled": {"shape": (10, 11, 10), "spacing": (2, 2, 2), "new": (20, 22, 20), "target": (1, 1, 1)},
    "half-more": {"shape": (10, 12, 14), "spacing": (1, 1, 1), "new": (15, 18, 21), "target": (0.6667, 0.6667, 0.6667)},
}
CT = {"mean": 40.0, "std": 90.0, "percentile_00_5": -120.0, "percentile_99_5": 250.0}
RESAMPLING = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}


def plans(case: dict) -> PlansManager:
    """A plans file with one configuration."""
    channels = case.get("channels", 1)
    turn = case.get("turn", [0, 1, 2])
    scheme = "CTNormalization" if case.get("ct") else "ZScoreNormalization"
    configuration = {
        "data_identifier": "x",
        "preprocessor_name": "DefaultPreprocessor",
        "patch_size": [8] * len(case["target"]),
        "spacing": case["target"],
        "normalization_schemes": [scheme] * channels,
        "use_mask_for_norm": [bool(case.get("mask"))] * channels,
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": RESAMPLING,
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_seg_kwargs": {**RESAMPLING, "is_seg": True, "order": 1},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {**RESAMPLING, "order": 1},
        "architecture": {"network_class_name": "x", "arch_kwargs": {}, "_kw_requires_import": []},
    }
    return PlansManager(
        {
            "dataset_name": "x",
            "plans_name": "x",
            "image_reader_writer": "SimpleITKIO",
            "transpose_forward": turn,
            "transpose_backward": [turn.index(axis) for axis in range(3)],
            "foreground_intensity_properties_per_channel": {str(n): CT for n in range(channels)},
            "configurations": {"one": configuration},
            "label_manager": "LabelManager",
        }
    )


def volume(case: dict, rng: np.random.Generator) -> np.ndarray:
    """Noise inside an ellipsoid with a hole, 0 around it: (channels, k, j, i) float32."""
    shape = case["shape"]
    at = np.stack(np.meshgrid(*[np.linspace(-1.15, 1.15, n) for n in shape], indexing="ij"))
    radius = np.sqrt((at**2).sum(0))
    inside = (radius < 1) & (radius > 0.15)
    data = rng.normal(60, 80, (case.get("channels", 1), *shape)).astype(np.float32)
    data[:, ~inside] = 0
    if len(data) > 1:
        data[1, radius > 0.7] = 0
    return data


def resampled_labels(case: dict, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Labels -1 to 3 in patches, and what nnU-Net makes of them on the other grid."""
    values = gaussian_filter(rng.normal(size=case["shape"]), 1.2)
    labels = np.digitize(values, [-0.1, -0.05, 0.02, 0.05]) - 1
    way = {"is_seg": True, "order": 1, "order_z": 0, "force_separate_z": None}
    found = resample_data_or_seg_to_shape(
        labels[None].astype(np.int8), case["new"], case["spacing"], case["target"], **way
    )
    return labels, found[0]


def main() -> None:
    """Write the file."""
    rng = np.random.default_rng(20261122)
    out: dict[str, np.ndarray] = {}
    for name, case in CASES.items():
        manager = plans(case)
        configuration = manager.get_configuration("one")
        labels = {"background": 0, "a": 1, "b": 2}
        dataset = {"channel_names": {str(n): "x" for n in range(case.get("channels", 1))}, "labels": labels}
        data = volume(case, rng)
        properties = {"spacing": list(case["spacing"])}
        prepared, _, properties = DefaultPreprocessor(verbose=False).run_case_npy(
            data, None, properties, manager, configuration, dataset
        )
        logits = rng.normal(size=(3, *prepared.shape[1:])).astype(np.float32)
        segmentation = convert_predicted_logits_to_segmentation_with_correct_shape(
            torch.from_numpy(logits), manager, configuration, manager.get_label_manager(dataset), properties
        )
        out[f"{name}/image"], out[f"{name}/prepared"] = data, prepared
        out[f"{name}/logits"], out[f"{name}/labels"] = logits, segmentation.astype(np.uint8)
        out[f"{name}/case"] = np.frombuffer(json.dumps(case).encode(), np.uint8)
    for size in ((8, 10, 12), (5, 28, 28)):
        key = "x".join(map(str, size))
        weight = compute_gaussian(size, 1 / 8, 10, device=torch.device("cpu")).float().numpy()
        out[f"gaussian/{key}"] = weight
        steps = compute_steps_for_sliding_window((31, 40, 29), size, 0.5)
        out[f"steps/{key}"] = np.frombuffer(json.dumps(steps).encode(), np.uint8)
    for name, case in LABELS.items():
        labels, found = resampled_labels(case, rng)
        out[f"labels-{name}/labels"], out[f"labels-{name}/resampled"] = labels.astype(np.int8), found
        out[f"labels-{name}/spacings"] = np.array([case["spacing"], case["target"]])
    np.savez_compressed(Path(sys.argv[1]), **out)


if __name__ == "__main__":
    main()
