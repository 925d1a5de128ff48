"""Does an edge folder run where nothing of hounsfield is? A new environment for each, real scans, the house's answer.

Exports each package with ``hounsfield export --edge``'s own function, makes a virtual environment that holds what the
folder's ``requirements.txt`` names and nothing else (pip must reach a package index), runs the folder's ``run.py``
there, isolated (``python -I``, no variables), on real scans, and compares the labels with those of ``hounsfield run``
in the same engine. ``--aarch64`` asks the index too whether wheels for 64-bit ARM exist of all that is installed.

    python benchmarks/edge_fresh.py --aarch64 --save

It wants the data of ``lung-nodule-ct`` prepared (``examples/lung-nodule-ct/prepare.py``).
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

import hounsfield
from hounsfield.usecases.export_edge import ExportRequest, ExportResult, export_edge
from hounsfield.usecases.job import Choices
from hounsfield.usecases.points import read_points

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
RESULTS = ROOT / "benchmarks" / "results"
SMALL = EXAMPLES / "lung-nodule-ct" / "small" / "lung-nodule-ct-small-1.0.0"
PACKAGES = {"hippocampus-mr": "hippocampus-mr", "lung-nodule-ct": "lung-nodule-ct", "lung-nodule-ct-small": str(SMALL)}
ARM = (
    "manylinux_2_35_aarch64",
    "manylinux_2_28_aarch64",
    "manylinux_2_27_aarch64",
    "manylinux_2_17_aarch64",
    "manylinux2014_aarch64",
)


def scans(name: str, shared: Path, count: int) -> Iterator[tuple[Path, str]]:
    """Test cases of the package's example, each with the point to read at (empty: the whole scan)."""
    example = EXAMPLES / ("hippocampus-mr" if name == "hippocampus-mr" else "lung-nodule-ct")
    for case in json.loads((example / "splits.json").read_text(encoding="utf-8"))["test"][:count]:
        if name == "hippocampus-mr":
            yield shared / "mr-hippocampus-msd" / "images" / f"{case}.nii.gz", ""
        else:
            scan = example / "data" / f"{case}.nii.gz"
            yield scan, middle(scan)


def middle(scan: Path) -> str:
    """The middle of a scan as ``X,Y,Z`` in LPS mm: these crops are centred on their nodule."""
    image = nibabel.load(scan)
    x, y, z = image.affine[:3, :3] @ ((np.array(image.shape) - 1) / 2) + image.affine[:3, 3]
    return f"{-x:.3f},{-y:.3f},{z:.3f}"


def fresh(folder: Path, requirements: Path) -> Path:
    """A new environment with the requirements only; its python."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-cache-dir", "-r", requirements], check=True)
    if alone(python, folder, "-c", "import hounsfield").returncode == 0:
        raise SystemExit("the new environment can import hounsfield: nothing would be shown")
    return python


def alone(python: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run isolated: no variables, no user's packages, in another folder."""
    return subprocess.run([python, "-I", *arguments], env={}, cwd=folder, capture_output=True, text=True, check=False)


def installed(python: Path) -> dict[str, str]:
    """Names and versions of what pip put there."""
    told = subprocess.run([python, "-m", "pip", "list", "--format=json"], capture_output=True, text=True, check=True)
    return {row["name"]: row["version"] for row in json.loads(told.stdout) if row["name"] not in ("pip", "setuptools")}


def on_arm(versions: dict[str, str]) -> dict[str, str]:
    """The wheel for 64-bit ARM of each, as the index names it; pip is asked, nothing is installed."""
    found = {}
    for name, version in versions.items():
        with tempfile.NamedTemporaryFile() as report:
            command = [sys.executable, "-m", "pip", "install", "-q", "--dry-run", "--no-deps", "--ignore-installed"]
            command += ["--only-binary=:all:", "--target", "unused", "--report", report.name]
            command += ["--python-version", "3.11"]
            command += [word for tag in ARM for word in ("--platform", tag)]
            done = subprocess.run([*command, f"{name}=={version}"], capture_output=True, text=True, check=False)
            if done.returncode == 0:
                (one,) = json.loads(Path(report.name).read_text(encoding="utf-8"))["install"]
                found[name] = one["download_info"]["url"].rsplit("/", 1)[1]
            else:
                found[name] = "none"
    return found


def house(model: str, scan: Path, at: str, folder: Path) -> np.ndarray:
    """The labels of ``hounsfield run`` in ONNX Runtime."""
    choices = Choices(engine="onnxruntime", threads=1, at=read_points([at]) if at else ())
    (files,) = hounsfield.run(model, scan, folder, choices=choices).outputs.values()
    return np.asarray(nibabel.load(files["nifti"]).dataobj)


def one_package(name: str, args: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Export, install, run and compare."""
    edge = scratch / name
    made: ExportResult = export_edge(ExportRequest(PACKAGES[name], edge, "fp32"))
    python = fresh(scratch / f"{name}-venv", edge / "requirements.txt")
    rows = []
    for number, (scan, at) in enumerate(scans(name, args.shared, args.cases)):
        out = scratch / f"{name}-{number}.nii.gz"
        more = ("--at", at) if at else ()
        done = alone(python, scratch, str(edge / "run.py"), str(scan), "-o", str(out), "--threads", "1", *more)
        if done.returncode != 0:
            raise SystemExit(f"{name}, {scan.name}: {done.stderr}")
        found = np.asarray(nibabel.load(out).dataobj)
        wanted = house(PACKAGES[name], scan, at, scratch / f"{name}-{number}")
        both = ((found > 0) & (wanted == found)).sum()
        rows.append(
            {
                "scan": scan.name,
                "voxels": int(found.size),
                "labelled": int((wanted > 0).sum()),
                "different": int((found != wanted).sum()),
                "dice": float(2 * both / ((found > 0).sum() + (wanted > 0).sum())),
            }
        )
    return {
        "package": made.package.reference,
        "digest": made.package.digest,
        "proof": json.loads((edge / "edge.json").read_text(encoding="utf-8"))["proof"],
        "files": dict(made.files),
        "pipeline": made.pipeline,
        "installed": installed(python),
        "cases": rows,
    }


def page(rows: list[dict[str, Any]], wheels: dict[str, str]) -> str:
    """What was exported, what was installed, and how far the answers agree."""
    lines = [
        "# Edge folders in an environment of their own",
        "",
        f"`python benchmarks/edge_fresh.py` on {platform.machine()}, Python {platform.python_version()}: a new virtual",
        "environment with what the folder's `requirements.txt` names, `python -I run.py` on real scans, compared with",
        "`hounsfield run --engine onnxruntime`; fp32, one thread.",
        "",
        "|package|folder MB|whole-pipeline graph|scans|labelled voxels|different voxels|lowest Dice to the house|",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cases = row["cases"]
        size = sum(row["files"].values()) / 1e6
        counts = (len(cases), sum(c["labelled"] for c in cases), sum(c["different"] for c in cases))
        told = "|".join(f"{count:,}" for count in counts)
        lines.append(f"|{row['package']}|{size:.2f}|{row['pipeline']}|{told}|{min(c['dice'] for c in cases):.5f}|")
    there = ", ".join(f"{name} {version}" for name, version in rows[0]["installed"].items())
    lines += ["", f"Installed there: {there}."]
    if wheels:
        lines += ["", "Wheels for 64-bit ARM (Jetson, Raspberry Pi class), Python 3.11, as the index names them:", ""]
        lines += [f"- {name}: {wheel}" for name, wheel in wheels.items()]
        lines += ["", "They were asked for, not run."]
    return "\n".join([*lines, "", "Research use only."]) + "\n"


def main() -> None:
    """Run, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=3, help="real scans per package")
    parser.add_argument("--only", choices=sorted(PACKAGES), action="append", help="this package; repeat it")
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--aarch64", action="store_true", help="ask for wheels of 64-bit ARM, too")
    parser.add_argument("--save", action="store_true", help="keep the page in benchmarks/results")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        rows = [one_package(name, args, Path(scratch).resolve()) for name in args.only or PACKAGES]
    wheels = on_arm({**rows[0]["installed"], "openvino": openvino_version()}) if args.aarch64 else {}
    text = page(rows, wheels)
    print(text)
    if args.save:
        (RESULTS / "edge_fresh.md").write_text(text, encoding="utf-8")
        (RESULTS / "edge_fresh.json").write_text(json.dumps({"packages": rows, "aarch64": wheels}, indent=1) + "\n")


def openvino_version() -> str:
    """Of the engine that an edge folder can use instead."""
    import importlib.metadata

    return importlib.metadata.version("openvino")


if __name__ == "__main__":
    main()
