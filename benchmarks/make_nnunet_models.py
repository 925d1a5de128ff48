"""Small nnU-Net models with random weights, written by nnU-Net itself, and its own answers for them.

For tests/importing/test_nnunet.py. Run by a Python that has nnunetv2 (2.8.1 made those in the repository):

    PYTHON benchmarks/make_nnunet_models.py tests/importing/nnunet_models

nnU-Net adds windows up in float16; here its accumulators are float32, so that voxels whose classes
nearly tie do not fall by rounding (benchmarks/import_parity.py compares with nnU-Net as it is).
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

PLACES = {name: tempfile.mkdtemp() for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
os.environ.update({**PLACES, "nnUNet_compile": "f"})  # nnU-Net reads them when it is imported

import nnunetv2.inference.predict_from_raw_data as predicting  # noqa: E402
import torch  # noqa: E402
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer  # noqa: E402

RESAMPLING = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
LABELS = {"background": 0, "left": 1, "right": 2}
REGIONS = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": [3]}
MODELS = {
    "3d-two-folds": {"folds": ["0", "1"], "mirror": (0, 1, 2), "spacing": [1.0, 0.9, 1.1], "image": (1.2, 1.0, 1.0)},
    "3d-anisotropic": {
        "spacing": [4.0, 1.0, 1.0],
        "image": (5.0, 0.8, 0.8),
        "shape": (9, 30, 26),
        "patch": [8, 24, 24],
        "kernels": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
        "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
        "ct": True,
    },
    "2d": {"spacing": [1.0, 1.2], "image": (3.0, 0.9, 1.1), "shape": (7, 28, 25), "patch": [16, 24], "mirror": (0, 1)},
    "residual-regions": {
        "spacing": [1.1, 1.0, 1.0],
        "image": (1.0, 1.0, 1.0),
        "residual": True,
        "regions": True,
        "channels": 2,
        "mask": True,
    },
    "turned-old-plans": {
        "spacing": [1.5, 1.0, 1.0],
        "image": (1.0, 1.2, 1.6),
        "turn": [2, 0, 1],
        "old": True,
        "folds": ["all"],
    },
    "118-classes": {
        "spacing": [1.5, 1.5, 1.5],
        "image": (2.0, 0.9, 0.9),
        "shape": (14, 40, 36),
        "ct": True,
        "classes": 118,
    },
}


def architecture(model: dict, axes: int) -> dict:
    """The network's part of a configuration."""
    kernels = model.get("kernels", [[3] * axes] * 3)
    strides = model.get("strides", [[1] * axes, [2] * axes, [2] * axes])
    if model.get("old"):
        return {
            "UNet_class_name": "PlainConvUNet",
            "UNet_base_num_features": 4,
            "unet_max_num_features": 8,
            "n_conv_per_stage_encoder": [2, 2, 2],
            "n_conv_per_stage_decoder": [2, 2],
            "num_pool_per_axis": [2] * axes,
            "pool_op_kernel_sizes": strides,
            "conv_kernel_sizes": kernels,
        }
    kind = "ResidualEncoderUNet" if model.get("residual") else "PlainConvUNet"
    units = {"n_blocks_per_stage": [1, 2, 2]} if model.get("residual") else {"n_conv_per_stage": [2, 2, 2]}
    return {
        "architecture": {
            "network_class_name": f"dynamic_network_architectures.architectures.unet.{kind}",
            "arch_kwargs": {
                "n_stages": 3,
                "features_per_stage": [4, 8, 8],
                "conv_op": f"torch.nn.modules.conv.Conv{axes}d",
                "kernel_sizes": kernels,
                "strides": strides,
                **units,
                "n_conv_per_stage_decoder": [1, 1],
                "conv_bias": True,
                "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{axes}d",
                "norm_op_kwargs": {"eps": 1e-05, "affine": True},
                "dropout_op": None,
                "dropout_op_kwargs": None,
                "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        }
    }


def documents(model: dict) -> tuple[str, dict, dict]:
    """Configuration name, plans and data set."""
    axes = len(model["spacing"])
    name = "2d" if axes == 2 else "3d_fullres"
    channels = model.get("channels", 1)
    turn = model.get("turn", [0, 1, 2])
    configuration = {
        "data_identifier": f"x_{name}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": model.get("patch", [16] * axes),
        "median_image_size_in_voxels": [20.0] * axes,
        "spacing": model["spacing"],
        "normalization_schemes": ["CTNormalization" if model.get("ct") else "ZScoreNormalization"] * channels,
        "use_mask_for_norm": [bool(model.get("mask"))] * channels,
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": RESAMPLING,
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_seg_kwargs": {**RESAMPLING, "is_seg": True, "order": 1},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {**RESAMPLING, "order": 1},
        **architecture(model, axes),
        "batch_dice": False,
    }
    statistics = {"mean": 60.0, "std": 70.0, "percentile_00_5": -90.0, "percentile_99_5": 220.0}
    plans = {
        "dataset_name": "Dataset900_Noise",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [1.0, 1.0, 1.0],
        "original_median_shape_after_transp": [20, 20, 20],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": turn,
        "transpose_backward": [turn.index(axis) for axis in range(3)],
        "configurations": {name: configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {str(n): statistics for n in range(channels)},
    }
    dataset = {
        "channel_names": {str(n): f"c{n}" for n in range(channels)},
        "labels": labels_of(model),
        "numTraining": 1,
        "file_ending": ".nii.gz",
        **({"regions_class_order": [1, 2, 3]} if model.get("regions") else {}),
    }
    return name, plans, dataset


def labels_of(model: dict) -> dict:
    """The data set's labels."""
    if "classes" in model:
        return {"background": 0, **{f"structure {n}": n for n in range(1, model["classes"])}}
    return REGIONS if model.get("regions") else LABELS


def image(model: dict, rng: np.random.Generator) -> np.ndarray:
    """Smooth noise inside an ellipsoid, 0 around it: (channels, k, j, i) float32."""
    from scipy.ndimage import gaussian_filter

    shape = model.get("shape", (20, 22, 19))
    at = np.stack(np.meshgrid(*[np.linspace(-1.1, 1.1, n) for n in shape], indexing="ij"))
    outside = (at**2).sum(0) > 1
    data = rng.normal(size=(model.get("channels", 1), *shape))
    data = np.stack([gaussian_filter(one, 1.0) for one in data])
    data = (data / data.std() * 60 + 60).astype(np.float32)
    data[:, outside] = 0
    return np.rint(data)


def train(
    kind: type[nnUNetTrainer], folder: Path, documents: tuple[str, dict, dict], fold: str, mirror: tuple | None
) -> None:
    """One fold's checkpoint with random weights, by nnU-Net's own trainer; the seed is the caller's."""
    name, plans, dataset = documents
    cases = Path(PLACES["nnUNet_preprocessed"]) / plans["dataset_name"] / f"x_{name}"
    cases.mkdir(parents=True, exist_ok=True)
    (cases / "one.b2nd").touch()  # the trainer looks which kind of files there are
    own = {**plans, "continue_training": False}
    trainer = kind(own, name, "all" if fold == "all" else int(fold), dataset, torch.device("cpu"))
    trainer.initialize()
    for parameter in trainer.network.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    trainer.inference_allowed_mirroring_axes = mirror
    (folder / f"fold_{fold}").mkdir(parents=True)
    trainer.save_checkpoint(str(folder / f"fold_{fold}" / "checkpoint_final.pth"))
    (folder / "plans.json").write_text(json.dumps(plans, indent=1))
    (folder / "dataset.json").write_text(json.dumps(dataset, indent=1))


def write(name: str, model: dict, target: Path, rng: np.random.Generator) -> None:
    """One results folder, an image and nnU-Net's answer."""
    configuration, plans, dataset = documents(model)
    folder = target / name
    for fold in model.get("folds", ["0"]):
        torch.manual_seed(len(name) + len(fold))
        train(nnUNetTrainer, folder, (configuration, plans, dataset), fold, model.get("mirror"))
    data = image(model, rng)
    predictor = predicting.nnUNetPredictor(device=torch.device("cpu"), perform_everything_on_device=False)
    predictor.initialize_from_trained_model_folder(str(folder), model.get("folds", ["0"]))
    predictor.use_mirroring = model.get("mirror") is not None
    half, torch.half = torch.half, torch.float32  # nnU-Net's accumulators, see above
    answer = predictor.predict_single_npy_array(data, {"spacing": list(model["image"])}, None, None, False)
    torch.half = half
    labels, counts = np.unique(answer, return_counts=True)
    print(name, dict(zip(labels.tolist(), counts.tolist(), strict=True)))
    spacing = np.asarray(model["image"])
    np.savez_compressed(
        target / f"{name}.npz", image=data.astype(np.int16), spacing=spacing, labels=answer.astype(np.uint8)
    )


def main() -> None:
    """Write all."""
    target = Path(sys.argv[1])
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    rng = np.random.default_rng(20261122)
    for name, model in MODELS.items():
        write(name, model, target, rng)


if __name__ == "__main__":
    main()
