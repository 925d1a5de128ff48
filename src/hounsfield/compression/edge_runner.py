"""Read a NIfTI scan with the model in this folder: numpy, nibabel and one engine are all it needs.

    python run.py SCAN.nii.gz -o labels.nii.gz [--at X,Y,Z] [--threads 2]

Research use only. The scan is checked against what the model may read, prepared as the model was trained,
and the labels come back on the scan's own grid. Whole volumes of scores are held in memory.
``edge.json`` says which package, which precision, and whether it passed its gate.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Triple = tuple[int, int, int]
_LETTERS = {"L": (0, 1), "P": (1, 1), "S": (2, 1), "R": (0, -1), "A": (1, -1), "I": (2, -1)}


class Refused(Exception):
    """The scan is not one that this model may read, or the folder is damaged."""


def read_scan(path: Path) -> tuple[Array, NDArray[np.float64]]:
    """(slices, rows, columns) as stored (scaled where the header says so), and index (k, j, i, 1) to LPS mm."""
    import nibabel

    image = nibabel.load(path)
    stored = np.asanyarray(image.dataobj)
    if stored.ndim != 3 or not np.isfinite(stored).all():
        raise Refused(f"the scan has {stored.ndim} axes or voxels that are no numbers; one finite volume is read")
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.asarray(image.affine, np.float64) @ np.eye(4)[[2, 1, 0, 3]]
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or np.abs(axes.T @ axes - np.eye(3)).max() > 1e-3:
        raise Refused("the axes of the scan are not at right angles")
    return stored.transpose(2, 1, 0), affine


def check_domain(shape: Triple, affine: Array, domain: dict[str, Any]) -> list[str]:
    """Warnings; raises Refused where the manifest says so. A NIfTI file tells neither modality nor patient."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    values = {
        "spacing_mm": spacing,
        "slice_spacing_mm": spacing[:1],
        "extent_mm": spacing * shape,
        "slices": np.array(shape[:1], float),
    }
    warnings = [f"the file does not state its modality; the model reads {', '.join(domain['modality']['allowed'])}"]
    for name, have in values.items():
        rule = domain.get(name)
        if rule is None:
            continue
        low, high = rule.get("low", -math.inf), rule.get("high", math.inf)
        if have.min() < low * (1 - 1e-6) or have.max() > high * (1 + 1e-6):
            told = f"{name} is {np.round(have, 3).tolist()}, the model wants {low:g} to {high:g}"
            if rule["breach"] == "refuse":
                raise Refused(told)
            warnings.append(told)
    return warnings


def region(shape: Triple, affine: Array, point: Array, size_mm: list[float], code: str) -> tuple[slice, slice, slice]:
    """The box around an LPS point; ``size_mm`` along the network's axes (k, j, i)."""
    index = np.linalg.solve(affine[:3, :3], point - affine[:3, 3])
    if (index < -0.5).any() or (index > np.array(shape) - 0.5).any():
        raise Refused("the point lies outside the scan")
    size = np.zeros(3)
    for letter, length in zip(reversed(code), size_mm, strict=True):
        size[_LETTERS[letter][0]] = length
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    half = np.abs(affine[:3, :3] / spacing).T @ size / spacing / 2
    low = np.maximum(np.rint(index - half), 0).astype(int)
    high = np.minimum(np.rint(index + half) + 1, shape).astype(int)
    k, j, i = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return k, j, i


def orienting(affine: Array, code: str) -> tuple[Triple, tuple[slice, slice, slice]]:
    """Axis order and flips that turn an array along the code."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    best = max(itertools.permutations(range(3)), key=lambda order: sum(abs(axes[order[n], n]) for n in range(3)))
    signs = [1 if axes[best[n], n] >= 0 else -1 for n in range(3)]
    wanted = [_LETTERS[letter] for letter in reversed(code)]
    order = [best.index(axis) for axis, _ in wanted]
    steps = [1 if signs[old] == sign else -1 for old, (_, sign) in zip(order, wanted, strict=True)]
    a, b, c = (slice(None, None, step) for step in steps)
    return (order[0], order[1], order[2]), (a, b, c)


def intensities(values: Array, steps: list[dict[str, Any]]) -> NDArray[np.float32]:
    """The manifest's intensity steps, in float64, on the scan's own voxels."""
    out = values.astype(np.float64)
    for step in steps:
        kind, zero = step["step"], out == 0
        low, high = float(step.get("low", 0)), float(step.get("high", 0))
        if kind.endswith("quantiles"):
            low, high = (float(value) for value in np.quantile(out, np.array([low, high])))
        if kind.startswith("clip"):
            out = np.clip(out, low, high)
        elif kind.startswith("scale"):
            width, to = high - low, (step["to_low"], step["to_high"])
            out = (out - low) / (width or 1.0) * (to[1] - to[0] if width else 0.0) + to[0]
            out = np.clip(out, min(to), max(to)) if step["clip"] else out
        elif kind == "z-score":
            used = out[~zero] if step["non_zero_only"] else out
            mean, std = (float(used.mean()), float(used.std())) if used.size else (0.0, 0.0)
            out = (out - mean) / max(std, 1e-8)
            out = np.where(zero, 0.0, out) if step["non_zero_only"] else out
        else:
            out = (out - step["mean"]) / step["std"]
    return out.astype(np.float32)


def matrix(old: int, new: int) -> NDArray[np.float64]:
    """(new, old) linear interpolation between grids whose outer faces coincide."""
    at = np.clip((np.arange(new) + 0.5) * (old / new) - 0.5, 0, old - 1)
    low = np.floor(at).astype(int)
    weights = np.zeros((new, old))
    np.add.at(weights, (np.arange(new), low), 1 - (at - low))
    np.add.at(weights, (np.arange(new), np.minimum(low + 1, old - 1)), at - low)
    return weights


def resampled(array: Array, shape: Triple) -> NDArray[np.float32]:
    """The last three axes to a shape, the one that shrinks most first."""
    out = np.asarray(array, np.float32)
    for axis in sorted(range(3), key=lambda n: shape[n] / array.shape[n - 3]):
        if out.shape[axis - 3] != shape[axis]:
            lines = np.moveaxis(out, axis - 3, -1) @ matrix(out.shape[axis - 3], shape[axis]).T.astype(np.float32)
            out = np.ascontiguousarray(np.moveaxis(lines, -1, axis - 3))
    return out


def starts(n: int, window: int, overlap: float, positions: str) -> list[int]:
    """First voxels of the windows along an axis."""
    if positions == "even":
        count = math.ceil((n - window) / (window * (1 - overlap))) + 1
        return [0] if count == 1 else sorted({round((n - window) / (count - 1) * each) for each in range(count)})
    step = n if window == n else max(1, int(window * (1 - overlap)))
    count = next(each for each in itertools.count() if each * step + window >= n) + 1
    return [min(each * step, n - window) for each in range(count)]


def importance(window: dict[str, Any]) -> NDArray[np.float32]:
    """How much each voxel of a window counts."""
    weight = np.ones((1, 1, 1), np.float32)
    if window["blending"] == "constant":
        return np.ones(window["shape"], np.float32)
    for axis, n in enumerate(window["shape"]):
        at = np.arange(n, dtype=np.float32) - np.float32((n - 1) / 2)
        line = np.exp(at**2 / np.float32(-2 * (window["sigma"] * n) ** 2))
        weight = weight * line.reshape([-1 if other == axis else 1 for other in range(3)])
    return np.maximum(weight, np.float32(max(float(weight.min()), 1e-3)))


def blended(values: Array, window: dict[str, Any], network: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Sums of the answers (channels, k, j, i) and of their weights (1, k, j, i) on the network's grid."""
    size, shape = window["shape"], values.shape
    padded = [max(n, w) for n, w in zip(shape, size, strict=True)]
    before = [max(0, w - n) // 2 for n, w in zip(shape, size, strict=True)]
    whole = np.full(padded, window["pad_value"], np.float32)
    inner = tuple(slice(b, b + n) for b, n in zip(before, shape, strict=True))
    whole[inner] = values
    weight, sums = importance(window), None
    weights = np.zeros((1, *padded), np.float32)
    lines = [starts(n, w, window["overlap"], window["positions"]) for n, w in zip(padded, size, strict=True)]
    for first in itertools.product(*lines):
        box = tuple(slice(a, a + w) for a, w in zip(first, size, strict=True))
        here = values[tuple(slice(max(0, s.start - b), s.stop - b) for s, b in zip(box, before, strict=True))]
        if window.get("skip_below") is not None and here.max() < window["skip_below"]:
            continue
        answer = network(np.ascontiguousarray(whole[box])[None, None])[0]
        sums = np.zeros((len(answer), *padded), np.float32) if sums is None else sums
        sums[(slice(None), *box)] += answer * weight
        weights[(slice(None), *box)] += weight
    if sums is None:
        return np.zeros((1, *shape), np.float32), weights[(slice(None), *inner)]
    return sums[(slice(None), *inner)], weights[(slice(None), *inner)]


def decided(means: Array, run: Array, output: dict[str, Any]) -> NDArray[np.uint8]:
    """Labels: the highest score, or the highest or last one above the threshold; none where no window was run."""
    if output["activation"] == "softmax" or (output["activation"] == "none" and len(means) > len(output["segments"])):
        labels = means.argmax(0)
    else:
        t = output["threshold"]
        limit = t if output["activation"] == "none" else math.log(t / (1 - t)) if 0 < t < 1 else math.inf * (t - 0.5)
        above = means > np.float32(limit) * run
        labels = np.where(above.any(0), means.argmax(0) + 1, 0)
        if output["winner"] == "last":
            labels = (above * np.arange(1, len(means) + 1).reshape(-1, 1, 1, 1)).max(0)
    labels[run[0] <= 0] = 0
    return np.asarray(labels, np.uint8)


def components(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """26-connected components, numbered by their first voxel; 0 is background."""
    numbers = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), mask.size + 1)
    while True:
        wide = np.pad(numbers, 1, constant_values=mask.size + 1)
        least = numbers
        for k, j, i in itertools.product(range(3), repeat=3):
            part = wide[k : k + mask.shape[0], j : j + mask.shape[1], i : i + mask.shape[2]]
            least = np.minimum(least, part)
        least = np.where(mask, least, mask.size + 1)
        if (least == numbers).all():
            return np.where(mask, numbers, 0)
        numbers = least


def cleaned(labels: NDArray[np.uint8], steps: list[dict[str, Any]], affine: Array, point: Array | None) -> None:
    """The manifest's clean-up steps, in place, on the scan's own grid."""
    voxel_mm3 = abs(np.linalg.det(affine[:3, :3]))
    for step in steps:
        kind = step["step"]
        joined = kind == "keep-largest" and step["joined"]
        for group in [step["segments"]] if joined else [[number] for number in step["segments"]]:
            found = components(np.isin(labels, group))
            names, sizes = np.unique(found[found > 0], return_counts=True)
            if not len(names):
                continue
            if kind == "remove-small":
                kept = names[sizes >= step["volume_mm3"] / voxel_mm3]
            elif kind == "keep-largest":
                kept = names[[int(sizes.argmax())]]
            elif point is None:
                continue
            else:
                voxels = np.argwhere(found > 0)
                away = np.linalg.norm(voxels @ affine[:3, :3].T + affine[:3, 3] - point, axis=1)
                nearest = int(away.argmin())
                kept = np.array([found[tuple(voxels[nearest])]] if away[nearest] <= step["within_mm"] else [], int)
            labels[(found > 0) & ~np.isin(found, kept)] = 0


def open_network(folder: Path, spec: dict[str, Any], threads: int) -> Any:
    """A function from a window (1, 1, k, j, i) to its answer, in the engine and precision of ``edge.json``."""
    graph = folder / spec["graph"]
    if hashlib.sha256(graph.read_bytes()).hexdigest() != spec["graph_sha256"]:
        raise Refused(f"{graph.name} is not the graph that was exported")
    if spec["engine"] == "onnxruntime":
        import onnxruntime

        onnxruntime.disable_telemetry_events()
        options = onnxruntime.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 3, threads
        session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return lambda window: session.run(None, {name: window})[0]
    import openvino

    model = openvino.Core().read_model(graph)
    model.reshape({model.inputs[0]: [1, 1, *spec["input"]["window"]["shape"]]})
    hint = {"bf16": "bf16", "fp16": "f16"}.get(spec["precision"], "f32")
    options = {"INFERENCE_PRECISION_HINT": hint, "NUM_STREAMS": 1}
    if threads:
        options["INFERENCE_NUM_THREADS"] = threads
    compiled = openvino.Core().compile_model(model, "CPU", options)
    return lambda window: np.array(compiled([window])[0])


def segment(array: Array, affine: Array, spec: dict[str, Any], network: Any, point: Array | None) -> NDArray[np.uint8]:
    """Labels on the scan's own grid."""
    table, window = spec["input"], spec["input"]["window"]
    order, flips = orienting(affine, table["orientation"])
    turned = array.transpose(order)[flips]
    spacing = np.linalg.norm(affine[:3, :3], axis=0)[list(order)]
    wanted = [want or have for want, have in zip(table["spacing_mm"] or (0, 0, 0), spacing, strict=True)]
    k, j, i = (max(1, round(n * have / want)) for n, have, want in zip(turned.shape, spacing, wanted, strict=True))
    values = resampled(intensities(turned, table["intensity"]), (k, j, i))
    shape = (turned.shape[0], turned.shape[1], turned.shape[2])
    sums, weights = blended(values, window, network)
    means, run = (resampled(one, shape) for one in (sums / np.maximum(weights, 1e-30), np.sign(weights)))
    labels = np.zeros(array.shape, np.uint8)
    labels.transpose(order)[flips][...] = decided(means, run, spec["output"])
    cleaned(labels, spec["output"]["clean_up"], affine, point)
    return labels


def read(folder: Path, scan: Path, at: str = "", threads: int = 0) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    """Labels (slices, rows, columns) of a scan, and what a result must say of how it came about."""
    spec = json.loads((folder / "edge.json").read_text(encoding="utf-8"))
    array, affine = read_scan(scan)
    point = np.array([float(each) for each in at.split(",")]) if at else None
    if (point is None) != (spec["input"]["point_size_mm"] is None):
        raise Refused("give --at X,Y,Z (LPS mm)" if point is None else "this model reads whole scans: leave --at out")
    box = (slice(None), slice(None), slice(None))
    if point is not None:
        shape = (array.shape[0], array.shape[1], array.shape[2])
        box = region(shape, affine, point, spec["input"]["point_size_mm"], spec["input"]["orientation"])
    part, own = array[box], affine.copy()
    own[:3, 3] += affine[:3, :3] @ [each.start or 0 for each in box]
    warnings = check_domain((part.shape[0], part.shape[1], part.shape[2]), own, spec["domain"])
    labels = np.zeros(array.shape, np.uint8)
    labels[box] = segment(part, own, spec, open_network(folder, spec, threads), point)
    volume = abs(np.linalg.det(affine[:3, :3])) / 1000
    found = {
        one["label"]: round(float((labels == one["number"]).sum() * volume), 4) for one in spec["output"]["segments"]
    }
    facts = {name: spec[name] for name in ("package", "package_digest", "precision", "engine", "proof", "notice")}
    return labels, {**facts, "volumes_ml": found, "warnings": warnings}


def main() -> int:
    """The command line."""
    import nibabel

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scan", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, help="labels, .nii or .nii.gz")
    parser.add_argument("--at", default="", help="LPS point in mm, X,Y,Z, where the model reads one")
    parser.add_argument("--threads", type=int, default=0)
    arguments = parser.parse_args()
    try:
        labels, facts = read(Path(__file__).resolve().parent, arguments.scan, arguments.at, arguments.threads)
    except (Refused, OSError, ValueError) as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 1
    image = nibabel.Nifti1Image(labels.transpose(2, 1, 0), nibabel.load(arguments.scan).affine)
    nibabel.save(image, arguments.output)
    print(json.dumps(facts, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
