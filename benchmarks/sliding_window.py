"""Sliding window: hounsfield against MONAI's SlidingWindowInferer + argmax, same weights, same windows.

Each contestant runs in a process of its own on the same synthetic scan. Reported per run: wall
seconds, processor seconds (on a shared machine the steadier figure), peak resident memory, and
how many labels differ from MONAI's in fp32. Weights are random, which is the worst case for
agreement: many voxels are near a tie.

    python benchmarks/sliding_window.py --network unet --shape 200 512 512 --repeats 3
    python benchmarks/sliding_window.py --network plain --classes 118 --contestants hounsfield-bf16

Needs the extras ``train`` and ``ort``.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

WINDOW = (96, 96, 96)
CONTESTANTS = ("monai-fp32", "hounsfield-fp32", "hounsfield-bf16", "onnxruntime-fp32")


def build(network: str, classes: int):
    """The torch network with fixed random weights."""
    import torch
    from monai.networks.nets import DynUNet, UNet

    torch.manual_seed(0)
    if network == "unet":
        return UNet(3, 1, classes, (16, 32, 64, 128, 256), (2, 2, 2, 2), num_res_units=2).eval()
    filters = [32, 64, 128, 256, 320, 320]
    return DynUNet(3, 1, classes, [3] * 6, [1, 2, 2, 2, 2, 2], [2] * 5, filters=filters).eval()


def export(network: str, classes: int, path: Path) -> None:
    """The same network as ONNX with free sizes."""
    import torch

    axes = {0: "n", 2: "k", 3: "j", 4: "i"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            build(network, classes),
            (torch.zeros(1, 1, *WINDOW),),
            str(path),
            input_names=["x"],
            output_names=["y"],
            opset_version=17,
            dynamo=False,
            dynamic_axes={"x": axes, "y": axes},
        )


def make_scan(path: Path, shape: tuple[int, ...]) -> None:
    """Smooth noise in HU, int16, written slab by slab."""
    rng = np.random.default_rng(0)
    coarse = rng.normal(0, 600, [-(-n // 8) + 1 for n in shape])
    out = np.lib.format.open_memmap(path, "w+", np.int16, shape)
    for k in range(shape[0]):
        low, t = divmod(k, 8)
        plane = coarse[low] * (1 - t / 8) + coarse[low + 1] * t / 8
        full = np.repeat(np.repeat(plane, 8, 0), 8, 1)[: shape[1], : shape[2]]
        out[k] = full + rng.normal(0, 60, shape[1:])
    out.flush()


def run_monai(args: argparse.Namespace, scan: Path) -> np.ndarray:
    """MONAI's inferer, then argmax."""
    import torch
    from monai.inferers import SlidingWindowInferer

    if args.threads:
        torch.set_num_threads(args.threads)
    image = np.load(scan)
    values = ((image - np.float64(args.mean)) / args.std).astype(np.float32)
    del image
    inferer = SlidingWindowInferer(WINDOW, overlap=args.overlap, mode="gaussian", sw_batch_size=1)
    network = build(args.network, args.classes)
    with torch.inference_mode():
        args.began = time.perf_counter()
        scores = inferer(torch.from_numpy(values)[None, None], network)
        return scores.argmax(dim=1)[0].numpy().astype(np.uint8)


def run_hounsfield(args: argparse.Namespace, scan: Path) -> np.ndarray:
    """The streaming window of this package, labels into a mapped file."""
    from hounsfield.inference import LoadSettings, OnnxGraph, RunSettings, decision, engine, load_network, segment
    from hounsfield.packages.manifest import InputSpec, OutputSpec
    from hounsfield.preparing import prepare
    from hounsfield.volume import Geometry, Volume

    name = "openvino" if args.one.startswith("hounsfield") else "onnxruntime"
    window = {"shape": WINDOW, "overlap": args.overlap, "positions": "stride"}
    intensity = [{"step": "standardise", "mean": args.mean, "std": args.std}]
    table = {"channels": [{"name": "ct", "modality": "CT"}], "window": window, "intensity": intensity}
    spec = InputSpec.model_validate(table)
    code = {"value": "1", "scheme": "99X", "meaning": "x"}
    segments = [{"number": n, "label": str(n), "category": code, "type": code} for n in range(1, args.classes)]
    rule = decision(OutputSpec.model_validate({"segments": segments}), args.classes)
    settings = LoadSettings(args.one.rpartition("-")[2], WINDOW, threads=args.threads, requests=args.requests)
    loaded = load_network(engine(name), OnnxGraph(scan.parent / f"{args.network}-{args.classes}.onnx"), settings)
    array = np.load(scan, mmap_mode="r")
    prepared = prepare(Volume(array, Geometry.from_parts(array.shape)), spec)
    out = np.lib.format.open_memmap(scan.parent / "labels.npy", "w+", np.uint8, array.shape)
    args.began = time.perf_counter()
    run = RunSettings(accumulator=args.accumulator, axis=args.axis, head_block=args.head_block)
    made = segment(prepared, loaded.session, spec.window, rule, head=loaded.head, settings=run, out=out)
    args.parts = {**made.seconds, **loaded.session.facts(), "head": loaded.head is not None}
    return out


def child(args: argparse.Namespace) -> None:
    """One contestant: run, save labels, say what it took."""
    scan = Path(args.folder) / "scan.npy"
    args.parts = {}
    labels = run_monai(args, scan) if args.one == "monai-fp32" else run_hounsfield(args, scan)
    seconds = time.perf_counter() - args.began
    used = resource.getrusage(resource.RUSAGE_SELF)
    status = Path("/proc/self/status").read_text()
    facts = {
        "seconds": seconds,
        "processor_seconds": used.ru_utime + used.ru_stime,
        "peak_mb": int(status.split("VmHWM:")[1].split()[0]) / 1024,
        "parts": args.parts,
    }
    np.save(Path(args.folder) / f"{args.one}.npy", labels)
    print(json.dumps(facts))


def parent(args: argparse.Namespace) -> dict[str, dict[str, object]]:
    """All contestants, ``repeats`` times, interleaved."""
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        path = Path(folder)
        make_scan(path / "scan.npy", tuple(args.shape))
        export(args.network, args.classes, path / f"{args.network}-{args.classes}.onnx")
        runs: dict[str, list[dict[str, object]]] = {name: [] for name in args.contestants}
        for _ in range(args.repeats):
            for name in args.contestants:
                command = [sys.executable, __file__, *sys.argv[1:], "--folder", folder, "--one", name]
                done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ})
                if done.returncode:
                    sys.exit(done.stderr)
                runs[name].append(json.loads(done.stdout.splitlines()[-1]))
                print(name, runs[name][-1], file=sys.stderr)
        return {name: summary(name, each, path) for name, each in runs.items()}


def summary(name: str, runs: list[dict[str, object]], folder: Path) -> dict[str, object]:
    """Medians, and agreement with MONAI where it ran."""
    out: dict[str, object] = {
        key: round(statistics.median(float(run[key]) for run in runs), 2)  # type: ignore[arg-type]
        for key in ("seconds", "processor_seconds", "peak_mb")
    }
    out["parts"] = runs[-1]["parts"]
    reference = folder / "monai-fp32.npy"
    if reference.exists():
        pairs = zip(np.load(reference, mmap_mode="r"), np.load(folder / f"{name}.npy", mmap_mode="r"), strict=True)
        differing = sum(int(np.count_nonzero(a != b)) for a, b in pairs)
        out["labels_equal"] = 1 - differing / np.load(reference, mmap_mode="r").size
    return out


def main() -> None:
    """Parse, run, print a table and JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=("unet", "plain"), default="unet")
    parser.add_argument("--classes", type=int, default=3)
    parser.add_argument("--shape", type=int, nargs=3, default=(200, 512, 512))
    parser.add_argument("--overlap", type=float, default=0.25)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--requests", type=int, default=2)
    parser.add_argument("--axis", type=int, default=None)
    parser.add_argument("--accumulator", choices=("float32", "float16"), default="float32")
    parser.add_argument("--head-block", type=int, default=8192)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS, default=CONTESTANTS[:3])
    parser.add_argument("--folder", default=None, help="where temporary files go")
    parser.add_argument("--one", choices=CONTESTANTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.mean, args.std = 0.0, 500.0
    if args.one:
        child(args)
        return
    results = parent(args)
    for name, facts in results.items():
        print(f"{name:18} {facts['seconds']:8} s {facts['processor_seconds']:8} cpu s {facts['peak_mb']:8} MB", end=" ")
        print(facts.get("labels_equal", ""))
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
