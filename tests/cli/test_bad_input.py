"""Bad input at the command line: one clear line, the right exit code, nothing half-written."""

from __future__ import annotations

import json
import resource
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from scans import CANARY, Said, Terminal, left_in, spoil, write_scan

from hounsfield.packages import ModelPackage
from hounsfield.testing.packages import TinyModel, tiny_package

MR_MODEL = "hippocampus-mr"
Make = Callable[[Path], Path]


def each_file(folder: Path, change: Callable[[bytes], bytes]) -> Path:
    for path in sorted(folder.iterdir()):
        path.write_bytes(change(path.read_bytes()))
    return folder


def truncated(root: Path) -> Path:
    return each_file(write_scan(root / "scan"), lambda data: data[:-60])


def truncated_header(root: Path) -> Path:
    """Cut 12 bytes into the value of SOPClassUID, wherever the random UIDs before it put that."""
    path = root / "cut.dcm"
    data = next(iter(write_scan(root / "scan").iterdir())).read_bytes()
    path.write_bytes(data[: data.index(struct.pack("<HH", 0x0008, 0x0016) + b"UI") + 8 + 12])
    return path


def not_dicom(root: Path) -> Path:
    path = root / "holiday.txt"
    path.write_text("sun and sea")
    return path


def without_pixels(root: Path) -> Path:
    return spoil(write_scan(root / "scan"), lambda ds: ds.__delattr__("PixelData"))


def zero_spacing(root: Path) -> Path:
    return spoil(write_scan(root / "scan"), lambda ds: setattr(ds, "PixelSpacing", [0, 0]))


def nan_spacing(root: Path) -> Path:
    def change(ds: Dataset) -> None:
        ds["PixelSpacing"] = pydicom.DataElement(0x00280030, "LO", ["nan", "nan"])

    return spoil(write_scan(root / "scan"), change)


def crooked(root: Path) -> Path:
    return spoil(write_scan(root / "scan"), lambda ds: setattr(ds, "ImageOrientationPatient", [1, 0, 0, 0.5, 1, 0]))


def huge(root: Path) -> Path:
    def change(ds: Dataset) -> None:
        ds.Rows = ds.Columns = 65535
        ds.NumberOfFrames = 1000

    return spoil(write_scan(root / "scan"), change)


def endless(root: Path) -> Path:
    """Two thousand million frames in a file of a few hundred bytes."""
    return spoil(write_scan(root / "scan"), lambda ds: setattr(ds, "NumberOfFrames", 2_000_000_000))


def huge_nifti(root: Path) -> Path:
    path = root / "huge.nii"
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.diag([1.0, 1.0, 1.0, 1.0])), path)
    data = bytearray(path.read_bytes())
    data[40:48] = struct.pack("<4h", 3, 32767, 32767, 32767)
    path.write_bytes(bytes(data))
    return path


def nested(root: Path) -> Path:
    """Sequences of undefined length, 60 deep, before the patient's name."""
    opened = b"\x08\x00\x15\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    closed = b"\xfe\xff\x0d\xe0\0\0\0\0" + b"\xfe\xff\xdd\xe0\0\0\0\0"
    name = b"\x10\x00\x10\x00PN"
    return each_file(write_scan(root / "scan"), lambda data: data.replace(name, opened * 60 + closed * 60 + name))


def wrong_length(root: Path) -> Path:
    """The length of ImageOrientationPatient runs past the end of the file."""
    tag = struct.pack("<HH", 0x0020, 0x0037) + b"DS"
    return each_file(
        write_scan(root / "scan"), lambda data: data.replace(tag + data[data.find(tag) + 6 :][:2], tag + b"\xfe\xff")
    )


def unreadable_codec(root: Path) -> Path:
    def change(data: bytes) -> bytes:
        return data.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.9.9\0")

    return each_file(write_scan(root / "scan"), change)


def empty_folder(root: Path) -> Path:
    (root / "empty").mkdir()
    return root / "empty"


def no_such_path(root: Path) -> Path:
    return root / "nowhere"


def zip_bomb(root: Path) -> Path:
    with zipfile.ZipFile(root / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("scan.dcm", bytes(100_000_000))
    return root / "bomb.zip"


BAD: dict[Make, str] = {
    truncated: "cut short: 180 of 240 bytes",
    truncated_header: "claims 26 bytes where 12 are left",
    not_dicom: "not a format that is read here",
    without_pixels: "no pixel data",
    zero_spacing: "spacing is missing or not between 0 and 100 mm",
    nan_spacing: "spacing is missing or not between 0 and 100 mm",
    crooked: "not two unit vectors at right angles",
    huge: "GiB of pixels, more than the 16.0 allowed",
    endless: "GiB of pixels, more than the 16.0 allowed",
    huge_nifti: "declares 67,102,720 MiB of voxels, more than the limit",
    nested: "nested deeper than 16",
    wrong_length: "claims 65534 bytes",
    unreadable_codec: "no decoder for the transfer syntax 1.2.840.10008.1.9.9",
    empty_folder: "there is no file in it",
    no_such_path: "there is no such file or folder",
    zip_bomb: "unpacks to more than 200 times its size",
}
bad_scans = pytest.mark.parametrize(("make", "fact"), BAD.items(), ids=[make.__name__ for make in BAD])


def refused(said: Said, path: Path, fact: str) -> None:
    """One line: the file, the fact, the remedy; exit code 1; no patient in it."""
    assert said.code == 1
    assert said.line.startswith(f"hounsfield: {path}")
    assert fact in said.line
    assert said.line.split("; ")[-1].strip()
    assert CANARY not in said.out + said.err
    assert "CANARY" not in said.out + said.err


@bad_scans
def test_run_refuses_in_one_line_and_writes_nothing(
    make: Make, fact: str, hounsfield: Terminal, tmp_path: Path
) -> None:
    path, out = make(tmp_path), tmp_path / "out"
    refused(hounsfield("run", MR_MODEL, path, "-o", out), path, fact)
    assert left_in(out) == []


@bad_scans
def test_run_as_json_says_the_same(make: Make, fact: str, hounsfield: Terminal, tmp_path: Path) -> None:
    path, out = make(tmp_path), tmp_path / "out"
    said = hounsfield("run", MR_MODEL, path, "-o", out, "--json")
    assert (said.code, said.err) == (1, "")
    error = said.data["series"][0]["error"] if "series" in said.data else said.data
    assert error["path"] == str(path)
    assert fact in error["fact"]
    assert error["remedy"]
    assert error["error"] in ("NotReadable", "NothingToRead", "GeometryRefused", "LimitExceeded", "UnsupportedEncoding")
    assert left_in(out) == []


@bad_scans
def test_inspect_says_it_too(make: Make, fact: str, hounsfield: Terminal, tmp_path: Path) -> None:
    path = make(tmp_path)
    said = hounsfield("inspect", path, "--json")
    assert (said.code, said.err) == (1, "")
    told = said.data["series"][0]["reason"] if "series" in said.data else said.data["fact"]
    assert fact in told
    shown = hounsfield("inspect", path)
    assert shown.code == 1
    assert "Traceback" not in shown.out + shown.err


def test_one_damaged_slice_is_a_gap_not_a_thinner_scan(hounsfield: Terminal, tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "scan")
    damaged = sorted(scan.iterdir())[3]
    damaged.write_bytes(damaged.read_bytes()[:-60])
    said = hounsfield("run", MR_MODEL, scan, "-o", tmp_path / "out")
    refused(said, scan, "1 slice is missing")
    assert "files that were not read: 1" in said.out
    assert damaged.name in hounsfield("inspect", scan).out


def test_a_ct_is_refused_by_a_model_for_mr(hounsfield: Terminal, tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "ct", (24, 30, 30), modality="CT")
    said = hounsfield("run", MR_MODEL, scan, "-o", tmp_path / "out")
    refused(said, scan, "must not read this scan: modality is CT, the model reads MR")
    assert left_in(tmp_path / "out") == []


def test_a_whole_head_needs_a_place_and_is_read_there(hounsfield: Terminal, tmp_path: Path) -> None:
    shape = (80, 96, 88)
    scan, out = write_scan(tmp_path / "head", shape, spacing_mm=(1.5, 1.5, 1.5)), tmp_path / "out"
    without = hounsfield("run", MR_MODEL, scan, "-o", out)
    refused(without, scan, "size of the scanned box in mm is 120 x 144 x 132")
    assert "--at X,Y,Z" in without.line
    assert left_in(out) == []
    outside = hounsfield("run", MR_MODEL, scan, "-o", out, "--at", "900,0,0")
    refused(outside, scan, "outside the scan")
    # The edge of the bright ball: the network, which wants contrast, outlines something there.
    at_mm = np.array([66.0, 72.0, 60.0])
    done = hounsfield("run", MR_MODEL, scan, "-o", out, "--at", ",".join(map(str, at_mm)), "--json", "-q")
    assert (done.code, done.err) == (0, "")
    series = done.data["series"][0]
    assert any("only the region around (66, 72, 60) mm was read" in one for one in series["warnings"])
    image = nib.load(series["outputs"]["nifti"])
    assert image.shape == shape[::-1]
    found = np.argwhere(np.asarray(image.dataobj))
    assert len(found), "the phantom gave no label, so nothing was tested"
    lps_mm = found * 1.5  # the phantom's grid starts at 0 and runs along L, P, S
    half = np.array([40, 56, 40]) / 2 + 1.5
    assert (abs(lps_mm - at_mm) <= half).all()


@pytest.mark.parametrize(
    ("words", "fact"),
    [
        (("--precision", "int8"), "has no int8 graph"),
        (("--precision", "fp16"), "has no evidence for fp16"),
        (("--precision", "bf16"), "has no gate for bf16 (proven: fp32)"),
        (("--precision", "fp7"), "'fp7' is not a precision"),
        (("--memory", "2 potatoes"), "is not a unit"),
        (("--memory", "2"), "has no unit"),
        (("--memory", "-2GiB"), "-2GiB"),
        (("--memory", "nanGiB"), "nan"),
        (("--engine", "abacus"), "engine abacus"),
        (("--device", "tpu"), "'tpu' is not a device"),
        (("--device", "cuda:31"), "no engine can run this package here"),
        (("--gpu-memory", "8 potatoes"), "is not a unit"),
        (("--series", "9"), "no series has the key '9'"),
        (("--plan", "no-such-plan.toml"), "the plan cannot be read (No such file or directory)"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_choices_that_cannot_be(words: tuple[str, ...], fact: str, hounsfield: Terminal, tmp_path: Path) -> None:
    scan, out = write_scan(tmp_path / "scan", (24, 30, 30)), tmp_path / "out"
    said = hounsfield("run", MR_MODEL, scan, "-o", out, "-q", *words)
    assert said.code == 1
    assert said.line.startswith("hounsfield: ")
    assert fact in said.line
    assert "; " in said.line
    assert left_in(out) == []
    as_json = hounsfield("run", MR_MODEL, scan, "-o", out, *words, "--json")
    error = as_json.data["series"][0]["error"] if "series" in as_json.data else as_json.data
    assert (as_json.code, as_json.err) == (1, "")
    assert fact in error["fact"]


def test_a_budget_below_the_weights(tiny: ModelPackage, hounsfield: Terminal, tmp_path: Path) -> None:
    words = (tiny.root, write_scan(tmp_path / "scan"), "-o", tmp_path / "out", "--allow-unproven", "--memory", "1MiB")
    said = hounsfield("run", *words, "-q")
    assert said.code == 1
    assert "no plan keeps the budget of 1MiB of memory; give " in said.line
    error = hounsfield("run", *words, "--json").data["series"][0]["error"]
    assert error["error"] == "NoPlan"
    assert error["smallest"]["host_bytes"] > 2**20
    assert len(error["knobs"]) >= 1
    assert left_in(tmp_path / "out") == []


def test_an_unproven_precision_runs_when_it_is_asked_for_and_says_so(hounsfield: Terminal, tmp_path: Path) -> None:
    package = tiny_package(tmp_path / "tiny", TinyModel((0.0, 4095.0), "MR", "arbitrary", window=(8, 8, 8)))
    scan, out = write_scan(tmp_path / "scan"), tmp_path / "out"
    said = hounsfield("run", package.root, scan, "-o", out)
    assert said.code == 1
    assert "has no evidence for fp32" in said.line
    assert "--allow-unproven" in said.line
    done = hounsfield("run", package.root, scan, "-o", out, "--allow-unproven", "--json")
    assert done.code == 0
    assert "the package has no evidence for fp32" in done.data["series"][0]["warnings"]


@pytest.mark.parametrize(
    "words",
    [("--at", "1,2"), ("--at", "nan,0,0"), ("--at", "left"), ("--seg", "colour"), ("--threads", "-1"), ("--colour",)],
    ids=" ".join,
)
def test_usage_errors_end_with_2(words: tuple[str, ...], hounsfield: Terminal, tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "scan")
    said = hounsfield("run", MR_MODEL, scan, "-o", tmp_path / "out", *words)
    assert said.code == 2
    assert words[0] in said.err
    assert "Traceback" not in said.err
    assert left_in(tmp_path / "out") == []


def test_no_output_no_input_no_verb(hounsfield: Terminal) -> None:
    assert hounsfield("run", MR_MODEL, "scan").code == 2
    assert hounsfield("run").code == 2
    assert hounsfield("rum").code == 2


def test_a_plan_that_is_none(hounsfield: Terminal, tmp_path: Path) -> None:
    scan, out, plan = write_scan(tmp_path / "scan"), tmp_path / "out", tmp_path / "plan.toml"
    for content, fact in ((b"engine = ", "not TOML"), (b"\xff\xfe", "not text"), (b"format = 1", "is missing")):
        plan.write_bytes(content)
        said = hounsfield("run", MR_MODEL, scan, "-o", out, "--plan", plan)
        assert said.code == 1
        assert said.line.startswith(f"hounsfield: {plan}: ")
        assert fact in said.line
    assert left_in(out) == []


def test_a_wrong_name_gets_the_right_ones(hounsfield: Terminal, tmp_path: Path) -> None:
    said = hounsfield("run", "hipocampus-mr", write_scan(tmp_path / "scan"), "-o", tmp_path / "out")
    assert said.code == 1
    assert "no package 'hipocampus-mr' is installed" in said.line
    assert "hippocampus-mr-2.0.0" in said.line


def test_a_hostile_package_is_refused(tiny: ModelPackage, hounsfield: Terminal, tmp_path: Path) -> None:
    scan, out = write_scan(tmp_path / "scan"), tmp_path / "out"
    pickled = tmp_path / "pickled"
    shutil.copytree(tiny.root, pickled)
    (pickled / "weights.pkl").write_bytes(b"\x80\x04cos\nsystem\n")
    changed = tmp_path / "changed"
    shutil.copytree(tiny.root, changed)
    with (changed / "graphs" / "fp32.onnx").open("ab") as graph:
        graph.write(b"\0")
    linked = tmp_path / "linked"
    shutil.copytree(tiny.root, linked)
    (linked / "card.md").unlink()
    (linked / "card.md").symlink_to("/etc/hostname")
    for package in (pickled, changed, linked):
        said = hounsfield("run", package, scan, "-o", out)
        assert said.code == 1, package
        assert said.line.startswith(f"hounsfield: {package}"), said
        as_json = hounsfield("run", package, scan, "-o", out, "--json")
        assert as_json.data["error"] in ("PackageRefused", "PackageInvalid")
        assert as_json.data["path"].startswith(str(package))
    assert left_in(out) == []


def test_what_stands_in_the_output_folder_stays(hounsfield: Terminal, tmp_path: Path) -> None:
    scan, out = write_scan(tmp_path / "scan"), tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("all of it")
    said = hounsfield("run", MR_MODEL, scan, "-o", out)
    assert said.code == 1
    assert said.line.startswith(f"hounsfield: {out}: the output folder is not empty")
    assert left_in(out) == ["thesis.txt"]
    file = hounsfield("run", MR_MODEL, scan, "-o", out / "thesis.txt")
    assert file.code == 1
    assert "there is a file where the output folder should be" in file.line
    assert (out / "thesis.txt").read_text() == "all of it"


def test_a_foreign_folder_is_not_resumed(hounsfield: Terminal, tmp_path: Path) -> None:
    scan, out = write_scan(tmp_path / "scan"), tmp_path / "out"
    (out / "a").mkdir(parents=True)
    (out / "a" / "result.json").write_text('{"mine": true}')
    said = hounsfield("run", MR_MODEL, scan, "-o", out, "--resume")
    assert said.code == 1
    assert "this is not a result of hounsfield" in said.line
    assert left_in(out) == ["a", "a/result.json"]


def test_a_full_disk_leaves_nothing(tiny: ModelPackage, tmp_path: Path) -> None:
    """No process of the run may write a file of more than 4 KB: voxels go in, the SEG does not."""
    scan, out = write_scan(tmp_path / "scan"), tmp_path / "out"
    limit = 4096
    words = ["run", str(tiny.root), str(scan), "-o", str(out), "--allow-unproven"]
    done = subprocess.run(
        [sys.executable, "-m", "hounsfield", *words],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    said = Said(done.returncode, done.stdout, done.stderr)
    assert said.code == 1, said
    assert "the disk is full" in said.line
    assert "free some space" in said.line
    assert left_in(out) == []


def test_an_output_folder_that_may_not_be_made(hounsfield: Terminal, tiny: ModelPackage, tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "scan")
    (tmp_path / "file").write_text("")
    said = hounsfield("run", tiny.root, scan, "-o", tmp_path / "file" / "out", "--allow-unproven")
    assert said.code == 1
    assert str(tmp_path / "file") in said.line
    assert (tmp_path / "file").read_text() == ""


def test_the_installed_command_is_this_one(tmp_path: Path) -> None:
    """Once as a process of its own: same line, same code, JSON on standard output."""
    command = [sys.executable, "-m", "hounsfield", "run", MR_MODEL, str(tmp_path / "none"), "-o", str(tmp_path / "o")]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert told.returncode == 1
    assert told.stderr == f"hounsfield: {tmp_path / 'none'}: there is no such file or folder; check the path\n"
    data = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    assert data.returncode == 1
    assert data.stderr == ""
    assert json.loads(data.stdout)["error"] == "NothingToRead"
