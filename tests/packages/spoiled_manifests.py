"""Manifests, cards and evidence that are damaged or lie."""

from __future__ import annotations

from pathlib import Path

from package_variants import (
    edit_manifest,
)
from spoiling import hostile

from hounsfield.errors import PackageInvalid, PackageRefused
from hounsfield.testing.packages import tiny_evidence


@hostile(PackageInvalid, "has no manifest.toml")
def no_manifest(root: Path) -> None:
    (root / "manifest.toml").unlink()


@hostile(PackageInvalid, "not TOML")
def manifest_not_toml(root: Path) -> None:
    (root / "manifest.toml").write_text("format = = 1")


@hostile(PackageInvalid, "nested too deeply")
def manifest_nested_deeply(root: Path) -> None:
    (root / "manifest.toml").write_text("a = " + "[" * 20_000)


@hostile(PackageRefused, "more than the 262144 allowed")
def manifest_too_large(root: Path) -> None:
    (root / "manifest.toml").write_text("# " + "x" * 300_000)


@hostile(PackageRefused, "the key '_target_' is no plain name")
def hydra_target(root: Path) -> None:
    edit_manifest(root, "[architecture]\n", '[architecture]\n_target_ = "os.system"\n')


@hostile(PackageRefused, "looks like an expression")
def bundle_expression(root: Path) -> None:
    edit_manifest(root, 'title = "', 'title = "$import os')


@hostile(PackageRefused, "looks like an expression")
def call_of_eval(root: Path) -> None:
    edit_manifest(root, 'intended_use = "', "intended_use = \"eval ('1')")


@hostile(PackageRefused, "looks like an expression")
def dunder_in_a_text(root: Path) -> None:
    edit_manifest(root, 'title = "', 'title = "a.__class__.mro')


@hostile(PackageInvalid, "architecture: 'act' is not a number, a plain word")
def code_in_architecture(root: Path) -> None:
    edit_manifest(root, "[architecture]\n", '[architecture]\nact = "lambda x: x"\n')


@hostile(PackageInvalid, "graphs[0].file: '../other.onnx' is not a plain relative path")
def graph_outside(root: Path) -> None:
    edit_manifest(root, "graphs/fp32.onnx", "../other.onnx")


@hostile(PackageInvalid, "graphs[0].file: '/etc/model.onnx' is not a plain relative path")
def graph_at_an_absolute_path(root: Path) -> None:
    edit_manifest(root, "graphs/fp32.onnx", "/etc/model.onnx")


@hostile(PackageInvalid, "graphs folder")
def graph_in_another_folder(root: Path) -> None:
    edit_manifest(root, "graphs/fp32.onnx", "evidence/fp32.onnx")


@hostile(PackageInvalid, "did you mean 'window'?")
def misspelt_key(root: Path) -> None:
    edit_manifest(root, "[input.window]", "[input.windw]")


@hostile(PackageInvalid, "output.segments[0].number")
def number_not_finite(root: Path) -> None:
    edit_manifest(root, "number = 1", "number = nan")


@hostile(PackageInvalid, "not TOML")
def number_with_10000_digits(root: Path) -> None:
    edit_manifest(root, "format = 1", "format = " + "1" * 10_000)


@hostile(PackageInvalid, "uses 'graphs/spare.onnx'")
def graph_that_nothing_names(root: Path) -> None:
    (root / "graphs/spare.onnx").write_bytes((root / "graphs/fp32.onnx").read_bytes())


@hostile(PackageInvalid, "made for another graph")
def evidence_of_another_graph(root: Path) -> None:
    (root / "evidence/fp32.json").write_bytes(tiny_evidence({"graphs/fp32.onnx": "0" * 64}))


@hostile(PackageInvalid, "NaN is not a JSON number")
def evidence_with_nan(root: Path) -> None:
    text = (root / "evidence/fp32.json").read_text()
    (root / "evidence/fp32.json").write_text(text.replace('"value": 1.0', '"value": NaN'))


@hostile(PackageInvalid, "outside its interval")
def evidence_outside_its_interval(root: Path) -> None:
    text = (root / "evidence/fp32.json").read_text()
    (root / "evidence/fp32.json").write_text(text.replace('"value": 1.0', '"value": 1.5'))


@hostile(PackageInvalid, "a segment that the manifest lacks")
def evidence_of_an_unknown_segment(root: Path) -> None:
    text = (root / "evidence/fp32.json").read_text()
    (root / "evidence/fp32.json").write_text(text.replace('"segment": 1', '"segment": 7'))


@hostile(PackageRefused, "looks like an expression")
def evidence_with_an_expression(root: Path) -> None:
    text = (root / "evidence/fp32.json").read_text()
    (root / "evidence/fp32.json").write_text(text.replace("none: exact", "$(rm -rf) exact"))


@hostile(PackageInvalid, "not strict JSON")
def evidence_nested_deeply(root: Path) -> None:
    (root / "evidence/fp32.json").write_text("[" * 200_000)


@hostile(PackageInvalid, "has no card.md")
def no_card(root: Path) -> None:
    (root / "card.md").unlink()
