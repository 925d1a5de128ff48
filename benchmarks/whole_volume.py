"""Whole-volume mode against one plain torch fp32 pass: peak memory, time, agreement, by size.

Every run is a process of its own; its peak resident memory is what the kernel says (VmHWM). The
budget of ours is a sixteenth of torch's measured peak, and the plan picks the slab depth for it.

    python benchmarks/whole_volume.py --sizes 64x128x128,96x256x256 --networks unet,plain
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results"
CLASSES = 3
WAYS = (("fp32", "fp32"), ("bf16", "fp16"))
FACTOR = 16
ENGINE_BYTES = 60 << 20  # what OpenVINO takes once a graph is compiled


def network_of(name: str) -> Any:
    """The torch network with weights that only depend on its name."""
    import torch

    torch.manual_seed(0)
    if name == "unet":
        from monai.networks.nets import UNet

        return UNet(3, 1, CLASSES, (16, 32, 64, 128, 256), (2, 2, 2, 2), num_res_units=2).eval()
    from hounsfield.architectures import build

    filters = [32, 64, 128, 256, 320, 320]
    return build({"name": "plain-unet", "channels_in": 1, "channels_out": CLASSES, "filters": filters}).eval()


def status(field: str) -> int:
    """Bytes of a field of this process's status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def child_export(name: str, folder: Path) -> dict[str, Any]:
    from hounsfield.architectures.export import export_onnx

    export_onnx(network_of(name), {"name": "plain-unet", "channels_in": 1}, (64, 64, 64), folder / f"{name}.onnx")
    return {}


def child_torch(name: str, folder: Path, threads: int) -> dict[str, Any]:
    import torch

    torch.set_num_threads(threads)
    network = network_of(name)
    base = status("VmRSS")
    x = torch.from_numpy(np.load(folder / "scan.npy"))[None, None]
    began = time.perf_counter()
    with torch.inference_mode():
        logits = network(x)
    seconds = time.perf_counter() - began
    labels = np.zeros(x.shape[2:], np.uint8)
    for k in range(x.shape[2]):
        labels[k] = logits[0, :, k].argmax(0).numpy()
    np.save(folder / "torch.npy", labels)
    return {"seconds": seconds, "base": base, "peak": status("VmHWM")}


def child_ours(name: str, folder: Path, threads: int, way: tuple[str, str], budget: int) -> dict[str, Any]:
    from hounsfield.inference import Decision
    from hounsfield.inference.whole import WholeRun, WholeSettings, read_network, segment_whole
    from hounsfield.inference.whole.offers import predicted_spill, predicted_workspace
    from hounsfield.inference.whole.piece import _openvino_core
    from hounsfield.packages.manifest import InputSpec
    from hounsfield.preparing import prepare
    from hounsfield.volume import Geometry, Volume

    scan = np.load(folder / "scan.npy", mmap_mode="r")
    volume = Volume(scan, Geometry.from_parts(scan.shape, (1.0, 1.0, 1.0)))
    table = {"channels": [{"name": "ct", "modality": "CT"}], "window": {"shape": (64, 64, 64)}}
    prepared = prepare(volume, InputSpec.model_validate(table))
    labels = np.lib.format.open_memmap(folder / "ours.npy", "w+", np.uint8, scan.shape)
    _openvino_core()
    base = status("VmRSS")
    network = read_network(folder / f"{name}.onnx")
    best = None
    for slab in (int(2 ** (power / 4)) << 20 for power in range(18, 50)):
        settings = WholeSettings("openvino", way[0], way[1], threads, slab, folder)
        run = WholeRun(network, scan.shape, settings)
        predicted = base + ENGINE_BYTES + predicted_workspace(run)
        if best is None or predicted <= budget:
            best = settings, predicted, run
    assert best is not None
    settings, predicted, run = best
    began = time.perf_counter()
    answer = segment_whole(prepared, network, Decision("highest"), settings, out=labels)
    seconds = time.perf_counter() - began
    plain = np.load(folder / "torch.npy", mmap_mode="r")
    agree = [int((plain[k] == labels[k]).sum()) for k in range(len(labels))]
    dice = [dice_of(plain, labels, label) for label in range(1, CLASSES)]
    figures = answer.figures
    return {
        "seconds": seconds,
        "base": base,
        "peak": status("VmHWM"),
        "predicted": predicted,
        "spill": figures.spill_peak_bytes,
        "spill_predicted": predicted_spill(run),
        "agreement": sum(agree) / labels.size,
        "least_dice": min(dice),
        "precision": figures.precision,
        "slab_depth": run.depths[-1],
        "parts": {part: round(value, 2) for part, value in figures.seconds.items()},
    }


def dice_of(one: np.ndarray, other: np.ndarray, label: int) -> float:
    both = sum(int(((a == label) & (b == label)).sum()) for a, b in zip(one, other, strict=True))
    sizes = sum(int((a == label).sum()) + int((b == label).sum()) for a, b in zip(one, other, strict=True))
    return 2 * both / sizes if sizes else 1.0


def make_scan(shape: tuple[int, int, int], folder: Path) -> None:
    """Smooth structures of several sizes, standardised, written slab by slab."""
    rng = np.random.default_rng(7)
    out = np.lib.format.open_memmap(folder / "scan.npy", "w+", np.float32, shape)
    coarse = rng.normal(size=tuple(n // 8 + 2 for n in shape)).astype(np.float32)
    j, i = (np.linspace(0, n - 1.001, m) for n, m in zip(coarse.shape[1:], shape[1:], strict=True))
    for k in range(shape[0]):
        at = k / 8
        low, part = int(at), at - int(at)
        plane = coarse[low] * (1 - part) + coarse[low + 1] * part
        rows = plane[j.astype(int)] * (1 - j % 1)[:, None] + plane[j.astype(int) + 1] * (j % 1)[:, None]
        full = rows[:, i.astype(int)] * (1 - i % 1) + rows[:, i.astype(int) + 1] * (i % 1)
        out[k] = full + 0.3 * rng.normal(size=full.shape)
    out.flush()


def child(arguments: list[str]) -> dict[str, Any]:
    """Run a part in a process of its own and read its JSON answer."""
    done = subprocess.run([sys.executable, __file__, "child", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{arguments[:2]}: {done.stderr[-2000:]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def as_child(arguments: list[str]) -> dict[str, Any]:
    kind, name, folder, *rest = arguments
    if kind == "export":
        return child_export(name, Path(folder))
    if kind == "torch":
        return child_torch(name, Path(folder), int(rest[0]))
    return child_ours(name, Path(folder), int(rest[0]), (rest[1], rest[2]), int(rest[3]))


def measure(name: str, shape: tuple[int, int, int], threads: int, repeats: int, folder: Path) -> list[dict[str, Any]]:
    """Rows of one network and size: the torch pass, and each of our ways."""
    make_scan(shape, folder)
    common = [name, str(folder), str(threads)]
    plain = median([child(["torch", *common]) for _ in range(repeats)])
    row = {"network": name, "shape": list(shape), "voxels": int(np.prod(shape))}
    rows = [{**row, "way": "torch fp32", **plain}]
    for precision, storage in WAYS:
        budget = str(plain["peak"] // FACTOR)
        ours = median([child(["ours", *common, precision, storage, budget]) for _ in range(repeats)])
        ours["factor"] = plain["peak"] / ours["peak"]
        ours["factor_above_imports"] = (plain["peak"] - plain["base"]) / (ours["peak"] - ours["base"])
        ours["time_ratio"] = plain["seconds"] / ours["seconds"]
        rows.append({**row, "way": f"slabs {precision}, stored {storage}", **ours})
    return rows


def median(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The run with the median time, with the largest peak of all."""
    middle = statistics.median_low([run["seconds"] for run in runs])
    chosen = next(run for run in runs if run["seconds"] == middle)
    return {**chosen, "peak": max(run["peak"] for run in runs)}


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "|network|slices × rows × columns|how|peak MB|factor|factor above imports|seconds|speed against torch|"
        "labels agree|least Dice|predicted / measured peak|on disk MB|",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        shape = "×".join(map(str, row["shape"]))
        start = f"|{row['network']}|{shape}|{row['way']}|{row['peak'] / 2**20:.0f}"
        if "factor" not in row:
            lines.append(f"{start}|1|1|{row['seconds']:.1f}|1||||")
            continue
        lines.append(
            f"{start}|{row['factor']:.1f}|{row['factor_above_imports']:.1f}|{row['seconds']:.1f}|"
            f"{row['time_ratio']:.2f}|{row['agreement']:.6f}|{row['least_dice']:.5f}|"
            f"{row['predicted'] / row['peak']:.2f}|{row['spill'] / 2**20:.0f}|"
        )
    return "\n".join(lines)


def save(rows: list[dict[str, Any]], threads: int, repeats: int) -> None:
    RESULTS.mkdir(exist_ok=True)
    import onnx
    import openvino
    import torch

    facts = {
        "cpu": cpu_model(),
        "threads": threads,
        "repeats": repeats,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "openvino": openvino.__version__.split("-")[0],
        "onnx": onnx.__version__,
        "weights": "random (worst case for agreement: many voxels near a tie)",
    }
    (RESULTS / "whole_volume.json").write_text(json.dumps({"facts": facts, "rows": rows}, indent=1) + "\n")
    words = ", ".join(f"{key} {value}" for key, value in facts.items())
    text = f"# Whole-volume mode against one plain torch fp32 pass\n\n{__doc__}\n{words}.\n\n{table(rows)}\n"
    (RESULTS / "whole_volume.md").write_text(text)


def cpu_model() -> str:
    from hounsfield.planning import read_machine

    machine = read_machine()
    return f"{machine.cpu_model}{' with AMX' if machine.fast_bf16 else ''}"


def main() -> None:
    if sys.argv[1:2] == ["child"]:
        print(json.dumps(as_child(sys.argv[2:])))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", default="unet,plain")
    parser.add_argument("--sizes", default="64x128x128,64x256x256")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--append", action="store_true", help="keep the rows of other networks and sizes")
    options = parser.parse_args()
    kept = []
    if options.append and (RESULTS / "whole_volume.json").exists():
        kept = json.loads((RESULTS / "whole_volume.json").read_text())["rows"]
    with tempfile.TemporaryDirectory(prefix="whole-volume-") as name:
        folder = Path(name)
        for network in options.networks.split(","):
            child(["export", network, name])
            for size in options.sizes.split(","):
                shape = tuple(int(n) for n in size.split("x"))
                assert len(shape) == 3
                rows = measure(network, shape, options.threads, options.repeats, folder)
                kept = [row for row in kept if (row["network"], tuple(row["shape"])) != (network, shape)] + rows
                kept.sort(key=lambda row: (row["network"], row["voxels"]))
                save(kept, options.threads, options.repeats)
                print(table(rows), flush=True)


if __name__ == "__main__":
    main()
