"""Sliding window: hounsfield against MONAI's SlidingWindowInferer and nnU-Net's predictor, same weights.

Each contestant runs in a process of its own on the same synthetic scan, interleaved. Reported per
run: wall seconds from the loaded network to labels, processor seconds, peak resident memory,
and how many labels equal those of the rival with the same window positions and weights (MONAI's
stride, or nnU-Net's even spread: ``--positions``). Weights are random, which is the worst case for
agreement: many voxels are near a tie. ``network-*`` is the network alone on as many windows,
``limit`` its multiplications at the best rate of matrix products measured in the same run. *Beside
the network* is what reading, blending and deciding take of one core, in processor seconds, which
the network's threads do not disturb.

    python benchmarks/sliding_window.py --network unet --shape 200 512 512 --repeats 3 --save
    python benchmarks/sliding_window.py --network plain --classes 118 --contestants hounsfield-bf16
    python benchmarks/sliding_window.py --nnunet-python ENVIRONMENT/bin/python --positions even ...

Needs the extras ``train`` and ``ort``; nnU-Net's predictor an environment with ``nnunetv2`` and
``monai``, and without torchvision.
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
CONTESTANTS = (
    "monai-fp32",
    "nnunet-fp32",
    "hounsfield-fp32",
    "hounsfield-bf16",
    "network-fp32",
    "network-bf16",
    "onnxruntime-fp32",
)
RESULTS = Path(__file__).parent / "results"


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


def run_nnunet(args: argparse.Namespace, scan: Path) -> np.ndarray:
    """nnU-Net's predictor, then argmax, as its export does when nothing was resampled."""
    from types import SimpleNamespace

    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    image = np.load(scan)
    values = ((image - np.float64(args.mean)) / args.std).astype(np.float32)
    del image
    predictor = nnUNetPredictor(
        tile_step_size=1 - args.overlap,
        use_mirroring=False,
        perform_everything_on_device=False,
        device=torch.device("cpu"),
        allow_tqdm=False,
    )
    predictor.network = build(args.network, args.classes)
    predictor.configuration_manager = SimpleNamespace(patch_size=WINDOW)
    predictor.label_manager = SimpleNamespace(num_segmentation_heads=args.classes)
    with torch.inference_mode():
        args.began = time.perf_counter()
        logits = predictor.predict_sliding_window_return_logits(torch.from_numpy(values)[None])
        return logits.argmax(0).numpy().astype(np.uint8)


def run_network(args: argparse.Namespace, scan: Path) -> None:
    """The network alone, once per window."""
    from hounsfield.inference import LoadSettings, OnnxGraph, engine
    from hounsfield.inference.windows import WindowGrid
    from hounsfield.packages.manifest import WindowSpec
    from hounsfield.planning import read_cost

    graph = scan.parent / f"{args.network}-{args.classes}.onnx"
    precision = args.one.rpartition("-")[2]
    session = engine("openvino").load(OnnxGraph(graph), LoadSettings(precision, WINDOW, requests=1))
    spec = WindowSpec.model_validate({"shape": WINDOW, "overlap": args.overlap, "positions": args.positions})
    count = WindowGrid.over(tuple(args.shape), spec).count
    values = np.random.default_rng(0).normal(size=(1, 1, *WINDOW)).astype(np.float32)
    rate = best_rate(precision)
    session.infer(values)
    args.began = time.perf_counter()
    for _ in range(count):
        session.infer(values)
    seconds = time.perf_counter() - args.began
    operations = read_cost(graph, WINDOW).operations * count
    args.parts = {"windows": count, "operations_per_second": operations / seconds, "best_rate": rate}
    args.parts["limit"] = operations / rate


def best_rate(precision: str) -> float:
    """Multiplications and additions a second of large matrix products."""
    import torch

    kind = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    a, b = torch.randn(4096, 4096).to(kind), torch.randn(4096, 4096).to(kind)
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - began)
    return 2 * 4096**3 / best


def run_hounsfield(args: argparse.Namespace, scan: Path) -> np.ndarray:
    """The streaming window of this package, labels into a mapped file."""
    from hounsfield.inference import LoadSettings, OnnxGraph, RunSettings, decision, engine, load_network, segment
    from hounsfield.packages.manifest import InputSpec, OutputSpec
    from hounsfield.preparing import prepare
    from hounsfield.volume import Geometry, Volume

    name = "openvino" if args.one.startswith("hounsfield") else "onnxruntime"
    blending = "gaussian" if args.positions == "stride" else "gaussian-half"  # MONAI's, nnU-Net's
    window = {"shape": WINDOW, "overlap": args.overlap, "positions": args.positions, "blending": blending}
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
    args.began, processor = time.perf_counter(), time.thread_time()
    run = RunSettings(accumulator=args.accumulator, axis=args.axis, head_block=args.head_block)
    made = segment(prepared, loaded.session, spec.window, rule, head=loaded.head, settings=run, out=out)
    host = {"host_processor_seconds": time.thread_time() - processor}  # the network runs in threads of its own
    args.parts = {**made.seconds, **host, **loaded.session.facts(), "head": loaded.head is not None}
    return out


def child(args: argparse.Namespace) -> None:
    """One contestant: run, save labels, say what it took."""
    scan = Path(args.folder) / "scan.npy"
    args.parts = {}
    rivals = {"monai-fp32": run_monai, "nnunet-fp32": run_nnunet}
    run = rivals.get(args.one, run_network if args.one.startswith("network") else run_hounsfield)
    labels = run(args, scan)
    seconds = time.perf_counter() - args.began
    used = resource.getrusage(resource.RUSAGE_SELF)
    status = Path("/proc/self/status").read_text()
    facts = {
        "seconds": seconds,
        "processor_seconds": used.ru_utime + used.ru_stime,
        "peak_mb": int(status.split("VmHWM:")[1].split()[0]) / 1024,
        "parts": args.parts,
    }
    if labels is not None:
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
                python = args.nnunet_python if name == "nnunet-fp32" else sys.executable
                command = [python, __file__, *sys.argv[1:], "--folder", folder, "--one", name]
                done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ})
                if done.returncode:
                    sys.exit(done.stderr)
                runs[name].append(json.loads(done.stdout.splitlines()[-1]))
                print(name, runs[name][-1], file=sys.stderr)
        rival = "monai-fp32" if args.positions == "stride" else "nnunet-fp32"
        return {name: summary(each, path / f"{rival}.npy", path / f"{name}.npy") for name, each in runs.items()}


def summary(runs: list[dict[str, object]], reference: Path, labels: Path) -> dict[str, object]:
    """Medians, and agreement with the rival of the same window positions where it ran."""
    out: dict[str, object] = {
        key: round(statistics.median(float(run[key]) for run in runs), 2)  # type: ignore[arg-type]
        for key in ("seconds", "processor_seconds", "peak_mb")
    }
    out["parts"] = runs[-1]["parts"]
    if reference.exists() and labels.exists():
        pairs = zip(np.load(reference, mmap_mode="r"), np.load(labels, mmap_mode="r"), strict=True)
        differing = sum(int(np.count_nonzero(a != b)) for a, b in pairs)
        out["labels_equal"] = 1 - differing / np.load(reference, mmap_mode="r").size
    return out


def save(args: argparse.Namespace, results: dict[str, dict[str, object]]) -> None:
    """Add the run to the results file, in the place of an earlier one of the same case, and write the page."""
    path = RESULTS / "sliding_window.json"
    cases = json.loads(path.read_text()) if path.exists() else []
    case = {name: getattr(args, name) for name in ("network", "classes", "shape", "overlap", "positions")}
    case |= {name: getattr(args, name) for name in ("accumulator", "requests")}
    case["shape"] = list(args.shape)
    cases = [each for each in cases if each["case"] != case]
    machine = f"{processor()}, {os.cpu_count()} cores, Python {sys.version.split()[0]}"
    cases.append({"case": case, "repeats": args.repeats, "machine": machine, "results": results})
    path.write_text(json.dumps(cases, indent=1) + "\n")
    (RESULTS / "sliding_window.md").write_text(page(cases))


def processor() -> str:
    """The processor's name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "unknown")


def page(cases: list[dict[str, object]]) -> str:
    """All cases as a table."""
    lines = [
        "# Sliding window to labels",
        "",
        "Made by `python benchmarks/sliding_window.py --save`; its page says how.",
        "",
    ]
    for each in cases:
        case, results = each["case"], each["results"]
        shape = " x ".join(str(n) for n in case["shape"])
        lines += [
            f"## {case['network']}, {case['classes']} classes, {shape}, windows 96^3, overlap {case['overlap']}, "
            f"positions {case['positions']}",
            "",
            f"Medians of {each['repeats']} interleaved runs. {each['machine']}.",
            "",
            "|how|s|times faster|processor s|peak MB|labels equal|beside the network, processor s|limit s|",
            "|---|---|---|---|---|---|---|---|",
        ]
        rival = results.get("monai-fp32") or results.get("nnunet-fp32")
        for name, facts in results.items():
            parts = facts["parts"]
            ratio = f"{rival['seconds'] / facts['seconds']:.2f}" if rival else ""
            equal = f"{facts['labels_equal']:.6f}" if "labels_equal" in facts else ""
            beside = f"{parts['host_processor_seconds']:.1f}" if "host_processor_seconds" in parts else ""
            limit = f"{parts['limit']:.1f}" if "limit" in parts else ""
            lines.append(
                f"|{name}|{facts['seconds']}|{ratio}|{facts['processor_seconds']}|{facts['peak_mb']:.0f}"
                f"|{equal}|{beside}|{limit}|"
            )
        lines.append("")
    return "\n".join(lines)


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
    default = ("monai-fp32", "hounsfield-fp32", "hounsfield-bf16")
    parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS, default=default)
    parser.add_argument("--positions", choices=("stride", "even"), default="stride")
    parser.add_argument("--nnunet-python", default=None, help="python of an environment with nnunetv2 and monai")
    parser.add_argument("--save", action="store_true", help="add to benchmarks/results")
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
    if args.save:
        save(args, results)


if __name__ == "__main__":
    main()
