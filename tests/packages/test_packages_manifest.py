"""The manifest: published schema, errors of one line with a proposal, canonical text."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from package_variants import ARCHITECTURE, EVIDENCE

from hounsfield.errors import PackageInvalid, PackageRefused
from hounsfield.packages import Manifest, json_schema, manifest_toml, parse_manifest
from hounsfield.testing.packages import TinyModel, tiny_manifest

REPOSITORY = Path(__file__).resolve().parents[2]
SCHEMA = REPOSITORY / "docs/reference/manifest.schema.json"
REAL = Path(__file__).with_name("written_by_hand.toml")


def test_the_published_schema_is_the_code() -> None:
    published = json.loads(SCHEMA.read_text())
    assert published == json_schema(), "write it again: hounsfield package schema > docs/reference/manifest.schema.json"


@pytest.mark.parametrize("text", [REAL.read_text(), manifest_toml(tiny_manifest())], ids=["real", "tiny"])
def test_the_schema_accepts_real_manifests(text: str) -> None:
    table = tomllib.loads(text)
    jsonschema.Draft202012Validator.check_schema(json_schema())
    jsonschema.Draft202012Validator(json_schema()).validate(table)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("task",), "guess"),
        (("format",), 2),
        (("extra",), 1),
        (("input", "window", "overlap"), 1.0),
        (("input", "window", "shape"), [0, 1, 1]),
        (("domain", "modality", "breach"), "ignore"),
        (("output", "segments", 0, "number"), 0),
        (("graphs",), []),
    ],
)
def test_schema_and_code_refuse_the_same(path: tuple[Any, ...], value: object) -> None:
    table = tomllib.loads(REAL.read_text())
    inner: Any = table
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(json_schema()).validate(table)
    with pytest.raises(ValueError, match=str(path[-1])):
        Manifest.model_validate(table)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("overlap", "overlop", "the key input.window.overlop is not known; did you mean 'overlap'?"),
        ('step = "z-score"', 'step = "z-scor"', "did you mean 'z-score'?"),
        ("low = 0.005", "lov = 0.005", "clip-quantiles.lov is not known (and 1 more); did you mean 'low'?"),
        ('precision = "fp32"', 'precision = "fp23"', "graphs[0].precision: 'fp32', 'bf16', 'fp16' or 'int8'"),
        ('version = "1.0.0"', 'version = "1"', "version: String should match"),
        ('task = "segmentation"', "", "the key task is missing; add it"),
        ("number = 2", "number = 3", "segment numbers must count 1, 2, 3"),
        ("segments = [1, 2]", "segments = [1, 9]", "clean_up names segments that do not exist: [9]"),
        ('orientation = "LPS"', 'orientation = "LLS"', "input.orientation"),
    ],
)  # fmt: skip
def test_a_fault_is_one_line_with_its_key(old: str, new: str, words: str) -> None:
    text = REAL.read_text()
    assert old in text
    with pytest.raises(PackageInvalid) as caught:
        parse_manifest(text.replace(old, new, 1).encode(), Path("manifest.toml"))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_money_and_mail_are_no_expressions() -> None:
    text = REAL.read_text().replace("Research use only.", "Costs $15 000, 100 % free; write to a@b.org (evaluated).", 1)
    assert "$15 000" in parse_manifest(text.encode()).intended_use


@pytest.mark.parametrize("value", ["$x", "@model", "${HOME}", "$(id)", "eval(1)", "__import__('os')", "os.system"])
def test_expressions_are_refused_in_any_text(value: str) -> None:
    text = REAL.read_text().replace("Research use only.", "", 1).replace("Hippocampus, anterior", value, 1)
    with pytest.raises(PackageRefused, match="looks like an expression"):
        parse_manifest(text.encode())


def test_the_text_of_a_manifest_reads_back_the_same() -> None:
    model = TinyModel(
        levels=(-1000.0, 0.0, 1e3),
        intensity=[{"step": "clip", "low": -1000, "high": 1e3}, {"step": "z-score", "non_zero_only": True}],
        spacing_mm=(2.5, 0.1, 1e-3),
        output={"clean_up": [{"step": "remove-small", "segments": [1], "volume_mm3": 3.5}]},
        domain={"age_years": {"low": 18, "breach": "warn"}},
        manifest={"architecture": ARCHITECTURE, "title": 'A "quoted" \\ tïtle\t\x7f', "evidence": EVIDENCE},
    )
    manifest = tiny_manifest(model)
    text = manifest_toml(manifest)
    assert parse_manifest(text.encode()) == manifest
    assert manifest_toml(parse_manifest(text.encode())) == text


@pytest.mark.parametrize(("activation", "classes"), [("softmax", 3), ("sigmoid", 2), ("none", 3)])
def test_classes_follow_from_segments_and_activation(activation: str, classes: int) -> None:
    manifest = tiny_manifest(TinyModel(levels=(0, 1, 2), output={"activation": activation}))
    assert manifest.output.channels == classes


def test_bf16_runs_the_fp32_graph_and_int8_needs_its_own() -> None:
    manifest = tiny_manifest(TinyModel(precisions=("fp32", "fp16")))
    found = {name: manifest.graph_for(name) for name in ("fp32", "bf16", "fp16", "int8")}
    assert {name: graph and graph.file for name, graph in found.items()} == {
        "fp32": "graphs/fp32.onnx",
        "bf16": "graphs/fp32.onnx",
        "fp16": "graphs/fp16.onnx",
        "int8": None,
    }


def test_evidence_needs_a_graph_that_can_run_at_its_precision() -> None:
    evidence = [{"precision": "bf16", "file": "evidence/x.json"}]
    assert tiny_manifest(TinyModel(manifest={"evidence": evidence})).evidence[0].precision == "bf16"
    evidence[0]["precision"] = "int8"
    with pytest.raises(ValueError, match="evidence for int8, which no graph can run at"):
        tiny_manifest(TinyModel(manifest={"evidence": evidence}))
