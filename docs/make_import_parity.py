"""Write docs/reference/import-parity.md: every format, in every engine and precision, against its source.

    python docs/make_import_parity.py

Each source is converted as ``hounsfield import`` does it, in the jail, with placeholders for the answers
that change no number. Its golden cases (noise, and what the source's own weights answer in torch, or
the source's own graph in ONNX Runtime) are then run by the converted graph in every engine. The second table holds
whole nnU-Net packages, preparation and way back included, to the labels that nnU-Net's own predictor gave.
"""

from __future__ import annotations

import importlib.metadata
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests" / "importing")]

from hounsfield.errors import EngineError, SettingsError  # noqa: E402
from hounsfield.importing import ImportLimits, convert_in_jail, look_in_jail  # noqa: E402
from hounsfield.importing.answers import ASKED, complete  # noqa: E402
from hounsfield.inference.engine import LoadSettings, OnnxGraph, engine  # noqa: E402

DATA = ROOT.parent / "shared" / "data"
OUT = ROOT / "docs" / "reference" / "import-parity.md"
RUNS = (("onnxruntime", "fp32"), ("openvino", "fp32"), ("openvino", "bf16"))
SOURCES = (
    ("hippodeep", "weights-hippodeep"),
    ("meshnet (TensorFlow.js, 20 filters)", "weights-brainchop/model20chan3cls"),
    ("meshnet (TensorFlow.js, 30 filters)", "weights-brainchop/model30chan18cls"),
    ("meshnet (PyTorch, mindgrab)", "weights-brainchop/mindgrab"),
    ("lwnet", "weights-lwnet-retina/wnet_drive"),
)
HEAD = """# Import parity

Made by `python docs/make_import_parity.py`. Each converted graph against the source's own weights on noise:
the largest difference as a fraction of the largest answer, and the share of voxels whose highest class is the
same ("-" where the network answers one map or numbers). bf16 is the processor's own arithmetic, not a promise:
a precision counts only with evidence.

"""
LABELS_HEAD = """
## Labels of whole nnU-Net packages
Small models that nnU-Net 2.8.1 wrote, with random weights, and one image each: the share of voxels with the label of
its own predictor (float32 sums). Random weights make many near-ties, so bf16 is worse here than with trained ones
([figures on real cases](../how-to/import.md#nnu-net)).

"""
NNUNET = (
    *(
        "nnunet_models/2d",
        "nnunet_models/3d-two-folds",
        "nnunet_models/3d-anisotropic",
        "nnunet_models/residual-regions",
    ),
    *("nnunet_models/turned-old-plans", "nnunet_models/118-classes"),
    *("nnunet_folders/cascade", "nnunet_folders/cascade-regions", "nnunet_folders/totalsegmentator"),
)
_PLAIN: dict[str, Any] = {
    "id": "parity",
    "orientation": "LPS",
    "modality": "MR",
    "quantity": "arbitrary",
    "name": "image",
    "scheme": "SCT",
    "value": "12738006",
    "spacing_mm": [1.0, 1.0, 1.0],
    "intensity": [],
    "shape": [32, 32, 32],
    "activation": "softmax",
    "fit": True,
    "interpolation": "linear",
    "allowed": ["MR"],
}


@dataclass(frozen=True)
class Row:
    """One golden case in one engine and precision."""

    source: str
    graph: str
    engine: str
    precision: str
    difference: str
    agreement: str


def filled(template: Any, key: str = "") -> Any:
    """The template with a placeholder for each question; none of them changes a number of the network."""
    if isinstance(template, dict):
        return {name: filled(value, name) for name, value in template.items()}
    if template == ASKED or template == [ASKED]:
        return _PLAIN.get(key, "placeholder")
    if isinstance(template, list) and template and isinstance(template[0], dict):
        return [filled(value, key) for value in template]
    return template


def sources(folder: Path) -> Iterator[tuple[str, Path]]:
    """The real weights beside the checkout, and a bundle and an ONNX that are made here."""
    for name, place in SOURCES:
        yield name, DATA / place
    from monai_bundles import NETWORKS, write_bundle
    from test_onnx_source import network

    images = sorted((DATA / "mr-hippocampus-msd/images").glob("*.nii.gz"))[:4]
    pairs = [(path, DATA / "mr-hippocampus-msd/labels" / path.name) for path in images]
    for name in sorted(NETWORKS):
        yield f"monai ({name})", write_bundle(folder / f"bundle-{name}", name, pairs, steps=16)
    yield "onnx (external data)", network(folder / "onnx")
    yield "pytorch (DenseNet-121, CheXNet's names)", chexnet_file(folder / "chexnet.pth")
    for place in NNUNET:
        yield f"nnU-Net ({place.rpartition('/')[2]})", ROOT / "tests" / "importing" / place


def chexnet_file(path: Path) -> Path:
    """Our own DenseNet-121 under CheXNet's names, with random weights."""
    import torch
    from test_checkpoints import chexnet

    from hounsfield.architectures import build

    torch.manual_seed(0)
    network = build({"name": "densenet121", "channels_in": 1, "channels_out": 14})
    torch.save({"state_dict": chexnet(network)}, path)
    return path


def label_rows(folder: Path) -> Iterator[str]:
    """One line per nnU-Net source, engine and precision: equal voxels."""
    from answering import do_import
    from nnunet_cases import given, labels_of, scans

    for number, place in enumerate(NNUNET):
        source, made = ROOT / "tests" / "importing" / place, folder / f"labels-{number}"
        made.mkdir()
        package = do_import(source, made, given(source)).package
        if package is None:
            raise SystemExit(f"{place} was not imported")
        recorded = source.with_suffix(".npz")
        expected = np.load(recorded)["labels"]
        for runtime, precision in RUNS:
            found = labels_of(package, scans(recorded), runtime, precision)
            different = int(np.count_nonzero(found != expected))
            share = f"{100 * (1 - different / expected.size):.4f} % ({different} of {expected.size:,} differ)"
            yield f"| {source.name} | {runtime} | {precision} | {share} |"


def rows(name: str, source: Path, folder: Path) -> Iterator[Row]:
    """Convert one source and run its golden cases."""
    look, made = folder / "look", folder / "made"
    look.mkdir(parents=True)
    made.mkdir()
    (claim,) = look_in_jail(source, look)
    told = filled(claim.template)
    if claim.format == "pytorch":  # the one file here is a network of flat images
        told["input"]["window"]["shape"] = [1, 64, 64]
    draft, _ = convert_in_jail(claim, source, complete(told, claim.template), made, ImportLimits())
    for golden in draft.goldens:
        image, expected = np.load(made / golden.image), np.load(made / golden.answer)
        window = (image.shape[2], image.shape[3], image.shape[4])
        for runtime, precision in RUNS:
            settings = LoadSettings(precision, window, channels=image.shape[1], batch=image.shape[0], threads=1)  # type: ignore[arg-type]
            graph = OnnxGraph(made / draft.files[golden.graph])
            try:
                session = engine(runtime).load(graph, settings)
            except (EngineError, SettingsError) as error:
                yield Row(name, Path(golden.graph).stem, runtime, precision, f"not run: {error.fact[:60]}", "-")
                continue
            found = np.array(session.infer(image))
            session.close()
            yield Row(name, Path(golden.graph).stem, runtime, precision, *compared(found, expected))


def compared(found: np.ndarray, expected: np.ndarray) -> tuple[str, str]:
    """Largest difference over the largest answer, and the share of equal highest classes."""
    difference = float(np.abs(found - expected).max()) / max(float(np.abs(expected).max()), 1e-6)
    several = expected.ndim == 5 and expected.shape[1] > 1 and expected[0, 0].size > 1
    same = f"{100 * np.mean(found.argmax(1) == expected.argmax(1)):.3f} %" if several else "-"
    return f"{difference:.1e}", same


def main() -> None:
    """Convert, run, and write the page."""
    found: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        for number, (name, source) in enumerate(sources(Path(scratch))):
            found += rows(name, source, Path(scratch) / f"{number}")
            print(name, flush=True)
        labels = ["| model | engine | precision | same label |", "|---|---|---|---|", *label_rows(Path(scratch))]
    lines = ["| source | graph | engine | precision | largest difference | same class |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {row.source} | {row.graph} | {row.engine} | {row.precision} | {row.difference} | {row.agreement} |"
        for row in found
    ]
    packages = ("torch", "onnxruntime", "openvino", "monai")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    text = HEAD + "\n".join(lines) + "\n" + LABELS_HEAD + "\n".join(labels)
    OUT.write_text(f"{text}\n\n{versions}.\n", encoding="utf-8")


if __name__ == "__main__":
    main()
