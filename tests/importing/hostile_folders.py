"""Hostile and broken folders of several nnU-Net models, added to the table of :mod:`hostile_sources`."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

from hostile_sources import Canary, case
from hostile_weights import MODEL, edit, packed

FOLDERS = Path(__file__).with_name("nnunet_folders")
LOW, FULL = "nnUNetTrainer__nnUNetPlans__3d_lowres", "nnUNetTrainer__nnUNetPlans__3d_cascade_fullres"


def several(folder: Path, count: int) -> Path:
    """The same good model under several names."""
    for number in range(count):
        name = f"Dataset{291 + number}_part"
        shutil.copytree(MODEL, folder / "weights" / name / "nnUNetTrainer__nnUNetPlans__3d_fullres")
    return folder / "weights"


def cascade(folder: Path) -> Path:
    """A copy of a good cascade."""
    shutil.copytree(FOLDERS / "cascade", folder / "weights")
    return folder / "weights"


@case("two of its models answer 'left'; import each by itself, for example Dataset291_part/")
def nnunet_models_that_answer_the_same(folder: Path, canary: Canary) -> Path:
    return several(folder, 2)


@case("it holds 17 nnU-Net models; give at most 16")
def nnunet_too_many_models(folder: Path, canary: Canary) -> Path:
    return several(folder, 17)


@case("is the second of a cascade, and no model of 3d_lowres lie beside it")
def nnunet_cascade_without_its_first_stage(folder: Path, canary: Canary) -> Path:
    source = cascade(folder)
    shutil.rmtree(source / LOW)
    return source


@case("the two stages of .* answer other labels")
def nnunet_cascade_of_two_trainings(folder: Path, canary: Canary) -> Path:
    source = cascade(folder)
    edit(source / LOW / "dataset.json", lambda table: table["labels"].update({"left": 2, "right": 1}))
    return source


@case("order is not 1, and 0 along the third axis, for labels")
def nnunet_cascade_with_its_own_resampling(folder: Path, canary: Canary) -> Path:
    source = cascade(folder)

    def change(table: dict[str, dict[str, dict[str, object]]]) -> None:
        table["configurations"]["3d_fullres"]["resampling_fn_seg_kwargs"] = {"is_seg": True, "order": 0}

    edit(source / FULL / "plans.json", change)
    return source


@case(r"names '__builtin__\.exec'")
def nnunet_payload_in_the_second_stage(folder: Path, canary: Canary) -> Path:
    path = cascade(folder) / FULL / "fold_0" / "checkpoint_final.pth"
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    data = {name: canary.pickle() if name.endswith("data.pkl") else old for name, old in entries.items()}
    packed(path.parent, data, path.name)
    return folder / "weights"


@case("a link or no plain file")
def nnunet_linked_stage(folder: Path, canary: Canary) -> Path:
    source = cascade(folder)
    (source / LOW).rename(folder / "elsewhere")
    (source / LOW).symlink_to(folder / "elsewhere")
    return source
