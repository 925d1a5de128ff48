"""The edge folder answers as the house does, with nothing of the house in its process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner

from hounsfield.cli.app import app
from hounsfield.errors import PackageInvalid, SettingsError
from hounsfield.evaluation.dataset import Case
from hounsfield.evaluation.scoring import ScoringRules
from hounsfield.packages import ModelPackage, build
from hounsfield.testing.packages import TinyModel, tiny_files, tiny_package
from hounsfield.usecases.case_scoring import CaseScorer
from hounsfield.usecases.export_edge import ExportRequest, export_edge
from hounsfield.usecases.job import Choices

BARE = """
import runpy, sys
class Refuser:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"hounsfield", "pydantic", "scipy", "torch", "onnx", "pydicom", "highdicom", "rich"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Refuser())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
CLIPPED = ({"step": "clip", "low": -200.0, "high": 300.0}, {"step": "standardise", "mean": 20.0, "std": 60.0})
QUANTILES = ({"step": "clip-quantiles", "low": 0.01, "high": 0.99}, {"step": "z-score"})
TURNED = np.array([[0, 0.9, 0, 4], [0.8, 0, 0, -7], [0, 0, -1.7, 30], [0, 0, 0, 1]], float)
OBLIQUE = np.array([[0.8, 0, 0.3, 0], [0, -1.1, 0, 5], [-0.24, 0, 1.0, 2], [0, 0, 0, 1]], float)
FIXED = {"domain": {"extent_mm": {"high": 60, "breach": "refuse"}}}


def write_scan(path: Path, affine: np.ndarray) -> Path:
    """Smooth bright and dark patches with noise, int16."""
    random = np.random.default_rng(3)
    coarse = random.normal(0, 120, (5, 6, 7))
    fine = np.kron(coarse, np.ones((6, 5, 4))) + random.normal(0, 20, (30, 30, 28))
    nibabel.save(nibabel.Nifti1Image(fine.astype(np.int16), affine), path)
    return path


def house(package: ModelPackage, scan: Path, choices: Choices) -> np.ndarray:
    """The labels that ``hounsfield run`` gives."""
    scorer = CaseScorer(package, choices, ScoringRules())
    _, labelled = scorer.answer(Case("c", (("", scan),), None, "p"))
    scorer.close()
    return np.asarray(labelled.labels.array)


def on_edge(folder: Path, scan: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """The folder's runner in a process that has no hounsfield, pydantic, scipy, onnx."""
    command = [sys.executable, "-c", BARE, str(folder / "run.py"), str(scan), "-o", str(out), "--threads", "1", *more]
    return subprocess.run(command, capture_output=True, text=True, check=False)


CLEAN = [
    {"step": "remove-small", "segments": [1], "volume_mm3": 20.0},
    {"step": "keep-largest", "segments": [1], "joined": False},
]
RESAMPLED = {"intensity": CLIPPED, "levels": (-1.0, 0.5, 1.5), "spacing_mm": (1.2, 1.0, 1.3)}
BY_QUANTILES = {"intensity": QUANTILES, "levels": (-0.5, 0.6), "orientation": "RAS", "overlap": 0.25}
CLEANED = {"intensity": CLIPPED, "levels": (-1.0, 1.0), "output": {"clean_up": CLEAN}}


@pytest.mark.parametrize(
    ("affine", "more"),
    [(TURNED, RESAMPLED), (OBLIQUE, BY_QUANTILES), (OBLIQUE, CLEANED)],
    ids=["turned and resampled", "oblique, by quantiles", "cleaned up"],
)
def test_labels_equal_those_of_the_house(tmp_path: Path, affine: np.ndarray, more: dict) -> None:
    package = tiny_package(tmp_path / "package", TinyModel(window=(16, 12, 14), **FIXED, **more))
    scan = write_scan(tmp_path / "scan.nii.gz", affine)
    result = export_edge(ExportRequest(package.root, tmp_path / "edge", "fp32", allow_unproven=True))
    done = on_edge(tmp_path / "edge", scan, tmp_path / "labels.nii.gz")
    assert done.returncode == 0, done.stderr
    found = np.asarray(nibabel.load(tmp_path / "labels.nii.gz").dataobj).transpose(2, 1, 0)
    wanted = house(package, scan, Choices(engine="onnxruntime", threads=1, allow_unproven=True))
    assert len(np.unique(wanted)) == len(more["levels"])
    assert (found == wanted).mean() > 0.9999
    told = json.loads(done.stdout)
    assert (told["package_digest"], told["proof"]) == (package.digest, "no evidence for fp32")
    assert "Research use only" in told["notice"]
    assert set(result.files) >= {"run.py", "graph.onnx", "edge.json", "manifest.toml", "card.md", "requirements.txt"}
    assert result.needs["numpy"] > 10**6
    assert ("pipeline.onnx" in result.files) == (more["intensity"] is CLIPPED)
    assert result.pipeline.startswith("pipeline.onnx" if more["intensity"] is CLIPPED else "none: clip-quantiles")


def test_a_scan_outside_the_domain_and_a_foreign_graph_are_refused(tmp_path: Path) -> None:
    package = tiny_package(tmp_path / "package", TinyModel(**FIXED))
    export_edge(ExportRequest(package.root, tmp_path / "edge", "fp32", "openvino", allow_unproven=True))
    large = write_scan(tmp_path / "large.nii.gz", np.diag([3.0, 3.0, 3.0, 1.0]))
    done = on_edge(tmp_path / "edge", large, tmp_path / "labels.nii.gz")
    assert (done.returncode, "extent_mm" in done.stderr) == (1, True)
    small = write_scan(tmp_path / "small.nii.gz", TURNED)
    assert on_edge(tmp_path / "edge", small, tmp_path / "x.nii.gz", "--at", "1,2,3").returncode == 1
    (tmp_path / "edge" / "graph.onnx").write_bytes(b"another")
    done = on_edge(tmp_path / "edge", small, tmp_path / "labels.nii.gz")
    assert (done.returncode, "not the graph that was exported" in done.stderr) == (1, True)
    assert not (tmp_path / "labels.nii.gz").exists()


def test_unproven_or_unfit_packages_are_refused(tmp_path: Path) -> None:
    package = tiny_package(tmp_path / "package")
    with pytest.raises(PackageInvalid, match="no proven graph"):
        export_edge(ExportRequest(package.root, tmp_path / "edge"))
    with pytest.raises(PackageInvalid, match="no evidence for fp32"):
        export_edge(ExportRequest(package.root, tmp_path / "edge", "fp32"))
    with pytest.raises(SettingsError, match="cannot run on torch"):
        export_edge(ExportRequest(package.root, tmp_path / "edge", "fp32", "torch"))
    answer = CliRunner().invoke(app, ["export", str(package.root), "-o", str(tmp_path / "edge")])
    assert answer.exit_code == 1
    half = tiny_package(tmp_path / "half", TinyModel(manifest={"id": "half"}, window=(8, 8, 8)))
    blended = half.manifest.input.window.model_copy(update={"blending": "gaussian-half"})
    given = half.manifest.input.model_copy(update={"window": blended})
    other = build(tmp_path / "other", half.manifest.model_copy(update={"input": given}), tiny_files())
    with pytest.raises(PackageInvalid, match="its blending is nnU-Net's"):
        export_edge(ExportRequest(other.root, tmp_path / "edge", "fp32", allow_unproven=True))
    assert not (tmp_path / "edge").exists()
