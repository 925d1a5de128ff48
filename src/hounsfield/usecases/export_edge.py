"""A folder that runs one graph of a package on a small machine: graph, manifest, card, and a runner of one file."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hounsfield.compression.pipeline_graph import PROBABILITIES, RAW, pipeline_graph, why_no_pipeline
from hounsfield.errors import EngineError, PackageInvalid, SettingsError
from hounsfield.packages import ModelPackage, Precision, open_package
from hounsfield.usecases.evaluate import demand_empty, json_bytes, whole_folder
from hounsfield.usecases.events import Note, OnEvent, silent
from hounsfield.usecases.job import Choices
from hounsfield.usecases.sessions import proven_precision

NOTICE = "Research use only - not for diagnostic use"
_ENGINES = ("onnxruntime", "openvino")
_STEPS = ("clip", "clip-quantiles", "scale", "scale-quantiles", "z-score", "standardise")
_PARITY = 2e-3


@dataclass(frozen=True)
class ExportRequest:
    """What to export.

    Parameters
    ----------
    model
        A segmentation package of one channel.
    output
        The folder: new or empty.
    precision
        Empty takes the smallest graph that is proven and that the engine runs.
    engine
        ``"onnxruntime"`` or ``"openvino"``.
    allow_unproven
        Export a precision without evidence or passed gate; ``edge.json`` says so, and every result.
    """

    model: str | Path
    output: Path
    precision: str = ""
    engine: str = "onnxruntime"
    allow_unproven: bool = False


@dataclass(frozen=True)
class ExportResult:
    """The folder, what is in it by bytes, what must be installed by bytes, and the pipeline's parity."""

    package: ModelPackage
    precision: str
    folder: Path
    files: Mapping[str, int]
    needs: Mapping[str, int]
    pipeline: str

    def as_dict(self) -> dict[str, Any]:
        """The result as data, for ``--json``."""
        return {
            "package": self.package.reference,
            "package_digest": self.package.digest,
            "precision": self.precision,
            "folder": str(self.folder),
            "files": dict(self.files),
            "installed_bytes": dict(self.needs),
            "pipeline": self.pipeline,
        }


def export_edge(request: ExportRequest, on_event: OnEvent = silent) -> ExportResult:
    """Write the folder.

    Raises
    ------
    SettingsError
        If there is no such engine.
    PackageInvalid
        If the precision is not proven, or the runner cannot prepare what the package reads.
    EngineError
        If the whole-pipeline graph does not answer as its parts do.
    OutputExists
        If the folder is not empty.
    """
    if request.engine not in _ENGINES:
        raise SettingsError(f"an edge folder cannot run on {request.engine}", f"choose one of: {', '.join(_ENGINES)}")
    package = open_package(request.model)
    _demand_simple(package)
    precision = _precision(package, request)
    demand_empty(request.output)
    graph = package.graph_path(precision)
    with whole_folder(request.output) as partial:
        told = _fill(package, precision, request, graph, partial)
        sizes = {path.name: path.stat().st_size for path in sorted(partial.iterdir())}
    if told:
        on_event(Note(f"whole-pipeline graph: {told}"))
    return ExportResult(package, precision, request.output, sizes, dict(_installed(request.engine)), told)


def _demand_simple(package: ModelPackage) -> None:
    """Refuse what the runner of one file does not do."""
    manifest, given = package.manifest, package.manifest.input
    window = given.window
    wrong = {
        "it is no segmentation": manifest.task != "segmentation",
        "it is a package of steps": bool(manifest.steps),
        "it reads several channels": len(given.channels) != 1,
        "it reads records or sequences": bool(given.record) or given.times is not None,
        "it interpolates otherwise than linearly": given.spacing_mm is not None and given.interpolation != "linear",
        "it takes an axis apart when it resamples": given.separate_above is not None,
        "it crops or outlines": given.reads_outline,
        "it fits whole scans to its window": given.fit,
        "its blending is nnU-Net's": window.blending == "gaussian-half",
        "its graph keeps data in another file": any(name.endswith(".data") for name in package.files),
        "it has more than 255 segments": len(manifest.output.segments) > 255,
    }
    reasons = [reason for reason, holds in wrong.items() if holds]
    if reasons:
        raise PackageInvalid(f"the edge runner cannot run {package.reference}: {reasons[0]}", "use hounsfield run")


def _precision(package: ModelPackage, request: ExportRequest) -> Precision:
    """The one that was asked for, if it is proven; else the smallest proven graph that the engine runs."""
    if request.precision:
        choices = Choices(request.precision, request.engine, allow_unproven=request.allow_unproven)
        chosen = proven_precision(package, choices)
    else:
        own = [graph.precision for graph in package.manifest.graphs if graph.precision in package.proven()]
        fitting = [one for one in own if _runs(package, one, request.engine)]
        if not fitting:
            fact = f"{package.reference} has no proven graph that {request.engine} runs"
            raise PackageInvalid(fact, "name one with --precision, or accept it with --allow-unproven")
        chosen = min(fitting, key=lambda one: package.graph_path(one).stat().st_size)
    if not _runs(package, chosen, request.engine):
        raise EngineError(f"{request.engine} does not compute this graph in {chosen}", "choose the other engine")
    return chosen


def _runs(package: ModelPackage, precision: Precision, engine: str) -> bool:
    """Whether the engine really computes in that precision here."""
    from hounsfield.errors import EngineUnavailable
    from hounsfield.inference import LoadSettings, OnnxGraph
    from hounsfield.inference.engine import engine as engine_of

    window = package.manifest.input.window.shape
    graph = OnnxGraph(package.graph_path(precision), quantised=precision == "int8")
    try:
        session = engine_of(engine).load(graph, LoadSettings(precision, window, threads=1, requests=1))
    except EngineUnavailable:
        return False
    ran = session.precision
    session.close()
    return ran == precision


def _fill(package: ModelPackage, precision: Precision, request: ExportRequest, graph: Path, folder: Path) -> str:
    """Every file of the folder; what the whole-pipeline graph's parity is, or why there is none."""
    data = graph.read_bytes()
    (folder / "graph.onnx").write_bytes(data)
    (folder / "run.py").write_bytes(_runner())
    for name in ("manifest.toml", "card.md"):
        (folder / name).write_bytes((package.root / name).read_bytes())
    reason = why_no_pipeline(package.manifest.input)
    told = f"none: {reason}"
    if not reason:
        told = _pipeline(package, graph, request.engine, folder)
    needs = sorted({"numpy", "nibabel", request.engine})
    lines = [f"{name}>={importlib.metadata.version(name)}" for name in needs]
    (folder / "requirements.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    spec = _spec(package, precision, request.engine, hashlib.sha256(data).hexdigest(), told)
    (folder / "edge.json").write_bytes(json_bytes(spec))
    return told


def _runner() -> bytes:
    found = importlib.util.find_spec("hounsfield.compression.edge_runner")
    if found is None or found.origin is None:
        raise PackageInvalid("the runner's source is not installed", "install hounsfield from its wheel")
    return Path(found.origin).read_bytes()


def _spec(package: ModelPackage, precision: Precision, engine: str, graph_sha256: str, pipeline: str) -> dict[str, Any]:
    """``edge.json``: the parts of the manifest that the runner reads, and what a result must say."""
    table = package.manifest.model_dump(mode="json", exclude_none=True)
    given, output = table["input"], table["output"]
    unknown = [step["step"] for step in _steps(package) if step["step"] not in _STEPS]
    if unknown:
        raise PackageInvalid(f"the edge runner has no step {unknown[0]!r}", "use hounsfield run")
    point = package.manifest.input.point
    size = None if point is None else list(point.size_mm or _window_mm(package))
    return {
        "format": 1,
        "package": package.reference,
        "title": package.manifest.title,
        "package_digest": package.digest,
        "precision": precision,
        "engine": engine,
        "proof": package.why_unproven(precision) or "proven: " + _summary(package, precision),
        "notice": NOTICE,
        "graph": "graph.onnx",
        "graph_sha256": graph_sha256,
        "pipeline": pipeline,
        "input": {
            "orientation": given["orientation"],
            "spacing_mm": given.get("spacing_mm"),
            "intensity": list(_steps(package)),
            "window": given["window"],
            "point_size_mm": size,
        },
        "domain": table["domain"],
        "output": {name: output[name] for name in ("activation", "threshold", "winner", "segments", "clean_up")},
    }


def _steps(package: ModelPackage) -> Iterator[dict[str, Any]]:
    for step in package.manifest.input.steps_of_channels[0]:
        yield step.model_dump(mode="json", exclude_none=True)


def _window_mm(package: ModelPackage) -> list[float]:
    spec = package.manifest.input
    spacing = spec.spacing_mm or (0.0, 0.0, 0.0)
    if 0 in spacing:
        raise PackageInvalid(f"{package.reference} has no spacing, so a point gives no region", "use hounsfield run")
    return [n * s for n, s in zip(spec.window.shape, spacing, strict=True)]


def _summary(package: ModelPackage, precision: Precision) -> str:
    evidence = package.evidence(precision)
    return "" if evidence is None else evidence.summary()


def _pipeline(package: ModelPackage, graph: Path, engine: str, folder: Path) -> str:
    """Write ``pipeline.onnx`` and compare it with its parts on windows of values that the steps clip and keep."""
    import onnx

    manifest = package.manifest
    made = pipeline_graph(onnx.load(str(graph)), manifest.input, manifest.output)
    (folder / "pipeline.onnx").write_bytes(made.SerializeToString(deterministic=True))
    shape = (1, 1, *manifest.input.window.shape)
    raw = np.random.default_rng(0).uniform(-1500, 1500, shape).astype(np.float32)
    prepared = _prepared(package, raw)
    logits = _answers(graph.read_bytes(), prepared, manifest.graphs[0].input)
    expected = _activated(logits, manifest.output.activation)
    found = _answers((folder / "pipeline.onnx").read_bytes(), raw, RAW)
    difference = float(np.abs(found - expected).max())
    if not difference <= _PARITY:
        raise EngineError(f"the whole-pipeline graph differs from its parts by {difference:.2g}", "report this", graph)
    return f"pipeline.onnx, {RAW} to {PROBABILITIES}, within {difference:.1g} of its parts"


def _prepared(package: ModelPackage, raw: Any) -> Any:
    from hounsfield.compression.edge_runner import intensities

    return intensities(raw, list(_steps(package)))


def _answers(model: bytes, window: Any, name: str) -> Any:
    """One window through OpenVINO in fp32, as both graphs must be compared in the same engine."""
    import openvino

    core = openvino.Core()
    network = core.read_model(model, b"")
    network.reshape({network.inputs[0]: list(window.shape)})
    compiled = core.compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1})
    return np.array(compiled({name: window})[0])


def _activated(logits: Any, activation: str) -> Any:
    if activation == "softmax":
        raised = np.exp(logits - logits.max(1, keepdims=True))
        return raised / raised.sum(1, keepdims=True)
    return 1 / (1 + np.exp(-logits)) if activation == "sigmoid" else logits


def _installed(engine: str) -> Iterator[tuple[str, int]]:
    """Bytes of the installed files of what the runner imports."""
    for name in ("numpy", "nibabel", engine):
        files = importlib.metadata.files(name) or []
        paths = [Path(str(one.locate())) for one in files]
        yield name, sum(path.stat().st_size for path in paths if path.is_file())
