"""An nnU-Net model, imported, against nnU-Net's own predictor: labels, time and peak memory side by side.

    python benchmarks/import_parity.py MODEL_FOLDER ANSWERS.toml CASES NNUNET_PYTHON -o RESULTS.json

``MODEL_FOLDER`` is a results folder that nnU-Net trained, ``CASES`` a folder of images (one channel), and
``NNUNET_PYTHON`` a Python that has nnunetv2 (2.8.1). Each side runs in a process of its own, one
thread, model loaded once; peak memory is the process's largest resident size above what it held
before the first case. nnU-Net is asked twice: as it is (float16 accumulators), and with float32
accumulators, which tells its own rounding from any difference in method.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

THEIRS = """
import json, os, resource, sys, time
for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
    os.environ[name] = sys.argv[4]
import numpy as np, torch
import nnunetv2.inference.predict_from_raw_data as predicting
torch.set_num_threads(1)
if sys.argv[5] == "float32":
    torch.half = torch.float32
model, cases, out = sys.argv[1:4]
predictor = predicting.nnUNetPredictor(device=torch.device("cpu"), perform_everything_on_device=False, allow_tqdm=False)
predictor.initialize_from_trained_model_folder(model, json.loads(sys.argv[6]))
predictor.use_mirroring = predictor.allowed_mirroring_axes is not None
reader = predictor.plans_manager.image_reader_writer_class()
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
open("/proc/self/clear_refs", "w").write("5")
before, seconds = resident(), []
for path in sorted(json.loads(cases)):
    began = time.perf_counter()
    image, properties = reader.read_images([path])
    labels = predictor.predict_single_npy_array(image, properties, None, None, False)
    seconds.append(time.perf_counter() - began)
    np.save(os.path.join(out, os.path.basename(path) + ".npy"), labels.astype(np.uint8))
peak = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
print("RESULT" + json.dumps({"seconds": seconds, "before_bytes": before, "peak_bytes": peak}))
"""

OURS = """
import json, os, resource, sys, time
from pathlib import Path
import numpy as np
from hounsfield.inference import LoadSettings, OnnxGraph, decision, engine, load_network, segment
from hounsfield.packages import verify
from hounsfield.preparing import prepare
from hounsfield.reading import load, scan
root, cases, out, precision, name = sys.argv[1:6]
package = verify(Path(root))
spec, output = package.manifest.input, package.manifest.output
settings = LoadSettings(precision, spec.window.shape, channels=len(spec.channels), threads=1, requests=1)
loaded = load_network(engine(name), OnnxGraph(package.graph_path("fp32")), settings)
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
import hounsfield.reading, nibabel, scipy.ndimage
open("/proc/self/clear_refs", "w").write("5")
before, seconds = resident(), []
for path in sorted(json.loads(cases)):
    began = time.perf_counter()
    volume = load(scan(Path(path)).series[0])
    prepared = prepare(volume, spec)
    labels = segment(prepared, loaded.session, spec.window, decision(output, output.channels), head=loaded.head).labels
    seconds.append(time.perf_counter() - began)
    np.save(os.path.join(out, os.path.basename(path) + ".npy"), labels.array)
peak = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
print("RESULT" + json.dumps({"seconds": seconds, "before_bytes": before, "peak_bytes": peak}))
"""


def run(python: str, code: str, arguments: list[str]) -> dict:
    """The result line of one side."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    environment = {**os.environ, **threads, "nnUNet_compile": "f"}
    done = subprocess.run([python, "-c", code, *arguments], env=environment, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    if not lines:
        raise SystemExit(done.stderr[-2000:])
    return json.loads(lines[0].removeprefix("RESULT"))


def agreement(mine: Path, theirs: Path, names: list[str]) -> dict:
    """Equal voxels over all cases and in the worst one, and the Dice of each label pooled over cases."""
    equal = total = 0
    worst, overlap = 1.0, {}
    for name in names:
        a, b = np.load(mine / f"{name}.npy"), np.load(theirs / f"{name}.npy")
        same = int((a == b).sum())
        equal, total, worst = equal + same, total + a.size, min(worst, same / a.size)
        for label in range(1, int(max(a.max(), b.max())) + 1):
            both = overlap.setdefault(label, [0, 0])
            both[0] += 2 * int(((a == label) & (b == label)).sum())
            both[1] += int((a == label).sum() + (b == label).sum())
    dice = {str(label): both[0] / both[1] for label, both in sorted(overlap.items()) if both[1]}
    return {
        "voxels": total,
        "different": total - equal,
        "equal_percent": 100 * equal / total,
        "worst_case_percent": 100 * worst,
        "dice_between": dice,
    }


def accuracy(found: Path, labels: Path, names: list[str]) -> dict[str, float]:
    """Mean Dice per label against reference labels, cases without the label left out."""
    import nibabel

    scores: dict[int, list[float]] = {}
    for name in names:
        reference = np.asarray(nibabel.load(labels / name).dataobj).T
        mine = np.load(found / f"{name}.npy")
        for label in range(1, int(reference.max()) + 1):
            a, b = mine == label, reference == label
            if b.any():
                scores.setdefault(label, []).append(2 * float((a & b).sum()) / float(a.sum() + b.sum()))
    return {str(label): float(np.mean(values)) for label, values in sorted(scores.items())}


def summary(side: dict) -> dict:
    """Seconds per case and memory of one side."""
    seconds = side["seconds"]
    return {
        "median_seconds": float(np.median(seconds)),
        "total_seconds": float(np.sum(seconds)),
        "peak_above_start_mib": (side["peak_bytes"] - side["before_bytes"]) / 2**20,
        "peak_mib": side["peak_bytes"] / 2**20,
    }


def main() -> None:
    """Import, run both, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("answers", type=Path)
    parser.add_argument("cases", type=Path)
    parser.add_argument("nnunet_python")
    parser.add_argument("--names", type=Path, help="JSON with a list of case names under 'test'")
    parser.add_argument("--labels", type=Path, help="folder of reference labels, same file names")
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    paths = sorted(given.cases.glob("*.nii.gz"))
    if given.names:
        wanted = set(json.loads(given.names.read_text())["test"])
        paths = [path for path in paths if path.name.removesuffix(".nii.gz") in wanted]
    names, listed = [path.name for path in paths], json.dumps([str(path) for path in paths])
    folds = json.dumps([path.name.removeprefix("fold_") for path in sorted(given.model.glob("fold_*"))])
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        command = [sys.executable, "-m", "hounsfield", "import", str(given.model), "-o", str(root / "package")]
        done = subprocess.run([*command, "--answers", str(given.answers), "--json"], capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(done.stdout + done.stderr)
        package = json.loads(done.stdout)
        results: dict[str, dict] = {}
        for kind in ("float16", "float32"):
            (root / kind).mkdir()
            results[f"nnU-Net, {kind} sums"] = run(
                given.nnunet_python, THEIRS, [str(given.model), listed, str(root / kind), scratch, kind, folds]
            )
        table = {name: summary(side) for name, side in results.items()}
        for engine, precision in (("openvino", "fp32"), ("onnxruntime", "fp32"), ("openvino", "bf16")):
            out = root / f"{engine}-{precision}"
            out.mkdir()
            try:
                side = run(sys.executable, OURS, [package["package"], listed, str(out), precision, engine])
            except SystemExit as error:
                table[f"hounsfield, {engine} {precision}"] = {"failed": str(error).splitlines()[-1]}
                continue
            against = {kind: agreement(out, root / kind, names) for kind in ("float16", "float32")}
            table[f"hounsfield, {engine} {precision}"] = {**summary(side), "against_nnunet": against}
            if given.labels:
                table[f"hounsfield, {engine} {precision}"]["dice"] = accuracy(out, given.labels, names)
        own = agreement(root / "float16", root / "float32", names)
        if given.labels:
            table["nnU-Net, float16 sums"]["dice"] = accuracy(root / "float16", given.labels, names)
    record = {
        "model": given.model.name,
        "cases": len(names),
        "goldens": package["goldens"],
        "nnunet_against_itself": own,
        "sides": table,
        "machine": {"processor": platform.processor() or platform.machine(), "threads": 1},
    }
    given.output.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
