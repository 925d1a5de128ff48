"""The audit trail shows every change but one: an end that was cut off, which a copy of the last digest shows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hounsfield.audit import AuditEvent, Ledger, verify
from hounsfield.errors import NotReadable, OutputError


def ledger(folder: Path, lines: int = 5) -> Ledger:
    found = Ledger(folder / "audit.jsonl")
    for number in range(lines):
        found.write(AuditEvent("instances-transferred", "CT1", {"instances": number, "study": "1.2.3"}))
    return found


def test_lines_follow_each_other_and_name_the_event_by_its_code(tmp_path: Path) -> None:
    found = ledger(tmp_path)
    assert verify(found.path).holds
    assert verify(found.path).lines == 5
    line = json.loads(found.path.read_text().splitlines()[-1])
    assert line["event"] == {"code": "110104", "scheme": "DCM", "meaning": "DICOM Instances Transferred"}
    assert found.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("harm", "fault"),
    [
        (lambda lines: [lines[0], lines[1].replace(b'"CT1"', b'"CT2"'), *lines[2:]], "line 2: it was changed"),
        (lambda lines: [*lines[:2], *lines[3:]], "line 3: it has the number 4"),
        (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], "line 2: it has the number 3"),
        (lambda lines: [*lines[:3], b"nonsense", *lines[3:]], "line 4: it is damaged"),
    ],
)
def test_every_change_is_found(tmp_path: Path, harm: object, fault: str) -> None:
    found = ledger(tmp_path)
    lines = found.path.read_bytes().splitlines()
    found.path.write_bytes(b"\n".join(harm(lines)) + b"\n")  # type: ignore[operator]
    verdict = verify(found.path)
    assert not verdict.holds
    assert verdict.fault.startswith(fault)


def test_a_forged_line_with_a_right_digest_breaks_the_chain_after_it(tmp_path: Path) -> None:
    from hounsfield.audit.ledger import _chained

    found = ledger(tmp_path)
    lines = found.path.read_text().splitlines()
    forged = json.loads(lines[1])
    del forged["sha256"]
    forged["who"] = "NOBODY"
    forged["sha256"] = _chained(forged)
    found.path.write_text("\n".join([lines[0], json.dumps(forged), *lines[2:]]) + "\n")
    assert verify(found.path).fault == "line 3: it does not follow the line before it"


def test_processes_take_turns(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from hounsfield.audit import AuditEvent, Ledger\n"
        "for n in range(20): Ledger(Path(sys.argv[1])).write(AuditEvent('query', sys.argv[2], {'n': n}))"
    )
    path = tmp_path / "audit.jsonl"
    running = [subprocess.Popen([sys.executable, "-c", code, str(path), f"P{n}"]) for n in range(3)]
    assert [one.wait(60) for one in running] == [0, 0, 0]
    assert (verify(path).holds, verify(path).lines) == (True, 60)


def test_half_a_line_of_a_power_cut_does_not_stand_in_the_way(tmp_path: Path) -> None:
    found = ledger(tmp_path)
    with found.path.open("ab") as stream:
        stream.write(b'{"number": 6, "at": "20')
    assert not verify(found.path).holds
    found.write(AuditEvent("application-activity", "serve"))
    assert (verify(found.path).holds, verify(found.path).lines) == (True, 6)


def test_a_full_disk_leaves_no_half_line_and_is_said(tmp_path: Path) -> None:
    found = ledger(tmp_path)
    code = (
        "import resource, signal, sys; from pathlib import Path; from hounsfield.audit import AuditEvent, Ledger\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); path = Path(sys.argv[1]); room = path.stat().st_size + 10\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))\n"
        "from hounsfield.errors import OutputError\n"
        "try: Ledger(path).write(AuditEvent('query', 'X'))\n"
        "except OutputError: sys.exit(7)"
    )
    before = found.path.read_bytes()
    assert subprocess.run([sys.executable, "-c", code, str(found.path)], check=False, timeout=60).returncode == 7
    assert found.path.read_bytes() == before
    assert verify(found.path).holds


def test_what_is_no_ledger_is_not_written_to(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_text("something else\n")
    with pytest.raises(NotReadable):
        Ledger(path).write(AuditEvent("query", "X"))
    with pytest.raises(OutputError):
        Ledger(tmp_path / "missing" / "audit.jsonl").write(AuditEvent("query", "X"))
    assert [one.name for one in tmp_path.iterdir()] == ["audit.jsonl"]
