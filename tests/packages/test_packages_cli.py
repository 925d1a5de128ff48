"""The doors: ``hounsfield models`` and ``hounsfield package``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from package_variants import full_package
from typer.testing import CliRunner

from hounsfield.cli.models import app as models
from hounsfield.cli.package import app as package
from hounsfield.errors import PackageInvalid, PackageNotFound
from hounsfield.packages import json_schema, verify

RUN = CliRunner()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder laid out like a package, without digests."""
    root = full_package(tmp_path / "made").root
    (root / "digests.json").unlink()
    return root


def test_build_verify_install_list_and_show(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    built = json.loads(RUN.invoke(package, ["build", str(source), "-o", str(out), "--zip", "--json"]).output)
    assert built["root"] == str(out / "tiny-levels-1.0.0")
    assert built["signed"] == "unsigned"
    for path in (built["root"], built["archive"]):
        verified = json.loads(RUN.invoke(package, ["verify", path, "--json"]).output)
        assert (verified["digest"], verified["root"]) == (built["digest"], path)
    text = RUN.invoke(package, ["install", built["archive"]]).output
    assert "installed tiny-levels-1.0.0" in text
    assert built["digest"] in text
    listed = json.loads(RUN.invoke(models, ["--json"]).output)["models"]
    row = next(row for row in listed if row["reference"] == "tiny-levels-1.0.0")
    assert row["evidence"] == {"fp32": "Dice 1 (test, n=1)"}
    assert row["digest"] == built["digest"]
    shown = json.loads(RUN.invoke(models, ["show", "tiny-levels", "--json"]).output)
    assert shown["manifest"]["id"] == "tiny-levels"
    assert shown["evidence_details"]["fp32"]["scores"][0]["value"] == 1.0
    text = RUN.invoke(models, ["show", "tiny-levels"]).output
    assert "# tiny-levels" in text
    assert "unsigned" in text


def test_the_table_names_each_package_and_what_is_broken(source: Path, tmp_path: Path) -> None:
    RUN.invoke(package, ["build", str(source), "-o", str(tmp_path)])
    root = Path(
        json.loads(RUN.invoke(package, ["install", str(tmp_path / "tiny-levels-1.0.0"), "--json"]).output)["root"]
    )
    table = RUN.invoke(models, [], env={"COLUMNS": "200"}).output
    assert "tiny-levels" in table
    assert "fp32: Dice 1 (test, n=1)" in table
    (root / "card.md").write_text("changed")
    result = RUN.invoke(models, [], env={"COLUMNS": "400"})
    assert result.exit_code == 0
    assert "cannot be used" in result.output
    assert "sha256 is not the listed one" in result.output
    row = next(row for row in json.loads(RUN.invoke(models, ["--json"]).output)["models"] if row["id"] == "tiny-levels")
    assert "sha256" in row["problem"]


def test_check_says_what_is_wrong_in_a_manifest(source: Path) -> None:
    assert RUN.invoke(package, ["check", str(source)]).output == "tiny-levels-1.0.0: no fault found\n"
    path = source / "manifest.toml"
    path.write_text(path.read_text().replace("activation", "activaton"))
    result = RUN.invoke(package, ["check", str(path)])
    assert isinstance(result.exception, PackageInvalid)
    assert "did you mean 'activation'?" in str(result.exception)
    assert isinstance(RUN.invoke(package, ["check", "/nonexistent.toml"]).exception, PackageNotFound)


def test_the_source_of_a_build_is_only_read(source: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(source, copy)
    RUN.invoke(package, ["build", str(source), "-o", str(tmp_path / "out")])
    assert sorted(p.name for p in source.rglob("*")) == sorted(p.name for p in copy.rglob("*"))
    assert verify(tmp_path / "out" / "tiny-levels-1.0.0").signature is None


def test_schema_prints_the_json_schema() -> None:
    assert json.loads(RUN.invoke(package, ["schema"]).output) == json_schema()
