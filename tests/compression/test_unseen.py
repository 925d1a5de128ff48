"""What the model learned from is kept out of the gate, where it can be found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hounsfield.compression.unseen import demand_unseen
from hounsfield.errors import InputError
from hounsfield.evaluation.dataset import Dataset, read_dataset
from hounsfield.packages import ModelPackage, build
from hounsfield.testing.packages import tiny_files, tiny_manifest, tiny_package

Make = Callable[[str, list[tuple[str, str, str]]], Dataset]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A table of (patient, content of the image, split)."""

    def table(name: str, rows: list[tuple[str, str, str]]) -> Dataset:
        lines = ["case_id,image,label,patient_id,split"]
        for number, (patient, content, split) in enumerate(rows):
            image = tmp_path / f"{name}{number}.nii"
            image.write_text(content)
            lines.append(f"{name}{number},{image.name},{image.name},{patient},{split}")
        (tmp_path / f"{name}.csv").write_text("\n".join(lines) + "\n")
        return read_dataset(tmp_path / f"{name}.csv")

    return table


@pytest.fixture
def package(tmp_path: Path) -> ModelPackage:
    return tiny_package(tmp_path / "package")


def test_unseen_cases_are_let_through_and_it_is_said_what_was_compared(make: Make, package: ModelPackage) -> None:
    whole = make("a", [("anna", "1", "train"), ("bert", "2", "test")])
    told = demand_unseen(whole.part("test"), whole, [make("c", [("cleo", "3", "train")])], package)
    assert told == ("2 cases of training or calibration: no patient or image in common",)
    assert demand_unseen(whole.part("test"), whole.part("test"), [], package) == ()


def test_a_case_that_is_given_in_several_ways_is_counted_once(make: Make, package: ModelPackage) -> None:
    rows = [("anna", "1", "train"), ("anna", "3", "train"), ("bert", "2", "test"), ("cleo", "4", "validation")]
    whole = make("a", rows)
    used = [whole.part("train"), whole.part("validation"), whole.part("validation")]
    told = demand_unseen(whole.part("test"), whole, used, package)
    assert told == ("3 cases of training or calibration: no patient or image in common",)


def test_what_the_model_learned_from_is_refused(make: Make, package: ModelPackage) -> None:
    whole = make("a", [("anna", "1", "train"), ("bert", "2", "test"), ("carl", "1", "test")])
    with pytest.raises(InputError, match="the part 'train'"):
        demand_unseen(whole.part("train"), whole, [], package)
    with pytest.raises(InputError, match="with images that trained or calibrated the model: a2"):
        demand_unseen(whole.part("test"), whole, [], package)
    used = make("c", [("bert", "9", "calibration")])
    one = replace(whole, cases=whole.cases[1:2])
    with pytest.raises(InputError, match="of patients that trained or calibrated the model: a1") as caught:
        demand_unseen(one, one, [used], package)
    assert "bert" not in str(caught.value)


def test_the_same_images_under_another_patient_are_looked_at_too(make: Make, package: ModelPackage) -> None:
    whole = make("a", [("anna", "1", "train"), ("bert", "2", "test")])
    said_otherwise = replace(whole.cases[0], patient_id="bert")
    for order in ((said_otherwise, whole.cases[0]), (whole.cases[0], said_otherwise)):
        used = replace(whole, cases=order)
        with pytest.raises(InputError, match="of patients that trained or calibrated the model: a1"):
            demand_unseen(whole.part("test"), whole, [used], package)


def test_the_digest_that_the_card_names_is_refused(make: Make, tmp_path: Path) -> None:
    data = make("a", [("anna", "1", "external")])
    files = tiny_files()
    files["card.md"] = f"# tiny\n\nFor tests.\n\n- Data digest: `{data.digest()}`; more.\n".encode()
    package = build(tmp_path / "named", tiny_manifest(), files)
    with pytest.raises(InputError, match="names exactly these cases"):
        demand_unseen(data, data, [], package)
    other = make("b", [("bert", "2", "external")])
    assert demand_unseen(other, other, [], package) == ("not the training data whose digest the package names (1)",)
