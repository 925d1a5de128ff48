"""The shipped package lung-nodule-ct: evidence, card and split belong together, and it outlines a real nodule."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import tarfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import SimpleITK as sitk
from tests.conftest import REPOSITORY

import hounsfield
from hounsfield.errors import SettingsError
from hounsfield.evaluation import dice
from hounsfield.packages import ModelPackage, open_package, verify
from hounsfield.reading import read
from hounsfield.training.recipe_text import read_recipe, recipe_digest
from hounsfield.usecases.job import Choices
from hounsfield.volume import Place

EXAMPLES = REPOSITORY / "examples"
EXAMPLE = EXAMPLES / "lung-nodule-ct"


def module(path: Path) -> ModuleType:
    """A script of the examples, imported."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@pytest.fixture(scope="module")
def package() -> ModelPackage:
    return open_package("lung-nodule-ct")


def test_the_evidence_is_of_the_test_part_and_of_this_training(package: ModelPackage) -> None:
    assert verify(package.root).digest == package.digest
    split = hashlib.sha256((EXAMPLE / "splits.json").read_bytes()).hexdigest()
    recipe = read_recipe(EXAMPLE / "recipe.toml")
    for precision in ("fp32", "bf16"):
        evidence = package.evidence(precision)
        assert evidence is not None
        assert (evidence.data.use, evidence.data.cases) == ("test", 224)
        assert evidence.details["data"]["split_file_sha256"] == split
        assert evidence.details["training"]["seed"] == recipe.seed
        assert evidence.details["training"]["steps"] == recipe.optimisation.steps
        assert evidence.details["failed_by_error"] == {}


def test_no_patient_is_in_two_parts_and_only_training_stacks_are_continued() -> None:
    splits = json.loads((EXAMPLE / "splits.json").read_text())
    patients = {part: {re.match(r"LIDC-IDRI-\d{4}", name)[0] for name in names} for part, names in splits.items()}
    assert {part: len(names) for part, names in splits.items()} == {"train": 1474, "validation": 141, "test": 224}
    assert sum(len(own) for own in patients.values()) == len(set().union(*patients.values())) == 350
    assert all(not name.endswith("-continued") for part in ("validation", "test") for name in splits[part])


def test_every_figure_of_the_card_is_that_of_the_evidence(package: ModelPackage) -> None:
    filled = module(EXAMPLES / "ship.py").filled
    evidence = {name: package.evidence(name) for name in ("fp32", "bf16")}
    card = filled((EXAMPLE / "card.md").read_text(encoding="utf-8"), evidence)
    assert card == package.card()
    assert "{{" not in card
    (overall,) = [s for s in evidence["fp32"].scores if s.metric == "Dice" and s.stratum == "all"]
    assert f"| Dice | {overall.value:.3f} ({overall.low:.3f} to {overall.high:.3f}; n = 224)" in card


def test_the_page_beside_nnunets_form_is_made_of_its_figures() -> None:
    results = REPOSITORY / "benchmarks" / "results" / "lung_beside_nnunet"
    facts = json.loads(results.with_suffix(".json").read_text(encoding="utf-8"))
    assert module(EXAMPLE / "beside.py").page(facts) == results.with_suffix(".md").read_text(encoding="utf-8")
    assert facts["training"]["recipe_sha256"] == recipe_digest(read_recipe(EXAMPLE / "recipe-nnunet.toml"))


@pytest.mark.shared_data
def test_a_nodule_of_a_whole_ct_around_a_point(package: ModelPackage, shared_data: Path, tmp_path: Path) -> None:
    whole_ct = module(EXAMPLE / "whole_ct.py")
    data = shared_data / "ct-chest-lidc-idri-0001"
    with tarfile.open(data / "LIDC-IDRI-0001.tar.xz") as archive:
        archive.extractall(tmp_path / "ct", filter="data")
    geometry = read(tmp_path / "ct").geometry
    masks = whole_ct.outlined(data / "069.xml", geometry)
    assert len(masks) == 4
    point = whole_ct.centre_mm(masks, geometry)
    told = package.evidence("fp32").details["facts"]["points"][0]
    assert point == pytest.approx(told["at_mm"], abs=0.06)
    with pytest.raises(SettingsError) as refused:
        hounsfield.run(package.root, tmp_path / "ct", tmp_path / "whole")
    assert "--at" in refused.value.remedy
    result = hounsfield.run(package.root, tmp_path / "ct", tmp_path / "out", choices=Choices(at=(Place(lps_mm=point),)))
    (files,) = result.outputs.values()
    assert {"seg", "sr", "nifti"} <= set(files)
    found = sitk.GetArrayFromImage(sitk.ReadImage(str(files["nifti"]))) > 0
    consensus = np.mean(masks, 0) >= 0.5
    assert dice(found, consensus) == pytest.approx(told["dice_consensus"], abs=0.01)
