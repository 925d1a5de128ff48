"""A 3-D full-resolution nnU-Net plan with 118 classes and random weights at CT size: parity on a crop, memory on all.

    python benchmarks/nnunet_118.py ../shared/data/ct-chest-lidc-idri-0001/LIDC-IDRI-0001.tar.xz NNUNET_PYTHON \
        --memory 4GiB -o benchmarks/results/nnunet_118.json

The network is the one that nnU-Net plans for a whole-body CT at 1.5 mm (six levels, 32 to 320 features, windows of
128 voxels); its weights are random, so labels mean nothing and only their agreement and the memory count. nnU-Net
(2.8.1, in ``NNUNET_PYTHON``) writes the results folder and answers a crop of a real chest CT; the package made of the
folder answers the same crop, and then the whole CT by ``hounsfield run``. What nnU-Net would hold for the whole CT is
arithmetic, since no machine here has it: one float16 array of all classes on its grid, one float32 on the scan's.
``--small`` is the same with a tiny network, to try the script. With ``--work FOLDER`` model and package are made once
and kept, and ``--only crop`` or ``--only whole`` makes a part of the results and leaves the other as it is.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from import_parity import OURS, THEIRS, agreement, run, summary

CLASSES = 118
FEATURES = {False: [32, 64, 128, 256, 320, 320], True: [4, 8, 8]}
WINDOW = {False: 128, True: 32}
CROP = {False: (48, 150, 280), True: (24, 60, 64)}
NAMES = [f"structure {number}" for number in range(1, CLASSES)]
CODE = '{ value = "123037004", scheme = "SCT", meaning = "Anatomical Structure" }'

_MODEL = """
import json, os, sys, tempfile
from pathlib import Path
place = tempfile.mkdtemp()
for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
    os.environ[name] = place
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
folder, told = Path(sys.argv[1]), json.loads(sys.argv[2])
cases = Path(place) / "Dataset900_Noise" / "x"
cases.mkdir(parents=True)
(cases / "one.b2nd").touch()
torch.manual_seed(118)
trainer = nnUNetTrainer({**told["plans"], "continue_training": False}, "3d_fullres", 0, told["dataset"],
                        torch.device("cpu"))
trainer.initialize()
for parameter in trainer.network.parameters():
    parameter.data += 0.02 * torch.randn_like(parameter)
trainer.inference_allowed_mirroring_axes = None
(folder / "fold_0").mkdir(parents=True)
trainer.save_checkpoint(str(folder / "fold_0" / "checkpoint_final.pth"))
(folder / "plans.json").write_text(json.dumps(told["plans"]))
(folder / "dataset.json").write_text(json.dumps(told["dataset"]))
print("RESULT{}")
"""


def plans(small: bool) -> dict:
    """The plans and the data set, as nnU-Net's planner writes them."""
    features = FEATURES[small]
    count = len(features)
    data = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    network = {
        "n_stages": count,
        "features_per_stage": features,
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3]] * count,
        "strides": [[1, 1, 1]] + [[2, 2, 2]] * (count - 1),
        "n_conv_per_stage": [2] * count,
        "n_conv_per_stage_decoder": [2] * (count - 1),
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    configuration = {
        "data_identifier": "x",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [WINDOW[small]] * 3,
        "median_image_size_in_voxels": [200.0, 240.0, 240.0],
        "spacing": [1.5, 1.5, 1.5],
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        **{f"resampling_fn_{part}": "resample_data_or_seg_to_shape" for part in ("data", "seg", "probabilities")},
        "resampling_fn_data_kwargs": data,
        "resampling_fn_seg_kwargs": {**data, "is_seg": True, "order": 1},
        "resampling_fn_probabilities_kwargs": {**data, "order": 1},
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": network,
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        "batch_dice": False,
    }
    statistics = {"mean": 20.0, "std": 310.0, "percentile_00_5": -1000.0, "percentile_99_5": 900.0}
    table = {
        "dataset_name": "Dataset900_Noise",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [1.5, 1.5, 1.5],
        "original_median_shape_after_transp": [200, 240, 240],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"3d_fullres": configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": statistics},
    }
    labels = {"background": 0, **{name: number for number, name in enumerate(NAMES, start=1)}}
    dataset = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 1, "file_ending": ".nii.gz"}
    return {"plans": table, "dataset": dataset}


def answers() -> str:
    """What only the user knows; the scan's NIfTI lies along LPS, and so nnU-Net reads it."""
    segments = "".join(f'[[output.segments]]\nlabel = "{name}"\ncategory = {CODE}\ntype = {CODE}\n' for name in NAMES)
    return f"""[package]
id = "nnunet-118"
version = "1.0.0"
title = "Random weights, 118 classes"
intended_use = "A comparison, not for reading scans."
[licence]
weights = "CC0-1.0"
data = "none"
[input]
orientation = "LPS"
[[input.channels]]
name = "ct"
modality = "CT"
quantity = "HU"
[domain.modality]
allowed = ["CT"]
breach = "refuse"
{segments}"""


def write_crop(scan: Path, shape: tuple[int, int, int], path: Path) -> None:
    """The middle of the CT as a NIfTI along LPS, HU in 16 bits, padding seen as air."""
    import nibabel as nib

    from hounsfield.reading import load
    from hounsfield.reading import scan as scan_path

    with scan_path(scan) as contents:
        whole = load(contents.choose())
    geometry, order, flips = whole.geometry.reoriented("LPS")
    array = whole.array.transpose(order)[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]
    start = [(have - want) // 2 for have, want in zip(array.shape, shape, strict=True)]
    part = array[tuple(slice(first, first + size) for first, size in zip(start, shape, strict=True))]
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ geometry.affine[:, [2, 1, 0, 3]]
    affine[:3, 3] = 0
    nib.save(nib.Nifti1Image(np.maximum(part, -1024).astype(np.int16).T, affine), path)


def whole(package: str, scan: Path, memory: str | None, out: Path) -> dict:
    """``hounsfield run`` on the whole CT: time, memory, and what nnU-Net would hold."""
    options = ["--allow-unproven", "--json", *(["--memory", memory] if memory else [])]
    command = [sys.executable, "-m", "hounsfield", "run", package, str(scan), "-o", str(out), *options]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])
    (series,) = json.loads(done.stdout)["series"]
    figures = series["figures"]
    kept = (
        "engine",
        "infer_seconds",
        "network_seconds",
        "windows",
        "peak_resident_mib",
        "predicted_peak_mib",
        "attempts",
    )
    return {"memory_asked": memory, **{name: figures[name] for name in kept if name in figures}}


def nnunet_would_hold(scan: Path) -> dict:
    """GiB of nnU-Net's two arrays of all classes for the whole CT."""
    from hounsfield.reading import scan as scan_path

    with scan_path(scan) as contents:
        geometry = contents.choose().geometry
    if geometry is None:
        raise SystemExit("the scan's grid is not known")
    own = math.prod(geometry.shape)
    grid = math.prod(geometry.resampled((1.5, 1.5, 1.5)).shape)
    return {
        "scan_voxels": own,
        "grid_voxels": grid,
        "sums_of_all_classes_gib": CLASSES * grid * 2 / 2**30,
        "resampled_answers_of_all_classes_gib": CLASSES * own * 4 / 2**30,
    }


def make_package(root: Path, nnunet_python: str, small: bool) -> tuple[Path, str]:
    """The results folder that nnU-Net writes, and the package that is made of it; what is there already is taken."""
    model, told = root / "model", root / "answers.toml"
    made = root / "packages" / "nnunet-118-1.0.0"
    if made.is_dir():
        return model, str(made)
    run(nnunet_python, _MODEL, [str(model), json.dumps(plans(small))])
    told.write_text(answers())
    command = [sys.executable, "-m", "hounsfield", "import", str(model), "-o", str(root / "packages")]
    done = subprocess.run([*command, "--answers", str(told), "--json"], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])
    return model, json.loads(done.stdout)["package"]


def on_crop(model: Path, package: str, crop: Path, nnunet_python: str, root: Path) -> dict:
    """Labels, time and memory of both sides on the crop, one thread each."""
    listed, sides = json.dumps([str(crop)]), {}
    for kind in ("float16", "float32"):
        (root / kind).mkdir()
        theirs = [str(model), listed, str(root / kind), str(root), kind, '["0"]']
        sides[f"nnU-Net, {kind} sums"] = summary(run(nnunet_python, THEIRS, theirs))
    against = {}
    for engine, precision in (("openvino", "fp32"), ("openvino", "bf16")):
        name = f"hounsfield, {engine} {precision}"
        out = root / f"{engine}-{precision}"
        out.mkdir()
        sides[name] = summary(run(sys.executable, OURS, [package, listed, str(out), precision, engine]))
        against[name] = {kind: agreement(out, root / kind, [crop.name]) for kind in ("float16", "float32")}
        for table in against[name].values():
            del table["dice_between"], table["worst_case_percent"]
    labels = len(np.unique(np.load(root / "float32" / f"{crop.name}.npy")))
    own = agreement(root / "float16", root / "float32", [crop.name])
    return {
        "labels_answered": labels,
        "sides": sides,
        "against_nnunet": against,
        "nnunet_against_itself": own["equal_percent"],
    }


def main() -> None:
    """Make, import, compare on the crop, run on all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scan", type=Path, help="a CT: DICOM, in a folder or archive")
    parser.add_argument("nnunet_python")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--memory", nargs="+", default=[None], help="budgets for the whole CT, such as 4GiB")
    parser.add_argument("--only", choices=["crop", "whole"])
    parser.add_argument("--work", type=Path, help="folder for model and package, which are kept")
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    record = json.loads(given.output.read_text()) if given.only and given.output.exists() else {}
    record["network"] = {"features": FEATURES[given.small], "window": WINDOW[given.small], "classes": CLASSES}
    with tempfile.TemporaryDirectory() as scratch:
        model, package = make_package(given.work or Path(scratch), given.nnunet_python, given.small)
        if given.only != "whole":
            crop = Path(scratch) / "crop.nii.gz"
            write_crop(given.scan, CROP[given.small], crop)
            answered = on_crop(model, package, crop, given.nnunet_python, Path(scratch))
            record["crop"] = {"shape": CROP[given.small], **answered}
        if given.only != "crop":
            budgets = enumerate(given.memory)
            record["whole_ct"] = [
                whole(package, given.scan, memory, Path(scratch) / f"out-{number}") for number, memory in budgets
            ]
            record["nnunet_would_hold"] = nnunet_would_hold(given.scan)
    given.output.write_text(json.dumps(record, indent=1) + "\n")
    print(given.output.read_text())


if __name__ == "__main__":
    main()
