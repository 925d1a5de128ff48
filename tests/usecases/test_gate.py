"""A package with two precisions through the gate: the verdict is that of the arrays, and nothing is half done."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from compress_scenes import LESION, PLAIN, network
from evaluation_scenes import make_dataset
from typer.testing import CliRunner

from hounsfield.cli.app import app
from hounsfield.compression.layers import named
from hounsfield.compression.quantising import quantise
from hounsfield.errors import EngineUnavailable, InputError, OutputExists, SettingsError
from hounsfield.packages import ModelPackage, build
from hounsfield.testing.packages import TinyModel, tiny_files, tiny_manifest
from hounsfield.usecases.gate import GateRequest, run_gate
from hounsfield.usecases.job import Choices

TINY = TinyModel(quantity="arbitrary", window=(24, 32, 28), output={"segments": [LESION]}, precisions=("fp32", "int8"))
RULE = """
format = 1
resamples = 2000
minimum_patients = 6
[[criteria]]
metric = "dice"
margin = 0.01
by = ["sex"]
"""


def quantised(graph: bytes) -> bytes:
    """The graph with all its layers in int8."""
    random = np.random.default_rng(0)
    windows = [random.choice([0.0, 100.0, 120.0], (1, 1, 24, 32, 28)).astype(np.float32) for _ in range(2)]
    made = quantise(named(onnx.load_from_string(graph)), windows, "onnxruntime").model
    data: bytes = made.SerializeToString(deterministic=True)
    return data


def package(folder: Path, level: float) -> ModelPackage:
    """fp32 that finds the ball exactly, and int8 that draws the line halfway to ``level``."""
    files = tiny_files(TINY)
    files |= {"graphs/fp32.onnx": network(PLAIN), "graphs/int8.onnx": quantised(network(PLAIN, level))}
    return build(folder, tiny_manifest(TINY), files)


@pytest.fixture
def request_of(tmp_path: Path) -> GateRequest:
    made = package(tmp_path / "package", 100.0)
    (tmp_path / "GATE.toml").write_text(RULE)
    table = make_dataset(tmp_path, 12)
    ort = Choices(engine="onnxruntime")
    return GateRequest(made.root, table, tmp_path / "GATE.toml", tmp_path / "out", candidate="int8", choices=ort)


def test_a_graph_that_answers_alike_passes_and_the_record_says_what_ran(request_of: GateRequest) -> None:
    result = run_gate(request_of)
    assert result.passed
    told = json.loads(result.outputs["json"].read_text())
    assert told["verdict"] == "pass"
    assert (told["candidate"]["ran_precision"], told["against"]["ran_precision"]) == ("int8", "fp32")
    assert [row["stratum"] for row in told["strata"]] == ["all", "sex=F", "sex=M"]
    assert told["strata"][0]["patients"] == told["cases"] == 12
    assert "**PASSED.**" in result.outputs["report"].read_text()
    assert "p00" not in result.outputs["json"].read_text()


def test_a_worse_graph_fails_and_the_command_ends_with_1(request_of: GateRequest, tmp_path: Path) -> None:
    poor = package(tmp_path / "poor", 198.0)
    words = ["gate", str(poor.root), str(request_of.dataset), "--gate", str(request_of.gate), "-o", str(tmp_path / "o")]
    answer = CliRunner().invoke(app, [*words, "--candidate", "int8", "--engine", "onnxruntime", "--quiet"])
    assert (answer.exit_code, "the gate: fail" in answer.output) == (1, True)
    found = json.loads((tmp_path / "o" / "gate.json").read_text())
    assert found["strata"][0]["mean_difference"] < -0.01


def test_too_few_cases_end_undecided_with_1_and_say_how_many(request_of: GateRequest, tmp_path: Path) -> None:
    few = replace(request_of, dataset=make_dataset(tmp_path, 5))
    result = run_gate(few)
    assert (result.passed, result.record.outcome.verdict) == (False, "undecided")
    assert "About 6 patients would be needed" in result.outputs["report"].read_text()


def test_what_cannot_begin_leaves_nothing(request_of: GateRequest, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="same precision"):
        run_gate(replace(request_of, candidate="fp32"))
    (tmp_path / "typo.toml").write_text(RULE.replace('"sex"', '"sexx"'))
    with pytest.raises(InputError, match="did you mean 'sex'"):
        run_gate(replace(request_of, gate=tmp_path / "typo.toml"))
    with pytest.raises(InputError, match="of patients that trained"):
        run_gate(replace(request_of, used=(request_of.dataset,)))
    assert not request_of.output.exists()
    with pytest.raises(OutputExists):
        run_gate(replace(request_of, output=tmp_path))


def test_another_arithmetic_than_the_candidates_is_refused(
    request_of: GateRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hounsfield.usecases import gate

    def in_fp32(*args: object) -> object:
        found = read(*args)  # type: ignore[arg-type]
        return replace(found, model=replace(found.model, ran_precision="fp32"))

    read = gate.read_all
    monkeypatch.setattr(gate, "read_all", in_fp32)
    with pytest.raises(EngineUnavailable, match="int8 was asked for, fp32 ran"):
        run_gate(request_of)
    assert not request_of.output.exists()
