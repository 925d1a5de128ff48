"""The calibration cache: it round-trips, and nothing damaged is ever believed."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hounsfield.errors import OutputError
from hounsfield.planning.calibration import load, plausible, save
from planning.builders import calibration, graph


def test_a_record_is_kept_and_found(tmp_path: Path) -> None:
    record = calibration()
    path = save(record, tmp_path / "calibration")
    assert load(record.key, tmp_path / "calibration") == record
    assert [entry.name for entry in path.parent.iterdir()] == [record.key.file_name]


def test_another_key_finds_nothing(tmp_path: Path) -> None:
    record = calibration()
    save(record, tmp_path)
    assert load(replace(record.key, threads=3), tmp_path) is None
    assert load(record.key, tmp_path / "absent") is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"format": 2}', b"\xff\xfe", b"1" * 70000])
def test_a_damaged_file_counts_as_absent(tmp_path: Path, content: bytes) -> None:
    record = calibration()
    save(record, tmp_path).write_bytes(content)
    assert load(record.key, tmp_path) is None


def test_an_edited_number_is_noticed(tmp_path: Path) -> None:
    record = calibration()
    path = save(record, tmp_path)
    document = json.loads(path.read_text())
    document["record"]["workspace_bytes"] //= 10
    path.write_text(json.dumps(document))
    assert load(record.key, tmp_path) is None


def test_a_record_moved_under_another_key_is_not_believed(tmp_path: Path) -> None:
    record = calibration()
    other = replace(record.key, engine="onnxruntime")
    save(record, tmp_path).rename(tmp_path / other.file_name)
    assert load(other, tmp_path) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("workspace_bytes", 1000),
        ("workspace_bytes", -1),
        ("process_bytes", 0),
        ("seconds_per_window", 0.0),
        ("seconds_per_window", float("nan")),
        ("seconds_per_window", 1e-6),
        ("load_peak_bytes", 0),
        ("loaded_bytes", 1000),
        ("device_bytes", 2**60),
    ],
)
def test_what_cannot_have_been_measured_is_not_plausible(field: str, value: float) -> None:
    assert plausible(calibration(), graph())
    assert not plausible(replace(calibration(), **{field: value}), graph())


def test_a_home_that_cannot_be_written_is_an_error_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="calibration"):
        save(calibration(), tmp_path / "file" / "calibration")
