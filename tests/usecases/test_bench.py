"""Every graph in every engine: what runs is measured beside its accuracy, what does not says why."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from hounsfield.errors import OutputExists
from hounsfield.packages import build, verify
from hounsfield.testing.packages import TinyModel, tiny_evidence, tiny_files, tiny_manifest
from hounsfield.usecases.bench import BenchRequest, bench
from hounsfield.usecases.bench_process import energy_joules


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


def test_energy_is_told_in_joules_or_not_at_all(tmp_path: Path) -> None:
    assert energy_joules(tmp_path) is None
    (tmp_path / "energy_uj").write_text("2500000\n")
    assert energy_joules(tmp_path) == 2.5
