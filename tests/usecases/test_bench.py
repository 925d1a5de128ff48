"""Every graph in every engine: what runs is measured beside its accuracy, what does not says why."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hounsfield.errors import OutputExists
from hounsfield.packages import build, verify
from hounsfield.testing.packages import TinyModel, tiny_evidence, tiny_files, tiny_manifest
from hounsfield.usecases.bench import BenchRequest, bench
from hounsfield.usecases.bench_process import apart_from_first, energy_joules


def test_figures_stand_beside_the_evidence_and_go_into_the_next_version(tmp_path: Path) -> None:
    files = tiny_files()
    graph = files["graphs/fp32.onnx"]
    assert isinstance(graph, bytes)
    evidence = [
        {"precision": "fp32", "file": "evidence/fp32.json"},
        {"precision": "fp16", "file": "evidence/fp16.json"},
    ]
    sha256 = {"graphs/fp32.onnx": hashlib.sha256(graph).hexdigest()}
    files |= {f"evidence/{name}.json": tiny_evidence(sha256, name) for name in ("fp32", "fp16")}
    package = build(tmp_path / "package", tiny_manifest(TinyModel(manifest={"evidence": evidence})), files)
    request = BenchRequest(package.root, tmp_path / "out", ("openvino", "onnxruntime"), 1, 3, into_package=True)
    result = bench(request)
    rows = {(row.engine, row.precision): row for row in result.rows}
    assert {("openvino", "fp32"), ("onnxruntime", "fp32")} <= set(rows)
    row = rows[("openvino", "fp32")]
    assert (row.ran, row.speed_up, row.accuracy, row.metric) == ("fp32", 1.0, (1.0, 1.0, 1.0), "Dice")
    assert 0 < row.latency_ms <= row.slowest_ms
    assert row.peak_mib > row.added_mib > 0
    assert row.graph_bytes == len(graph)
    told = {(engine, precision): why for engine, precision, why in result.left_out}
    assert "no fp16 on the CPU" in told[("onnxruntime", "fp16")]
    made = verify(tmp_path / "out" / "tiny-levels-1.0.1")
    kept = made.evidence("fp32")
    assert kept is not None
    assert {one["engine"] for one in kept.details["bench"]["rows"]} == {"openvino", "onnxruntime"}
    page = (tmp_path / "out" / "bench.md").read_text()
    assert package.digest in page
    assert "|openvino 20" in page
    assert (tmp_path / "out" / "bench.svg").read_text().startswith("<svg")
    assert json.loads((tmp_path / "out" / "bench.json").read_text())["rows"][0]["metric"] == "Dice"
    with pytest.raises(OutputExists):
        bench(request)
    first, second = rows[("openvino", "fp32")], rows[("onnxruntime", "fp32")]
    assert {first.apart, second.apart} > {None}
    assert (first.apart or second.apart or 0) < 1e-4
    assert result.disagreements == ()
    assert "Mean difference to the first engine in a precision" in page


def test_engines_that_disagree_are_named(tmp_path: Path) -> None:
    one = np.array([[1.0, -1.0], [2.0, 0.0]], np.float32)
    assert apart_from_first(["fp32", "int8", "fp32", "int8"], [one, one, one, one + 0.5]) == [None, None, 0.0, 0.5]
    package = build(tmp_path / "package", tiny_manifest(TinyModel()), tiny_files())
    result = bench(BenchRequest(package.root, tmp_path / "out", ("onnxruntime",), 1, 3))
    unlike = replace(result, rows=(*result.rows, replace(result.rows[0], engine="other", apart=0.5)))
    assert result.disagreements == ()
    (words,) = unlike.disagreements
    assert words.startswith("other fp32 disagrees with the first engine: its answers differ by 50%")


def test_energy_is_told_in_joules_or_not_at_all(tmp_path: Path) -> None:
    assert energy_joules(tmp_path) is None
    (tmp_path / "energy_uj").write_text("2500000\n")
    assert energy_joules(tmp_path) == 2.5
