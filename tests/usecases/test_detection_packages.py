"""A detector whose answer is known: one convolution that finds bright cubes on its own grid."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from class_scenes import write_table

from hounsfield.packages import Manifest, ModelPackage, build
from hounsfield.usecases.detecting import Detected, merged
from hounsfield.usecases.evaluate import EvaluateRequest, evaluate
from hounsfield.usecases.job import Choices
from hounsfield.usecases.run import RunRequest, run_model

ANYTHING = Choices(allow_unproven=True)
SPACING = (1.0, 1.0, 1.0)


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    return build(tmp_path_factory.mktemp("package"), manifest(), {"card.md": b"# x\n", "graphs/fp32.onnx": graph()})


def manifest() -> Manifest:
    code = {"scheme": "SCT", "value": "27925004", "meaning": "Nodule"}
    category = {"scheme": "SCT", "value": "49755003", "meaning": "Morphologically Abnormal Structure"}
    return Manifest.model_validate(
        {
            "format": 1,
            "id": "tiny-detector",
            "version": "1.0.0",
            "title": "Bright cubes",
            "task": "detection",
            "intended_use": "Tests only.",
            "licence": {"weights": "CC0-1.0", "data": "none"},
            "input": {"channels": [{"name": "image", "modality": "CT"}], "window": {"shape": (16, 16, 16)}},
            "domain": {"modality": {"allowed": ["CT"], "breach": "warn"}},
            "output": {"boxes": [{"label": "Cube", "category": category, "type": code, "least_score": 0.6}]},
            "graphs": [{"precision": "fp32", "file": "graphs/fp32.onnx", "input": "image", "output": "logits"}],
        }
    )


def graph() -> bytes:
    """Logit 20 x mean - 10 of each 4 x 4 x 4 cell, size 4 voxels, centre in the middle of the cell."""
    from onnx import TensorProto, helper, numpy_helper

    weight = np.zeros((7, 1, 4, 4, 4), np.float32)
    weight[0] = 20 / 64
    bias = np.array([-10, 2, 2, 2, 0.5, 0.5, 0.5], np.float32)
    node = helper.make_node("Conv", ["image", "weight", "bias"], ["logits"], kernel_shape=[4] * 3, strides=[4] * 3)
    made = helper.make_graph(
        [node],
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, "k", "j", "i"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 7, "x", "y", "z"])],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(bias, "bias")],
    )
    proto = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data: bytes = proto.SerializeToString(deterministic=True)
    return data


def cubes(folder: Path, name: str, places: list[tuple[int, int, int]], brightness: list[float]) -> tuple[Path, Path]:
    """A scan of 24 x 24 x 24 with cubes of 4 voxels, and its label map."""
    import nibabel

    array, label = np.zeros((24, 24, 24), np.float32), np.zeros((24, 24, 24), np.uint8)
    for (k, j, i), value in zip(places, brightness, strict=True):
        array[k : k + 4, j : j + 4, i : i + 4] = value
        label[k : k + 4, j : j + 4, i : i + 4] = 1
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    for stem, one in ((name, array), (f"{name}-label", label)):
        nibabel.save(nibabel.Nifti1Image(one.transpose(2, 1, 0), affine), folder / f"{stem}.nii.gz")
    return folder / f"{name}.nii.gz", folder / f"{name}-label.nii.gz"


def test_every_cube_is_found_once_where_it_is(tmp_path: Path, detector: ModelPackage) -> None:
    """Windows overlap, so each cube is seen several times; the weak one lies below the least score."""
    scan, _ = cubes(tmp_path, "a", [(8, 8, 8), (16, 4, 12), (0, 16, 16)], [1.0, 0.8, 0.45])
    result = run_model(RunRequest(detector.root, scan, tmp_path / "out", choices=ANYTHING))
    assert result.succeeded, result.series[0].error
    count, *found = result.series[0].measured
    assert count["count"] == 2
    assert sorted(row["point_mm"] for row in found) == [[9.5, 9.5, 9.5], [13.5, 5.5, 17.5]]
    assert found[0]["probability"] == pytest.approx(1 / (1 + np.exp(-10)), abs=1e-5)
    assert found[0]["diameter_mm"] == pytest.approx(4.0)
    data: dict[str, Any] = json.loads(result.series[0].outputs["json"].read_text(encoding="utf-8"))
    assert data["findings"][1]["box_lps_mm"] == [[7.5] * 3, [11.5] * 3]


def test_the_evaluation_counts_hits_and_false_positives(tmp_path: Path, detector: ModelPackage) -> None:
    """Two scans with a cube each, found; one bright cube that no label knows is one false positive in two scans."""
    rows = []
    for n in range(2):
        scan, label = cubes(tmp_path, f"s{n}", [(8, 8, 8)], [1.0])
        if n == 0:
            scan, _ = cubes(tmp_path, "more", [(8, 8, 8), (16, 16, 16)], [1.0, 0.7])
        rows.append({"case_id": f"c{n}", "image": scan.name, "label": label.name, "patient_id": f"p{n}"})
    table = write_table(tmp_path / "cases.csv", rows)
    result = evaluate(EvaluateRequest(detector.root, table, tmp_path / "out"))
    (one,) = result.record.summary.detections  # type: ignore[union-attr]
    assert (one.targets, one.scans) == (2, 2)
    assert one.froc.sensitivity_at(0.125) == 1.0, "the false one has a lower score than both hits"
    assert one.cpm.mean == 1.0
    assert one.froc.false_per_scan[-1] == 0.5
    assert "CPM" in result.outputs["report"].read_text(encoding="utf-8")


def test_near_ones_are_one_lesion_and_far_ones_are_two() -> None:
    def at(x: float, score: float, kind: int = 0) -> Detected:
        return Detected(kind, score, (x, 0.0, 0.0), (8.0, 8.0, 8.0), ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)))

    kept = merged([at(0, 0.5), at(3, 0.9), at(20, 0.4), at(3, 0.3, kind=1)])
    assert [(one.centre_mm[0], one.score) for one in kept] == [(3, 0.9), (20, 0.4), (3, 0.3)]
