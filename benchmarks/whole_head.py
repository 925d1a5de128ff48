"""brainchop's MeshNets over a whole real head: imported and run by the command line, against the weights themselves.

    python benchmarks/whole_head.py ../shared/data/weights-brainchop -o benchmarks/results/whole_head.json

The reference reads the published files with numpy and torch alone (no code of hounsfield): the layers as the files
list them, whole-volume convolutions in float32, over the head turned to the axes of brainchop's application. Batch
normalisations have no numbers in the file: they are those of a new layer (mean 0, variance 1).
Each side is a process of its own; up to 8 GB of memory and minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

#: Per model: the quantiles that map to 0 and 1, clipped or not.
MODELS = {
    "model20chan3cls": (0.05, 0.95, False),
    "model30chan18cls": (0.05, 0.95, False),
    "mindgrab": (0.02, 0.98, True),
}
AXES = "LIA"  # of brainchop's arrays, first to last: what nibabel.orientations calls axis codes

_REFERENCE = """
import json, resource, sys, time
import nibabel as nib, numpy as np, torch
from torch.nn import functional
folder, scan, low, high, clip, out, axes, threads = sys.argv[1:9]
torch.set_num_threads(int(threads))
head = nib.load(scan)
turn = nib.orientations.ornt_transform(nib.io_orientation(head.affine), nib.orientations.axcodes2ornt(tuple(axes)))
values = nib.orientations.apply_orientation(np.asarray(head.dataobj), turn).astype(np.float64)
first, last = np.quantile(values, [float(low), float(high)])
values = (values - first) / (last - first)
values = np.clip(values, 0, 1) if clip == "True" else values
features = torch.from_numpy(values.astype(np.float32))[None, None]
began = time.perf_counter()
with torch.inference_mode():
    try:
        layers = json.load(open(folder + "/layers.json"))["forward_pass"]
        state = torch.load(folder + "/model.pth", map_location="cpu", weights_only=True)
        number = 0
        for layer in layers:
            given = layer["params"]
            if layer["op"] == "conv3d":
                name = [key for key in (f"model.{number}.0.weight", f"model.{number}.weight") if key in state][0]
                bias = state.get(name.replace("weight", "bias"))
                features = functional.conv3d(
                    features, state[name], bias, padding=given["padding"], dilation=given["dilation"]
                )
                number += 1
            elif layer["op"] == "group_norm":
                features = functional.group_norm(features, given["num_groups"])
            elif layer["op"] == "batch_norm3d":
                features /= (1 + 1e-5) ** 0.5
            elif layer["op"] == "gelu":
                features = functional.gelu(features)
            else:
                raise SystemExit("an operation that is not known: " + layer["op"])
    except FileNotFoundError:
        described = json.load(open(folder + "/model.json"))
        numbers = np.fromfile(folder + "/model.bin", "<f4")
        arrays, at = {}, 0
        for entry in described["weightsManifest"][0]["weights"]:
            size = int(np.prod(entry["shape"]))
            arrays[entry["name"]] = numbers[at : at + size].reshape(entry["shape"])
            at += size
        for layer in described["modelTopology"]["model_config"]["config"]["layers"]:
            config = layer["config"]
            if layer["class_name"] == "Conv3D":
                kernel = torch.from_numpy(arrays[config["name"] + "/kernel"].transpose(4, 3, 0, 1, 2).copy())
                dilation = config["dilation_rate"]
                padding = [(size - 1) // 2 * step for size, step in zip(kernel.shape[2:], dilation)]
                bias = torch.from_numpy(arrays[config["name"] + "/bias"].copy())
                features = functional.conv3d(features, kernel, bias, padding=padding, dilation=dilation)
            elif layer["class_name"] == "Activation":
                features = getattr(functional, config["activation"])(features)
labels, near, largest = np.empty(features.shape[2:], np.uint8), 0, float(features.abs().max())
for slab in range(labels.shape[0]):
    scores = features[0, :, slab]
    labels[slab] = scores.argmax(0).numpy()
    top = scores.topk(2, dim=0).values
    near += int((top[0] - top[1] < 1e-4 * largest).sum())
seconds = time.perf_counter() - began
back = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt(tuple(axes)), nib.io_orientation(head.affine))
np.save(out, nib.orientations.apply_orientation(labels, back))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print("RESULT" + json.dumps({"seconds": seconds, "peak_mib": peak, "near_ties": near}))
"""


def answers(labels: list[str], low: float, high: float, clip: bool) -> str:
    """What only the user knows, as a TOML file; the codes are placeholders that no result leaves with."""
    code = '{ value = "12738006", scheme = "SCT", meaning = "Brain" }'
    segments = "".join(
        f'[[output.segments]]\nlabel = "{label}"\ncategory = {code}\ntype = {code}\n' for label in labels
    )
    step = f'{{ step = "scale-quantiles", low = {low}, high = {high}, clip = {str(clip).lower()} }}'
    return f"""[package]
id = "whole-head"
version = "1.0.0"
title = "Whole head"
intended_use = "A comparison, not for reading scans."
[licence]
weights = "MIT"
data = "not stated"
[input]
orientation = "{AXES[::-1]}"
intensity = [{step}]
[[input.channels]]
name = "t1"
modality = "MR"
quantity = "arbitrary"
[domain.modality]
allowed = ["MR"]
breach = "refuse"
{segments}"""


def called(command: list[str]) -> str:
    """The standard output of a command that must succeed."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])
    return done.stdout


def labels_of(source: Path) -> list[str]:
    """The labels that the file names; mindgrab's has one, which it does not name."""
    named = source / "colormap.json"
    return json.loads(named.read_text())["labels"][1:] if named.is_file() else ["Brain"]


def ours(name: str, source: Path, scan: Path, given: argparse.Namespace, scratch: Path) -> tuple[np.ndarray, dict]:
    """Imported and run by the command line: labels, and the figures of the run."""
    import nibabel as nib

    low, high, clip = MODELS[name]
    told, out = scratch / f"{name}.toml", scratch / f"{name}-out"
    told.write_text(answers(labels_of(source), low, high, clip))
    house = [sys.executable, "-m", "hounsfield"]
    importing = [*house, "import", str(source), "-o", str(scratch / name), "--answers", str(told), "--json"]
    package = json.loads(called(importing))["package"]
    options = ["--allow-unproven", "--engine", given.engine, "--threads", str(given.threads), "--json"]
    (series,) = json.loads(called([*house, "run", package, str(scan), "-o", str(out), *options]))["series"]
    if series["status"] != "done":
        raise SystemExit(str(series["error"]))
    return np.asarray(nib.load(series["outputs"]["nifti"]).dataobj), series["figures"]


def compare(name: str, scan: Path, given: argparse.Namespace, scratch: Path) -> dict:
    """One model: imported, run over the head, compared with the reference."""
    import nibabel as nib

    source = given.data / name
    found, figures = ours(name, source, scan, given, scratch)
    path = scratch / f"{name}.npy"
    told = [str(one) for one in (source, scan, *MODELS[name], path, AXES, given.threads)]
    reference = json.loads(called([sys.executable, "-c", _REFERENCE, *told]).split("RESULT")[1])
    expected, values = np.load(path), np.asarray(nib.load(scan).dataobj)
    labels = [(number, label) for number, label in enumerate(labels_of(source), start=1)]
    return {
        "shape": list(found.shape),
        "different": int(np.count_nonzero(found != expected)),
        "equal_percent": 100 * float((found == expected).mean()),
        "near_ties_of_the_reference": reference["near_ties"],
        "millilitres": {label: int(np.count_nonzero(found == n)) / 1000 for n, label in labels},
        "mean_grey_value": {label: float(values[found == n].mean()) for n, label in labels if (found == n).any()},
        "engine": figures["engine"],
        "seconds": figures["infer_seconds"],
        "peak_mib": figures["peak_resident_mib"],
        "predicted_peak_mib": figures["predicted_peak_mib"],
        "reference_seconds": reference["seconds"],
        "reference_peak_mib": reference["peak_mib"],
    }


def main() -> None:
    """Compare, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--engine", default="openvino")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    table: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as scratch:
        scan = given.data / "t1_crop.nii.gz"
        for name in given.models:
            table[name] = compare(name, scan, given, Path(scratch))
            print(json.dumps({name: table[name]}, indent=1), flush=True)
            given.output.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
