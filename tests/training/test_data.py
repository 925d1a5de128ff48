"""Cases, their cache, and the data that a training refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hounsfield.errors import GeometryRefused, InputError
from hounsfield.evaluation.dataset import read_dataset
from hounsfield.training.batches import Patches
from hounsfield.training.cache import Cache, store_all
from hounsfield.training.cases import read_volume, targets_of
from hounsfield.training.dataset_check import check_dataset
from hounsfield.training.material import gather
from hounsfield.training.recipe_text import read_recipe
from training.phantoms import AFFINE, RECIPE, make_cases, save_nifti, write_recipe, write_table

pytestmark = pytest.mark.torch

CLASSES = (
    RECIPE.replace('task = "segmentation"', 'task = "classification"')
    .replace("labels = 1\n", "")
    .replace('"cases.csv"', '"cases.csv"\ntarget = ["size"]\nclasses = ["small", "large"]')
    .replace('"attention-unet"', '"densenet121"\nspatial_dims = 3')
)


def collect(folder: Path, text: str = RECIPE) -> object:
    recipe = read_recipe(write_recipe(folder, text))
    return gather(recipe, folder, folder / "cache", 1, 1, lambda stage, done, total: None)


def test_the_cache_keeps_its_limit_and_the_values(balls: Path, tmp_path: Path) -> None:
    recipe = read_recipe(write_recipe(tmp_path))
    cases = read_dataset(balls / "cases.csv").cases
    roomy, tight = Cache(tmp_path / "c", 10**9), Cache(tmp_path / "c", 60_000)
    stored = store_all(roomy, cases, recipe)
    assert [one.case_id for one in store_all(tight, cases, recipe)] == [one.case_id for one in stored]
    box = (slice(3, 9), slice(0, 20), slice(5, 6))
    for one in stored:
        np.testing.assert_array_equal(roomy.image(one, box), tight.image(one, box))
        np.testing.assert_array_equal(roomy.label(one, box), tight.label(one, box))
    assert 0 < tight.bytes_in_memory <= 60_000 < roomy.bytes_in_memory
    assert roomy.bytes_in_memory == sum(one.channels * np.prod(one.shape) * 5 for one in stored)


def test_an_item_is_the_same_whoever_makes_it(balls: Path, tmp_path: Path) -> None:
    recipe = read_recipe(write_recipe(tmp_path))
    cases = read_dataset(balls / "cases.csv").part("train").cases
    cache = Cache(tmp_path / "c", 0)
    stored = store_all(cache, cases, recipe)
    cpu = torch.device("cpu")
    together = Patches(recipe, stored, cache, {}, {}).batch([5, 6, 7], cpu)
    alone = Patches(recipe, stored, cache, {}, {}).batch([6], cpu)
    torch.testing.assert_close(together.image[1], alone.image[0], rtol=0, atol=0)
    assert torch.equal(together.target[1], alone.target[0])
    rounds = [Patches(recipe, stored, cache, {}, {}).case_of(n).case_id for n in range(8)]
    assert sorted(rounds[:4]) == sorted(rounds[4:]) == ["c0", "c1", "c2", "c3"]


def test_patches_look_for_labels(balls: Path, tmp_path: Path) -> None:
    text = RECIPE.replace('memory = "64MiB"', 'memory = "64MiB"\nforeground = 1.0')
    recipe = read_recipe(write_recipe(tmp_path, text))
    cases = read_dataset(balls / "cases.csv").part("train").cases
    cache = Cache(tmp_path / "c", 10**9)
    patches = Patches(recipe, store_all(cache, cases, recipe), cache, {}, {})
    batch = patches.batch(list(range(40)), torch.device("cpu"))
    assert (batch.target > 0).flatten(1).any(1).float().mean() > 0.9


def test_nan_voxels_are_refused_by_case(tmp_path: Path) -> None:
    make_cases(tmp_path)
    array = np.zeros((18, 20, 16), np.float32)
    array[3, 3, 3] = np.nan
    save_nifti(tmp_path / "image1.nii.gz", array)
    with pytest.raises(InputError) as caught:
        collect(tmp_path)
    assert "p1" not in str(caught.value).replace(str(tmp_path), "")
    report = check_dataset(tmp_path / "cases.csv")
    assert not report.usable
    assert any(issue.cases == ("c1",) for issue in report.issues)


def test_a_label_with_another_grid_is_refused(tmp_path: Path) -> None:
    make_cases(tmp_path)
    moved = AFFINE.copy()
    moved[2, 3] = 2.0
    save_nifti(tmp_path / "label2.nii.gz", np.ones((18, 20, 16), np.uint8), moved)
    with pytest.raises(GeometryRefused, match="case c2: the label does not lie on its scan's grid"):
        collect(tmp_path)
    (issue,) = [one for one in check_dataset(tmp_path / "cases.csv").issues if one.severity == "refuse"]
    assert (issue.code, issue.cases) == ("geometry", ("c2",))


def test_an_unknown_label_value_is_refused(tmp_path: Path) -> None:
    make_cases(tmp_path)
    label = np.zeros((18, 20, 16), np.uint8)
    label[4, 4, 4] = 7
    save_nifti(tmp_path / "label0.nii.gz", label)
    with pytest.raises(InputError, match="holds the value 7"):
        collect(tmp_path)
    assert any(
        issue.code == "label" and "label 7" in issue.message for issue in check_dataset(tmp_path / "cases.csv").issues
    )


def test_no_labelled_voxel_is_nothing_to_learn(tmp_path: Path) -> None:
    make_cases(tmp_path)
    for n in range(4):
        save_nifti(tmp_path / f"label{n}.nii.gz", np.zeros((18, 20, 16), np.uint8))
    with pytest.raises(InputError, match="nothing to learn"):
        collect(tmp_path)
    assert any(issue.code == "one-class" for issue in check_dataset(tmp_path / "cases.csv").issues)


def test_one_class_only_is_nothing_to_learn(tmp_path: Path) -> None:
    table = make_cases(tmp_path)
    table.write_text(table.read_text().replace("small", "large"))
    with pytest.raises(InputError, match="the same value of 'size'"):
        collect(tmp_path, CLASSES)
    report = check_dataset(table, target="size")
    assert [issue.code for issue in report.issues if issue.severity == "refuse"] == ["one-class", "one-class"]


def test_an_unknown_class_is_named(tmp_path: Path) -> None:
    table = make_cases(tmp_path)
    table.write_text(table.read_text().replace("small", "tiny", 1))
    recipe = read_recipe(write_recipe(tmp_path, CLASSES))
    with pytest.raises(InputError, match="'tiny', not one of the classes"):
        targets_of(read_dataset(table).cases, recipe, table)


def test_a_leaking_patient_is_refused(tmp_path: Path) -> None:
    table = make_cases(tmp_path)
    table.write_text(table.read_text().replace("p5", "p0"))
    with pytest.raises(InputError, match="several splits"):
        collect(tmp_path)
    (issue,) = check_dataset(table).issues
    assert (issue.code, issue.severity) == ("leakage", "refuse")
    assert "p0" not in issue.message


def test_the_check_counts_draws_and_finds_copies(tmp_path: Path) -> None:
    table = make_cases(tmp_path)
    (tmp_path / "image5.nii.gz").write_bytes((tmp_path / "image0.nii.gz").read_bytes())
    report = check_dataset(table, montage_folder=tmp_path / "pages")
    assert report.cases == {"train": 4, "validation": 2}
    assert report.classes["train"] == {"label 1": 4}
    (issue,) = [one for one in report.issues if one.code == "duplicate"]
    assert (issue.severity, issue.cases) == ("refuse", ("c0", "c5"))
    with Image.open(report.montages[0]) as page:
        pixels = np.asarray(page)
    assert page.size[0] == 8 * 160
    assert ((pixels == (230, 60, 60)).all(2)).sum() > 100  # outlines are drawn


def test_a_clean_set_has_no_issues(balls: Path) -> None:
    report = check_dataset(balls / "cases.csv")
    assert report.usable
    assert report.issues == ()


def test_pictures_and_majorities_are_read(tmp_path: Path) -> None:
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8)).save(tmp_path / "one.png")
    volume = read_volume(tmp_path / "one.png")
    assert volume.geometry.shape == (1, 6, 8)
    np.testing.assert_array_equal(np.asarray(volume.array)[0], np.arange(48).reshape(6, 8))
    make_cases(tmp_path)
    drawn = [np.zeros((18, 20, 16), np.uint8) for _ in range(3)]
    for n, one in enumerate(drawn):
        one[5 + n : 12, 5:12, 5:12] = 1
        save_nifti(tmp_path / f"reader{n}.nii.gz", one)
    rows = [
        {"image": f"image{n}.nii.gz", "patient_id": f"p{n}", "split": "train", **readers}
        for n, readers in enumerate([{f"annotator_{r + 1}": f"reader{r}.nii.gz" for r in range(3)}])
    ]
    write_table(tmp_path / "readers.csv", rows)
    recipe = read_recipe(write_recipe(tmp_path))
    cache = Cache(tmp_path / "c", 0)
    (stored,) = store_all(cache, read_dataset(tmp_path / "readers.csv").cases, recipe)
    label = cache.label(stored, tuple(slice(0, n) for n in stored.shape))
    assert int(label.sum()) == int((np.mean(drawn, 0) >= 0.5).sum())
