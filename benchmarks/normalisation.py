"""What exact instance normalisation gains in fp32, and what it costs.

OpenVINO's own kernel, and hounsfield's sums in blocks (``inference/engines/openvino_norms.py``),
against torch in double precision: first one normalisation of a large window by itself, then a
whole plain U-Net with random weights. The two variants take turns window by window; the least
processor seconds of all rounds are compared, which other work on the machine disturbs least.

    python benchmarks/normalisation.py --save
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import openvino
from sliding_window import RESULTS, build, export, processor

from hounsfield.inference.engines.openvino_norms import sum_in_blocks

WAYS = ("as it comes", "in blocks")


def compiled(model, threads: int):
    """A model in fp32 on the processor, as the engine of the product compiles it."""
    options = {
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,
    }
    return openvino.Core().compile_model(model, "CPU", options).create_infer_request()


def answer(request, values: np.ndarray) -> np.ndarray:
    """One window through a network."""
    request.get_input_tensor().data[:] = values
    request.infer()
    return np.array(request.get_output_tensor().data)


def scale_errors(edge: int, channels: int, threads: int) -> dict[str, float]:
    """Largest relative error of the standard deviation that a normalisation divides by."""
    from openvino import opset13

    values = np.random.default_rng(0).normal(1.0, 2.0, (1, channels, edge, edge, edge)).astype(np.float32)
    wide = values.astype(np.float64)
    centred = wide - wide.mean((2, 3, 4), keepdims=True)
    exact = centred / np.sqrt(np.square(centred).mean((2, 3, 4), keepdims=True) + 1e-5)
    found = {}
    for way in WAYS:
        source = opset13.parameter(values.shape, np.float32)
        axes = opset13.constant(np.array([2, 3, 4], np.int64))
        model = openvino.Model([opset13.mvn(source, axes, True, 1e-5, "inside_sqrt")], [source])
        if way == "in blocks":
            sum_in_blocks(model)
        got = answer(compiled(model, threads), values).astype(np.float64)
        slope = (got * exact).sum((2, 3, 4)) / np.square(exact).sum((2, 3, 4))
        found[way] = float(np.abs(slope - 1).max())
    return found


def network(edge: int, threads: int, rounds: int, folder: Path) -> dict[str, dict[str, float]]:
    """A plain U-Net over one window: error, labels equal to double precision, processor seconds."""
    import torch

    values = np.random.default_rng(0).normal(size=(1, 1, edge, edge, edge)).astype(np.float32)
    with torch.inference_mode():
        exact = build("plain", 3).double()(torch.from_numpy(values).double()).numpy()
        single = build("plain", 3)(torch.from_numpy(values)).numpy()
    export("plain", 3, folder / "plain.onnx")
    requests = {}
    for way in WAYS:
        model = openvino.Core().read_model(folder / "plain.onnx")
        model.reshape({model.inputs[0]: list(values.shape)})
        if way == "in blocks":
            sum_in_blocks(model)
        requests[way] = compiled(model, threads)
    rows = {"torch": against(single, exact)}
    rows |= {way: against(answer(request, values), exact) for way, request in requests.items()}
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way, request in requests.items():
            began = time.process_time()
            request.infer()
            seconds[way].append(time.process_time() - began)
    for way in WAYS:
        rows[way]["processor_seconds"] = min(seconds[way])
    return rows


def against(got: np.ndarray, exact: np.ndarray) -> dict[str, float]:
    """Root mean square error, and the share of voxels with the same highest score."""
    error = float(np.sqrt(np.square(got - exact).mean()))
    return {"rms_error": error, "labels_equal": float((got.argmax(1) == exact.argmax(1)).mean())}


def page(result: dict) -> str:
    """The result as Markdown."""
    scale, rows = result["scale_error"], result["network"]
    cost = rows["in blocks"]["processor_seconds"] / rows["as it comes"]["processor_seconds"] - 1
    lines = [
        "# Exact normalisation: gain and cost",
        "",
        f"Windows of {result['edge']}^3, fp32, OpenVINO {result['openvino']}, against double precision, "
        f"on {result['machine']}. Made by `python benchmarks/normalisation.py --save`.",
        "",
        f"One normalisation by itself: its standard deviation is off by up to {scale['as it comes']:.1e} as it comes, "
        f"{scale['in blocks']:.1e} in blocks.",
        "",
        "|plain U-Net|rms error of the scores|labels equal|processor s a window|",
        "|---|---|---|---|",
    ]
    for way, row in rows.items():
        spent = f"{row['processor_seconds']:.2f}" if "processor_seconds" in row else ""
        lines.append(f"|{way}|{row['rms_error']:.1e}|{row['labels_equal']:.5%}|{spent}|")
    return "\n".join([*lines, "", f"Blocks cost {cost:.1%} of the network's processor time.", ""])


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edge", type=int, default=96)
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/normalisation.{json,md}")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = {
            "machine": processor(),
            "openvino": openvino.__version__.split("-")[0],
            "edge": args.edge,
            "scale_error": scale_errors(args.edge, args.channels, args.threads),
            "network": network(args.edge, args.threads, args.rounds, Path(folder)),
        }
    print(page(result))
    if args.save:
        (RESULTS / "normalisation.json").write_text(json.dumps(result, indent=1) + "\n")
        (RESULTS / "normalisation.md").write_text(page(result))


if __name__ == "__main__":
    main()
