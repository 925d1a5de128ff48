"""From fp32 to int8 and bf16 under a gate: what comes out, what is refused, and what never gets that far."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from compress_scenes import PLAIN, RULE, WIDE, fp32_package, split_table
from typer.testing import CliRunner

from hounsfield.cli.app import app
from hounsfield.errors import EngineUnavailable, InputError, OutputExists, PackageInvalid, SettingsError
from hounsfield.inference.engine import LoadSettings, OnnxGraph, engine
from hounsfield.packages import verify
from hounsfield.planning.machine import Machine
from hounsfield.usecases import compress as room
from hounsfield.usecases.compress import CompressRequest, compress, next_minor
from hounsfield.usecases.job import Choices
from hounsfield.usecases.sessions import proven_precision

WITH_INT8 = Machine("tests", 1, 2**33, 2**33, frozenset({"avx512_vnni"}))
WITHOUT = Machine("tests", 1, 2**33, 2**33, frozenset({"avx2"}))


@pytest.fixture
def request_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CompressRequest:
    """int8 by ONNX Runtime of the package that survives it."""
    monkeypatch.setattr(room, "read_machine", lambda: WITH_INT8)
    (tmp_path / "GATE.toml").write_text(RULE)
    return CompressRequest(
        model=fp32_package(tmp_path / "fp32", PLAIN).root,
        to="int8",
        gate=tmp_path / "GATE.toml",
        output=tmp_path / "out",
        calibration=split_table(tmp_path),
        choices=Choices(engine="onnxruntime", threads=1),
    )


def on_openvino(request: CompressRequest, folder: Path) -> CompressRequest:
    """The package that plain int8 damages, in the engine that computes single layers in integers."""
    wide = fp32_package(folder / "wide", WIDE).root
    return replace(request, model=wide, quantiser="onnxruntime", choices=Choices(engine="openvino", threads=1))


def test_int8_that_loses_nothing_becomes_a_proven_graph_of_a_new_version(request_of: CompressRequest) -> None:
    result = compress(request_of)
    assert result.passed
    assert result.package is not None
    made = verify(result.package.root)
    assert (made.reference, made.precisions, made.proven()) == ("tiny-levels-1.1.0", ("fp32", "int8"), ("int8",))
    assert proven_precision(made, Choices("int8")) == "int8"
    evidence = made.evidence("int8")
    assert evidence is not None
    assert evidence.gate is not None
    assert (evidence.gate.verdict, evidence.gate.patients, evidence.data.cases) == ("pass", 6, 6)
    told = evidence.details["compression"]
    assert (told["int8_layers"], told["fp32_layers"]) == (["spread", "copy", "decide"], [])
    assert told["calibration_cases"] == 3
    assert evidence.summary().endswith("gate passed)")
    assert "Gate against fp32: pass" in made.card()
    weights = {t.name: t.data_type for t in onnx.load(made.graph_path("int8")).graph.initializer}
    assert sum(kind == onnx.TensorProto.INT8 for kind in weights.values()) >= 3


def test_one_fp32_reading_of_the_same_graph_serves_again(request_of: CompressRequest, tmp_path: Path) -> None:
    first = compress(request_of)
    again = replace(request_of, output=tmp_path / "again", version="1.2.0")
    second = compress(again, reference=first.judged.reference)
    assert second.judged.record.outcome == first.judged.record.outcome
    assert second.judged.record.against.reference == second.judged.record.candidate.reference == "tiny-levels-1.2.0"
    assert second.package is not None
    assert verify(second.package.root).proven() == ("int8",)
    wide = replace(on_openvino(request_of, tmp_path), plain=True, output=tmp_path / "other")
    with pytest.raises(SettingsError, match="read by another graph"):
        compress(wide, reference=first.judged.reference)
    assert not (tmp_path / "other").exists()


def test_plain_int8_of_a_wide_range_fails_and_leaving_a_layer_out_mends_it(
    request_of: CompressRequest, tmp_path: Path
) -> None:
    wide = on_openvino(request_of, tmp_path)
    plain = compress(replace(wide, plain=True, output=tmp_path / "plain"))
    assert (plain.judged.record.outcome.verdict, plain.package) == ("fail", None)
    assert len(plain.judged.record.outcome.changes) == 6
    assert not list((tmp_path / "plain").glob("tiny*"))
    kept = compress(replace(wide, plain=True, keep_failed=True, output=tmp_path / "kept"))
    assert kept.package is not None
    with pytest.raises(PackageInvalid, match="has a failed gate for int8"):
        proven_precision(kept.package, Choices("int8"))
    named = compress(replace(wide, exclude=("copy", "decide"), output=tmp_path / "named"))
    assert named.passed
    assert named.compression.layers == ("spread",)
    assert named.compression.sensitivities[0].difference < 0.05
    words = json.loads((tmp_path / "named" / "compress.json").read_text())
    assert words["fp32_layers"] == ["copy", "decide"]


def test_the_layers_to_leave_out_are_found_by_measuring(request_of: CompressRequest, tmp_path: Path) -> None:
    result = compress(on_openvino(request_of, tmp_path))
    order = [one.layer for one in result.compression.sensitivities]
    assert set(order[:2]) == {"copy", "decide"}
    assert [len(one.excluded) for one in result.compression.attempts] == [0, 1]
    assert "What each layer costs by itself" in (request_of.output / "compress.md").read_text()


@pytest.mark.parametrize("quantiser", ["nncf", "onnxruntime"])
def test_openvino_says_int8_where_int8_runs(request_of: CompressRequest, quantiser: str) -> None:
    ov = replace(request_of, quantiser=quantiser, choices=Choices(engine="openvino", threads=1), keep_failed=True)
    result = compress(ov)
    assert result.package is not None
    graph = OnnxGraph(result.package.graph_path("int8"), quantised=True)
    session = engine("openvino").load(graph, LoadSettings("int8", (24, 32, 28), threads=1))
    assert session.precision == "int8"
    assert result.judged.record.candidate.ran_precision == "int8"
    session.close()


def test_an_int8_graph_that_the_engine_would_run_in_floats_is_refused(request_of: CompressRequest) -> None:
    with pytest.raises(EngineUnavailable, match="onnxruntime would compute this int8 graph in fp32"):
        compress(replace(request_of, exclude=("copy", "decide"), plain=True))
    assert not request_of.output.exists()


@pytest.mark.parametrize("to", ["bf16", "fp16"])
def test_half_weights_take_half_the_bytes_and_nothing_is_quantised(request_of: CompressRequest, to: str) -> None:
    from hounsfield.compression.weights16 import with_16bit_weights

    fp32 = onnx.load(Path(request_of.model) / "graphs" / "fp32.onnx")
    big = np.random.default_rng(0).normal(size=(8, 8, 9, 9, 9)).astype(np.float32)
    fp32.graph.initializer[1].CopyFrom(onnx.numpy_helper.from_array(big, "w1"))
    fp32.graph.node[1].attribute[0].ints[:] = [9, 9, 9]
    fp32.graph.node[1].attribute[1].ints[:] = [4] * 6
    half = with_16bit_weights(fp32, "bf16" if to == "bf16" else "fp16")
    assert len(half.SerializeToString()) < 0.52 * len(fp32.SerializeToString())
    window = np.random.default_rng(1).normal(size=(1, 1, 12, 12, 12)).astype(np.float32)
    settings = LoadSettings("fp32", (12, 12, 12), threads=1)
    answers = [
        engine("openvino").load(OnnxGraph(model.SerializeToString()), settings).infer(window).copy()
        for model in (fp32, half)
    ]
    difference = np.abs(answers[0] - answers[1]).max() / np.abs(answers[0]).max()
    assert 0 < difference < {"bf16": 2**-8, "fp16": 2**-11}[to] * 2


def test_what_cannot_begin_leaves_nothing(
    request_of: CompressRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SettingsError, match="no way to compress to 'int4'"):
        compress(replace(request_of, to="int4"))
    with pytest.raises(SettingsError, match="int8 needs cases to calibrate with"):
        compress(replace(request_of, calibration=None))
    with pytest.raises(InputError, match="of patients that trained or calibrated"):
        compress(replace(request_of, test=request_of.calibration, calibration_part="test"))
    with pytest.raises(InputError, match="of patients that trained or calibrated"):
        compress(replace(request_of, used=(_only(request_of, tmp_path, "validation"),)))
    table = request_of.calibration
    assert table is not None
    as_training = tmp_path / "as_training.csv"
    as_training.write_text(table.read_text().replace(",validation,", ",train,"))
    with pytest.raises(InputError, match="of patients that trained or calibrated"):
        compress(replace(request_of, calibration=as_training, calibration_part="train"))
    with pytest.raises(OutputExists):
        compress(replace(request_of, output=tmp_path))
    with pytest.raises(SettingsError, match="no layer 'dec'"):
        compress(replace(request_of, exclude=("dec",)))
    monkeypatch.setattr(room, "read_machine", lambda: WITHOUT)
    with pytest.raises(EngineUnavailable, match="no int8 instructions"):
        compress(request_of)
    assert not request_of.output.exists()


def _only(request: CompressRequest, folder: Path, part: str) -> Path:
    """A table with one part of the request's table."""
    assert request.calibration is not None
    with request.calibration.open(encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["split"] == part]
    path = folder / "used.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows([{**row, "split": "train"} for row in rows])
    return path


def test_the_command_tells_the_verdict_and_ends_with_it(request_of: CompressRequest) -> None:
    words = ["compress", str(request_of.model), "--to", "int8", "--calibration", str(request_of.calibration)]
    words += ["--gate", str(request_of.gate), "-o", str(request_of.output), "--engine", "onnxruntime", "--quiet"]
    answer = CliRunner().invoke(app, [*words, "--threads", "1"])
    assert (answer.exit_code, "the gate: pass" in answer.output) == (0, True), answer.output
    assert "3 layers in int8, 0 left in fp32" in answer.output


def test_the_next_version_is_the_next_minor_one() -> None:
    assert [next_minor(one) for one in ("1.0.0", "1.9.3")] == ["1.1.0", "1.10.0"]
