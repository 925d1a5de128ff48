"""The memory contract: predicted against measured peak, and whether any budget was passed.

Runs the product's own ``hounsfield run --memory`` over packages x sizes x engines x precisions x
modes x budgets. Predicted is the plan's figure; measured is the highest resident memory of the
worker process, seen both by its kernel counter (VmHWM) and by the watcher. Networks have random
weights and scans are noise (memory does not depend on them); the shipped package is there too.

    python benchmarks/memory_contract.py [--quick] [--out benchmarks/results]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import nibabel
import numpy as np

from hounsfield.architectures import build as build_network
from hounsfield.architectures.export import export_onnx
from hounsfield.packages import build
from hounsfield.planning import parse_bytes, read_machine

HERE = Path(__file__).parent
SMALL, MIDDLE, LARGE, CT = (64, 128, 128), (96, 256, 256), (128, 320, 320), (200, 512, 512)


@dataclass(frozen=True)
class Case:
    """One run: ``budget`` is a factor on the plan made without a limit, or an amount."""

    package: str
    shape: tuple[int, int, int]
    engine: str
    precision: str
    budget: str
    mode: str = "window"


def cases(quick: bool) -> Iterator[Case]:
    """The grid of runs, cheapest first."""
    ways = (("openvino", "fp32"), ("openvino", "bf16"), ("onnxruntime", "fp32"))
    for shape in ((36, 50, 36), (48, 56, 44), (56, 64, 56), (76, 78, 76)):
        for engine, precision in ways:
            for budget in ("2GiB", "x1.05"):
                yield Case("hippocampus-mr", shape, engine, precision, budget)
    for mode_shape in ((48, 56, 48), (72, 72, 72)):
        yield Case("hippocampus-mr", mode_shape, "openvino", "fp32", "2GiB", "whole")
    if quick:
        return
    for shape in (SMALL, MIDDLE, LARGE):
        for engine, precision in ways:
            yield Case("unet-3", shape, engine, precision, "6GiB")
        yield Case("unet-3", shape, "openvino", "bf16", "x1.05")
    for shape in (SMALL, MIDDLE):
        yield Case("unet-3", shape, "openvino", "fp32", "6GiB", "whole")
        yield Case("plain-24", shape, "openvino", "bf16", "6GiB")
    yield Case("plain-24", SMALL, "openvino", "fp32", "6GiB")
    yield Case("plain-24", SMALL, "openvino", "bf16", "x1.05")
    yield Case("unet-3", CT, "openvino", "bf16", "6GiB")


def make_packages(folder: Path) -> dict[str, Path]:
    """Packages with random weights: a MONAI-like U-Net with 3 classes, a plain U-Net with 24."""
    made = {}
    for name, description, classes in (
        ("unet-3", {"name": "plain-unet", "filters": [16, 32, 64, 128, 256], "residual": True}, 3),
        ("plain-24", {"name": "plain-unet", "filters": [32, 64, 128, 256, 320, 320]}, 24),
    ):
        architecture = {**description, "channels_in": 1, "channels_out": classes}
        graph = folder / f"{name}.onnx"
        export_onnx(build_network(architecture), architecture, (96, 96, 96), graph)
        files: dict[str, Path | bytes] = {
            "graphs/fp32.onnx": graph,
            "card.md": f"# {name}\n\nRandom weights.\n".encode(),
        }
        made[name] = build(folder / "packages", manifest(name, classes), files).root
    return made


def manifest(name: str, classes: int) -> str:
    segments = "\n".join(
        f"""[[output.segments]]
number = {n}
label = "Segment {n}"
category = {{ value = "91723000", scheme = "SCT", meaning = "Anatomical Structure" }}
type = {{ value = "S{n}", scheme = "99HOUNSFIELD", meaning = "Segment {n}" }}"""
        for n in range(1, classes)
    )
    return f"""format = 1
id = "{name}"
version = "1.0.0"
title = "{name}, random weights"
task = "segmentation"
intended_use = "Measuring memory."
[licence]
weights = "CC0-1.0"
data = "none"
[input]
channels = [{{ name = "image", modality = "CT" }}]
[[input.intensity]]
step = "scale"
low = -1000
high = 1000
[input.window]
shape = [96, 96, 96]
overlap = 0.25
positions = "stride"
[domain]
modality = {{ allowed = ["CT"], breach = "warn" }}
[output]
{segments}
[[graphs]]
precision = "fp32"
file = "graphs/fp32.onnx"
input = "image"
output = "logits"
"""


def write_scan(shape: tuple[int, int, int], path: Path) -> None:
    noise = np.random.default_rng(1).integers(-1000, 1000, size=shape[::-1], dtype=np.int16)
    nibabel.Nifti1Image(noise, np.diag([-1.0, -1.0, 1.0, 1.0])).to_filename(path)


def command(verb: str, case: Case, packages: dict[str, Path], scan: Path, *more: str) -> list[str]:
    model = str(packages.get(case.package, case.package))
    whole = ["--whole"] if case.mode == "whole" else []
    engine = ["--engine", case.engine, "--precision", case.precision, "--allow-unproven"]
    return [sys.executable, "-m", "hounsfield", verb, model, str(scan), *engine, *whole, "--json", *more]


def answer(arguments: list[str]) -> dict:
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    try:
        return json.loads(done.stdout)
    except ValueError:
        return {"error": done.stderr[-500:] or done.stdout[-500:]}


def run_case(case: Case, packages: dict[str, Path], folder: Path) -> dict:
    """Plan, run within the budget, and compare."""
    scan = folder / f"{'x'.join(map(str, case.shape))}.nii"
    if not scan.exists():
        write_scan(case.shape, scan)
    memory = case.budget
    if memory.startswith("x"):
        free = answer(command("plan", case, packages, scan))["plans"][0]["plan"]["host_peak_bytes"]
        memory = f"{int(free * float(memory[1:])) // 2**20 + 1}MiB"
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    began = time.monotonic()
    told = answer(command("run", case, packages, scan, "-o", str(out), "--memory", memory))
    row = {**asdict(case), "budget_bytes": parse_bytes(memory), "wall_seconds": round(time.monotonic() - began, 1)}
    one = (told.get("series") or [{}])[0]
    figures = one.get("figures", {})
    row |= {"status": one.get("status", "failed"), "error": one.get("error") or told.get("error")}
    if row["status"] == "done":
        predicted, measured = figures["predicted_peak_mib"], figures["peak_resident_mib"]
        row |= {
            "predicted_mib": predicted,
            "measured_mib": measured,
            "ratio": round(predicted / measured, 3),
            "attempts": figures["attempts"],
            "kept": measured * 2**20 <= row["budget_bytes"],
        }
    return row


def table(rows: list[dict], machine: str) -> str:
    done = [row for row in rows if row["status"] == "done"]
    near = sum(abs(row["ratio"] - 1) <= 0.1 for row in done)
    kept = sum(row["kept"] for row in done)
    lines = [
        "# The memory contract: predicted against measured",
        "",
        f"{len(rows)} runs on {machine}: {len(done)} finished, {near} of them ({near / max(1, len(done)):.0%}) predicted "
        f"within 10 %, budget kept in {kept} of {len(done)}. Made by `python benchmarks/memory_contract.py`.",
        "",
        "![predicted against measured](memory_contract.svg)",
        "",
        "| package | shape | engine | precision | mode | budget MiB | predicted MiB | measured MiB | ratio | plans | s |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        shape = "x".join(map(str, row["shape"]))
        start = f"| {row['package']} | {shape} | {row['engine']} | {row['precision']} | {row['mode']} "
        budget = f"| {row['budget_bytes'] / 2**20:.0f} "
        if row["status"] == "done":
            rest = f"| {row['predicted_mib']:.0f} | {row['measured_mib']:.0f} | {row['ratio']:.2f} | {row['attempts']} "
        else:
            fact = row["error"]["fact"] if isinstance(row["error"], dict) else str(row["error"])
            rest = f"| {row['status']}: {fact[:90]} | | | "
        lines.append(f"{start}{budget}{rest}| {row['wall_seconds']} |")
    return "\n".join(lines) + "\n"


def plot(rows: list[dict]) -> str:
    """A log-log scatter with the 10 % band, as SVG."""
    done = [row for row in rows if row["status"] == "done"]
    low, high = np.log2(128), np.log2(8192)
    side, pad = 520, 60

    def at(mib: float) -> float:
        return (np.log2(mib) - low) / (high - low) * side

    colours = {"openvino": "#2563eb", "onnxruntime": "#d97706", "torch": "#dc2626"}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {side + 2 * pad} {side + 2 * pad}" font-family="sans-serif" font-size="13">',
        f'<rect width="100%" height="100%" fill="white"/><g transform="translate({pad},{pad})">',
    ]
    for power in range(7, 14):
        x = at(2**power)
        parts.append(
            f'<path d="M{x:.1f} 0V{side}M0 {side - x:.1f}H{side}" stroke="#e5e7eb"/>'
            f'<text x="{x:.1f}" y="{side + 20}" text-anchor="middle">{2**power}</text>'
            f'<text x="-8" y="{side - x + 4:.1f}" text-anchor="end">{2**power}</text>'
        )
    up, down = at(2**low * 1.1), at(2**low / 1.1)
    parts.append(
        f'<path d="M0 {side - up:.1f}L{side - up:.1f} 0H{side}V{-down:.1f}L{-down:.1f} {side}H0Z" '
        f'fill="#22c55e" opacity=".15"/>'
        f'<path d="M0 {side}L{side} 0" stroke="#16a34a"/>'
    )
    for row in done:
        shape = "rect" if row["mode"] == "whole" else "circle"
        x, y = at(row["measured_mib"]), side - at(row["predicted_mib"])
        place = (
            f'x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8"'
            if shape == "rect"
            else f'cx="{x:.1f}" cy="{y:.1f}" r="4.5"'
        )
        parts.append(f'<{shape} {place} fill="{colours[row["engine"]]}" opacity=".75"/>')
    parts.append(
        f'<text x="{side / 2}" y="{side + 45}" text-anchor="middle">measured peak, MiB</text>'
        f'<text transform="translate(-45,{side / 2}) rotate(-90)" text-anchor="middle">predicted peak, MiB</text>'
        f'<text x="{side / 2}" y="-20" text-anchor="middle">circles: sliding window, squares: whole volume; band: 10 %; '
        f"blue OpenVINO, orange ONNX Runtime</text></g></svg>"
    )
    return "".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only the shipped package")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    parser.add_argument("--resume", action="store_true", help="keep the runs that the results already hold")
    arguments = parser.parse_args()
    machine = read_machine()
    there = arguments.out / "memory_contract.json"
    rows = json.loads(there.read_text()) if arguments.resume and there.exists() else []
    done = [{name: row[name] for name in Case.__dataclass_fields__} for row in rows]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["HOUNSFIELD_HOME"] = str(folder / "home")
        packages = {} if arguments.quick else make_packages(folder)
        for case in cases(arguments.quick):
            if {**asdict(case), "shape": list(case.shape)} in done:
                continue
            rows.append(run_case(case, packages, folder))
            print(json.dumps(rows[-1]), flush=True)
            write(rows, f"{machine.cpu_model}, {machine.cores} cores", arguments.out)


def write(rows: list[dict], machine: str, out: Path) -> None:
    """The results so far: data, table, plot."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "memory_contract.json").write_text(json.dumps(rows, indent=1) + "\n")
    (out / "memory_contract.md").write_text(table(rows, machine))
    (out / "memory_contract.svg").write_text(plot(rows))


if __name__ == "__main__":
    main()
