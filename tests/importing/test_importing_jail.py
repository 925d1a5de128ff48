"""The locks hold: no network, no program, no process, no file outside, no more than the limits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hounsfield.errors import InternalError, SourceRefused
from hounsfield.importing import ImportLimits, look_in_jail
from hounsfield.importing.jail import _answer, _died

_LOCKED = """
import json, os, sys
from pathlib import Path
from hounsfield.importing.locks import Bounds, close_the_doors, readable_places, turn_the_key
folder, secret, source = map(Path, sys.argv[1:4])
held = close_the_doors(folder, [place for place in readable_places(source) if place != Path("/tmp")])
import socket, subprocess, threading
held += turn_the_key(Bounds(256 << 20, 60, 1 << 20))

def refused(action):
    try:
        action()
    except (OSError, MemoryError) as error:
        return type(error).__name__
    return "done"

def fork():
    if os.fork() == 0:
        os._exit(0)

def write_much():
    import signal
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    (folder / "much").write_bytes(bytes(2 << 20))

ran = []
thread = threading.Thread(target=lambda: ran.append(1))
thread.start()
thread.join()
print(json.dumps({
    "held": held,
    "socket": refused(lambda: socket.socket(socket.AF_INET)),
    "unix": refused(lambda: socket.socket(socket.AF_UNIX)),
    "program": refused(lambda: os.execv("/bin/true", ["true"])),
    "child": refused(lambda: subprocess.run(["/bin/true"])),
    "fork": refused(fork),
    "read": refused(lambda: secret.read_text()),
    "write": refused(lambda: secret.write_text("x")),
    "remove": refused(secret.unlink),
    "source": refused(lambda: source.read_text()),
    "change": refused(lambda: source.write_text("x")),
    "own": refused(lambda: (folder / "mine").write_text("x")),
    "memory": refused(lambda: bytearray(1 << 30)),
    "much": refused(write_much),
    "thread": len(ran),
}))
"""


def test_the_locks_hold(tmp_path: Path) -> None:
    import json

    folder, outside = tmp_path / "own", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    secret, source = outside / "secret", outside / "source"
    secret.write_text("secret")
    source.write_text("source")
    command = [sys.executable, "-I", "-c", _LOCKED, str(folder), str(secret), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    held = found.pop("held")
    assert {"seccomp", "no new privileges", "limits on memory, time and files"} <= set(held)
    if "landlock" not in held:  # a kernel without it: the other locks are what there is
        for name in ("read", "write", "remove", "change"):
            found.pop(name)
    assert found.pop("source") == "done"
    assert found.pop("own") == "done"
    assert found.pop("thread") == 1
    assert found.pop("memory") == "MemoryError"
    assert found.pop("much") == "OSError"
    assert set(found.values()) == {"PermissionError"}, found


def test_a_child_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    source = tmp_path / "a.pt"
    source.write_bytes(b"\x80\x02.")
    with pytest.raises(SourceRefused, match="more time than allowed"):
        look_in_jail(source, tmp_path, ImportLimits(wall_s=0.01))


@pytest.mark.parametrize(
    ("code", "words"), [(-9, "time or memory"), (-24, "time or memory"), (-25, "writes more"), (-31, "never does")]
)
def test_how_a_child_died_is_told(code: int, words: str) -> None:
    assert words in str(_died(code, Path("a.pt")))


@pytest.mark.parametrize("out", [b"", b"[1]", b"nothing", b'{"error'])
def test_an_answer_that_is_none_is_refused(out: bytes) -> None:
    with pytest.raises(SourceRefused, match="no usable answer"):
        _answer(0, out, Path("a.pt"))


def test_an_error_of_an_unknown_kind_is_ours() -> None:
    with pytest.raises(InternalError):
        _answer(0, b'{"error": {"error": "SystemExit", "fact": "x", "remedy": "y"}}', Path("a.pt"))
