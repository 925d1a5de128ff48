"""Which format a source is: one claim, several, none; and the whole way through the command line."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest
from nnunet_cases import MODELS
from test_onnx_source import given, network
from typer.testing import CliRunner

from hounsfield.cli.app import app
from hounsfield.errors import SourceError, SourceRefused, SourceUnknown
from hounsfield.packages import verify
from hounsfield.packages.manifest_text import emit_table
from hounsfield.usecases.import_model import ImportRequest, import_model

pytestmark = pytest.mark.torch
RUN = CliRunner()


def two_claims(folder: Path) -> Path:
    """An nnU-Net results folder into which somebody exported an ONNX as well."""
    shutil.copytree(MODELS / "2d", folder / "model")
    for path in network(folder / "onnx").iterdir():
        shutil.copy(path, folder / "model" / path.name)
    return folder / "model"


def test_several_claims_are_listed_and_one_is_chosen(tmp_path: Path) -> None:
    source = two_claims(tmp_path)
    with pytest.raises(SourceUnknown, match=r"several formats claim it: .*nnunet \(nnU-Net 2 model\)") as caught:
        import_model(ImportRequest(source))
    assert "onnx (" in caught.value.fact
    assert "--as" in caught.value.remedy
    assert [import_model(ImportRequest(source, format=name)).claim.format for name in ("nnunet", "onnx")] == [
        "nnunet",
        "onnx",
    ]


def test_what_no_format_knows_is_said_with_the_list(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "readme.txt").write_text("weights on request")
    with pytest.raises(SourceUnknown, match=r"no format claims it.*hippodeep, lwnet, meshnet, monai, nnunet"):
        import_model(ImportRequest(tmp_path / "model"))
    with pytest.raises(SourceUnknown, match="it is not what monai looks like"):
        import_model(ImportRequest(network(tmp_path / "onnx"), format="monai"))
    with pytest.raises(SourceError, match="there is no format 'keras'"):
        import_model(ImportRequest(tmp_path / "model", format="keras"))
    with pytest.raises(SourceUnknown, match="it cannot be read"):
        import_model(ImportRequest(tmp_path / "nothing"))


def answered(path: Path, told: dict[str, Any]) -> Path:
    lines: list[str] = []
    emit_table(told, "", lines)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_the_command_asks_then_imports_then_refuses_to_overwrite(tmp_path: Path) -> None:
    source, template, packages = network(tmp_path / "model"), tmp_path / "answers.toml", tmp_path / "packages"
    asked = RUN.invoke(app, ["import", str(source), "--template", str(template), "--quiet"])
    assert asked.exit_code == 0, asked.output
    assert "(format onnx)" in asked.output
    assert tomllib.loads(template.read_text())["package"]["id"] == "?"
    command = ["import", str(source), "-o", str(packages), "--quiet", "--answers"]
    unanswered = RUN.invoke(app, [*command, str(template)])
    assert unanswered.exit_code == 1
    assert not packages.exists()
    told = str(answered(tmp_path / "told.toml", given()))
    done = RUN.invoke(app, [*command, told])
    assert done.exit_code == 0, done.output
    assert "golden case in openvino" in done.output
    assert "seccomp" in done.output
    (root,) = packages.iterdir()
    assert verify(root).digest in done.output
    before = sorted(path.stat().st_mtime_ns for path in root.rglob("*"))
    again = RUN.invoke(app, [*command, told])
    assert again.exit_code == 1
    assert sorted(path.stat().st_mtime_ns for path in root.rglob("*")) == before


def test_a_damaged_source_that_two_could_claim_is_refused_once(tmp_path: Path) -> None:
    source = two_claims(tmp_path)
    (source / "model.onnx").write_bytes(b"\x08")
    with pytest.raises(SourceRefused, match="not an ONNX model"):
        import_model(ImportRequest(source))
