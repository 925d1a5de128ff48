"""``hounsfield inspect``: what it says of readable, repairable, refused and absent scans."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from hounsfield.cli.inspect import inspect as command
from hounsfield.errors import AmbiguousInput, NothingToRead, NotReadable, OutputExists
from hounsfield.usecases.events import Event
from hounsfield.usecases.inspect import InspectRequest, inspect


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A readable, a sheared and a cut scan, and a file that is none."""
    array = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    for name, shear in (("a-good", 0.0), ("b-sheared", 0.4)):
        image = nib.Nifti1Image(array, None)
        image.header.set_xyzt_units("mm")
        affine = np.diag([-1.5, -1.5, 3.0, 1.0])
        affine[1, 2] = shear
        image.set_sform(affine, 1)
        nib.save(image, tmp_path / f"{name}.nii.gz")
    (tmp_path / "c-cut.nii").write_bytes(bytes(100))
    (tmp_path / "notes.txt").write_text("hello")
    return tmp_path


def app() -> typer.Typer:
    door = typer.Typer()
    door.command()(command)
    return door


def test_each_series_gets_its_verdict_and_reasons(folder: Path) -> None:
    result = inspect(InspectRequest(folder))
    assert [one.verdict for one in result.series] == ["readable", "repairable", "refused"]
    assert [[issue.code for issue in one.series.issues] for one in result.series][1:] == [["sheared"], ["header"]]
    assert [one.path.name for one in result.skipped] == ["notes.txt"]
    assert result.any_readable


def test_json_says_the_same_as_the_values(folder: Path) -> None:
    run = CliRunner().invoke(app(), [str(folder), "--json"])
    assert run.exit_code == 0
    said = json.loads(run.stdout)
    assert said == json.loads(json.dumps(inspect(InspectRequest(folder)).as_dict()))
    first = said["series"][0]
    assert (first["shape"], first["orientation"]) == ([6, 5, 4], "LPS")
    np.testing.assert_allclose(first["spacing_mm"], (3.0, 1.5, 1.5))


def test_the_table_names_every_series_and_issue(folder: Path) -> None:
    run = CliRunner(env={"COLUMNS": "200"}).invoke(app(), [str(folder)])
    assert run.exit_code == 0
    for words in (
        "a-good.nii.gz",
        "6 x 5 x 4",
        "3 x 1.5 x 1.5",
        "readable",
        "repairable",
        "shear",
        "allow the repair",
        "refused",
    ):
        assert words in run.stdout
    assert "notes.txt" in run.stdout


def test_the_picture_is_drawn_once(folder: Path) -> None:
    out = folder / "out.png"
    events: list[Event] = []
    result = inspect(InspectRequest(folder, picture=out), events.append)
    assert result.picture == out
    with Image.open(out) as picture:
        assert picture.width > 100
    assert events
    with pytest.raises(OutputExists):
        inspect(InspectRequest(folder, picture=out))


def test_a_picture_of_a_refused_series_is_the_refusal(folder: Path) -> None:
    with pytest.raises(NotReadable):
        inspect(InspectRequest(folder, picture=folder / "out.png", series="3"))
    assert not (folder / "out.png").exists()


def test_several_series_need_a_key_for_a_picture(folder: Path) -> None:
    (folder / "z-second.nii.gz").write_bytes((folder / "a-good.nii.gz").read_bytes())
    with pytest.raises(AmbiguousInput, match="choose one"):
        inspect(InspectRequest(folder, picture=folder / "out.png"))
    assert inspect(InspectRequest(folder, picture=folder / "out.png", series="4")).picture is not None


def test_nothing_to_read_is_an_error_and_only_refusals_exit_with_1(tmp_path: Path) -> None:
    with pytest.raises(NothingToRead):
        inspect(InspectRequest(tmp_path))
    with pytest.raises(NothingToRead):
        inspect(InspectRequest(tmp_path / "absent"))
    (tmp_path / "cut.nii").write_bytes(bytes(100))
    run = CliRunner(env={"COLUMNS": "200"}).invoke(app(), [str(tmp_path)])
    assert run.exit_code == 1
    assert "refused" in run.stdout


REAL = {
    "failing/gantrytilting/001": ("repairable", "gantry tilt", None),
    "failing/notavolume/001": ("refused", "one position", None),
    "failing/slicecount/001": ("refused", "cannot make a volume", None),
    "failing/sliceincrement/001": ("repairable", "slice is missing", None),
    "failing/sliceorientation/001": ("refused", "cannot make a volume", None),
    "generic/rgb/001": ("refused", "colour", None),
    "generic/compressed_j2k/001": ("readable", "", [4, 256, 256]),
    "generic/compressed_rle/001": ("readable", "", [4, 256, 256]),
    "generic/anatomical/002_non_isotropic": ("readable", "", [4, 28, 64]),
    "ge/anatomical/001": ("readable", "", [4, 256, 256]),
    "hitachi/anatomical/001": ("readable", "", [4, 64, 64]),
    "hyperfine/anatomical/001": ("readable", "", [8, 138, 112]),
    "philips_enhanced/anatomical/001": ("readable", "", [8, 256, 256]),
    "siemens_multiframe/anatomical/001": ("readable", "", [8, 256, 256]),
}


@pytest.mark.shared_data
@pytest.mark.parametrize("name", REAL)
def test_real_folders_get_their_right_volume_or_their_right_refusal(name: str, shared_data: Path) -> None:
    verdict, words, shape = REAL[name]
    result = inspect(InspectRequest(shared_data / "dicom-tricky" / "dicom2nifti" / name))
    for one in result.series:
        assert one.verdict == verdict
        assert words in (one.reason or "")
        assert shape is None or one.as_dict()["shape"] == shape
