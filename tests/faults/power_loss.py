"""Power loss, simulated: what if everything that was not fsynced had never been written?

kill -9 does not show this, because the page cache survives a process. So a receiver runs under
strace, and from its system calls the disk is built again as a power cut would leave it: the
content of a file is there as far as an fsync of it began after the write ended, a name is there
only if its folder was fsynced after it was given (POSIX promises no more). At each answer of
success, and at random moments, that disk is opened: whatever was acknowledged must be on it.
"""

from __future__ import annotations

import hashlib
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import select

from hounsfield.department.database import open_database
from hounsfield.department.tables import instances

from .instances import ROOT, instance
from .nodes import make_node
from .scu import Scu
from .sender import echoes, wait_until

_CALLS = (
    "openat,close,write,pwrite64,ftruncate,fsync,fdatasync,link,linkat,rename,renameat,renameat2,unlink,unlinkat,sendto"
)
_LINE = re.compile(r"^(\d+) +(.*)$")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_UID = re.compile(re.escape(ROOT).encode() + rb"[0-9.]+")
_SUCCESS = b"\x00\x00\x00\x09\x02\x00\x00\x00\x00\x00"


@dataclass(frozen=True)
class Call:
    """One system call: its name, texts, plain arguments, answer; ``begun`` is the moment it was entered."""

    begun: int
    ended: int
    name: str
    strings: tuple[bytes, ...]
    rest: str
    answer: int


@dataclass
class Inode:
    """A file: what is surely on the disk, and the writes that are not yet."""

    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, int, bytes | None]] = field(default_factory=list)  # (moment, offset, data or a cut)

    def sync(self, begun: int) -> None:
        """Everything written before the fsync began is on the disk."""
        for moment, offset, data in self.pending:
            if moment < begun:
                apply(self.durable, offset, data)
        self.pending = [one for one in self.pending if one[0] >= begun]


def apply(content: bytearray, offset: int, data: bytes | None) -> None:
    """Write, or cut to ``offset`` when there are no data."""
    if data is None:
        del content[offset:]
        content.extend(bytes(offset - len(content)))
        return
    content.extend(bytes(max(0, offset - len(content))))
    content[offset : offset + len(data)] = data


class Disk:
    """The node's folder as system calls make it."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.names: dict[str, Inode] = {}
        self.durable_names: dict[str, Inode] = {}
        self.changed: dict[str, list[tuple[int, str, Inode | None]]] = {}
        self.open: dict[int, tuple[str, Inode | None]] = {}
        self.position: dict[int, int] = {}
        for path in root.rglob("*"):
            if path.is_file() and not path.name.endswith("-shm"):
                inode = Inode(bytearray(path.read_bytes()))
                self.names[str(path)] = self.durable_names[str(path)] = inode

    def do(self, call: Call) -> None:
        """Let one system call have its effect."""
        if call.answer < 0 and call.name != "openat":
            return
        getattr(self, f"_{call.name}", self._ignored)(call)

    def _ignored(self, call: Call) -> None:
        return

    def _openat(self, call: Call) -> None:
        path = call.strings[0].decode() if call.strings else ""
        if call.answer < 0 or not path.startswith(self.root):
            return
        self.position[call.answer] = 0
        if "O_CREAT" in call.rest and path not in self.names:
            self._name(path, Inode(), call.ended)
        self.open[call.answer] = (path, self.names.get(path))
        inode = self.names.get(path)
        if "O_TRUNC" in call.rest and inode is not None:
            inode.pending.append((call.ended, 0, None))

    def _close(self, call: Call) -> None:
        self.open.pop(int(call.rest.split(")")[0].strip("( ")), None)

    def _number(self, call: Call) -> int:
        return int(re.match(r"\((\d+)", call.rest).group(1))  # type: ignore[union-attr]

    def _write(self, call: Call) -> None:
        number = self._number(call)
        inode = self.open.get(number, ("", None))[1]
        if inode is not None:
            inode.pending.append((call.ended, self.position[number], call.strings[0][: call.answer]))
            self.position[number] += call.answer

    def _pwrite64(self, call: Call) -> None:
        inode = self.open.get(self._number(call), ("", None))[1]
        if inode is not None:
            offset = int(call.rest.rsplit(",", 1)[1].split(")")[0])
            inode.pending.append((call.ended, offset, call.strings[0][: call.answer]))

    def _ftruncate(self, call: Call) -> None:
        inode = self.open.get(self._number(call), ("", None))[1]
        if inode is not None:
            inode.pending.append((call.ended, int(call.rest.rsplit(",", 1)[1].split(")")[0]), None))

    def _fsync(self, call: Call) -> None:
        path, inode = self.open.get(self._number(call), ("", None))
        if inode is not None:
            inode.sync(call.begun)
            return
        for moment, name, there in self.changed.get(path, []):
            if moment < call.begun:
                self._settle(name, there)
        self.changed[path] = [one for one in self.changed.get(path, []) if one[0] >= call.begun]

    _fdatasync = _fsync

    def _link(self, call: Call) -> None:
        old, new = (text.decode() for text in call.strings)
        if old in self.names:
            self._name(new, self.names[old], call.ended)

    _linkat = _link

    def _rename(self, call: Call) -> None:
        old, new = (text.decode() for text in call.strings)
        if old in self.names:
            self._name(new, self.names[old], call.ended)
            self._name(old, None, call.ended)

    _renameat = _renameat2 = _rename

    def _unlink(self, call: Call) -> None:
        if call.strings and call.strings[0].decode() in self.names:
            self._name(call.strings[0].decode(), None, call.ended)

    _unlinkat = _unlink

    def _name(self, path: str, inode: Inode | None, moment: int) -> None:
        if inode is None:
            self.names.pop(path, None)
        else:
            self.names[path] = inode
        self.changed.setdefault(str(Path(path).parent), []).append((moment, path, inode))

    def _settle(self, name: str, inode: Inode | None) -> None:
        if inode is None:
            self.durable_names.pop(name, None)
        else:
            self.durable_names[name] = inode

    def after_power_loss(self, folder: Path, chance: random.Random | None) -> None:
        """Write into ``folder`` what is left; with ``chance``, some of what was not fsynced survives too."""
        names = dict(self.durable_names)
        for changes in self.changed.values():
            for _, name, inode in changes:
                if chance is not None and chance.random() < 0.5:
                    if inode is None:
                        names.pop(name, None)
                    else:
                        names[name] = inode
        for name, inode in names.items():
            content = bytearray(inode.durable)
            for _, offset, data in inode.pending:
                if chance is not None and chance.random() < 0.5:
                    apply(content, offset, data)
            path = folder / Path(name).relative_to(self.root)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def calls(log: Path) -> Iterator[Call]:
    """The system calls of a log of ``strace -f -xx``, in the order in which they ended."""
    waiting: dict[str, tuple[int, str]] = {}
    with log.open(encoding="ascii", errors="replace") as stream:
        for moment, line in enumerate(stream):
            found = _LINE.match(line.rstrip("\n"))
            if found is None:
                continue
            thread, text = found.groups()
            begun = moment
            if text.endswith("<unfinished ...>"):
                waiting[thread] = (moment, text.removesuffix("<unfinished ...>"))
                continue
            if text.startswith("<... ") and thread in waiting:
                begun, before = waiting.pop(thread)
                text = before + text.split("resumed>", 1)[1]
            answer = re.search(r"\)\s+= (-?\d+)", text)
            name = re.match(r"(\w+)\(", text)
            if answer is None or name is None:
                continue
            strings = tuple(bytes.fromhex(one.replace("\\x", "")) for one in _STRING.findall(text))
            rest = _STRING.sub('""', text)[len(name.group(1)) :]
            yield Call(begun, moment, name.group(1), strings, rest, int(answer.group(1)))


@dataclass
class Outcome:
    """What a run came to."""

    acknowledged: int = 0
    crashes: int = 0
    faults: list[str] = field(default_factory=list)


def record(root: Path, log: Path, count: int) -> None:
    """Let a receiver take ``count`` instances under strace."""
    port = make_node(root)
    traced = ["strace", "-f", "-xx", "-s", "10000000", "-e", f"trace={_CALLS}", "-o", str(log)]
    serve = [sys.executable, "-m", "hounsfield", "serve", "--data", str(root), "--part", "receive"]
    node = subprocess.Popen([*traced, *serve], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: echoes(port), 90)
        with Scu(port) as scu:
            for number in range(count):
                assert scu.store(instance(number // 5, number % 5, size=16)) == 0
    finally:
        for child in Path(f"/proc/{node.pid}/task/{node.pid}/children").read_text().split():
            subprocess.run(["kill", f"-{signal.SIGTERM.value}", child], check=False)
        node.wait(60)


def run(folder: Path, count: int, crashes: int, seed: int) -> Outcome:
    """Crash after every acknowledgement, and at ``crashes`` random moments with random survivors."""
    root, log, outcome, chance = folder / "node", folder / "strace.log", Outcome(), random.Random(seed)
    root.mkdir(parents=True)
    disk = Disk(root)
    record(root, log, count)
    everything = list(calls(log))
    moments = {chance.randrange(len(everything)) for _ in range(crashes)}
    acknowledged: list[str] = []
    for number, call in enumerate(everything):
        if call.name == "sendto" and call.strings and _SUCCESS in call.strings[0]:
            named = _UID.search(call.strings[0])
            if named is not None:
                acknowledged.append(named.group().decode())
                _look(disk, folder / "after", acknowledged, None, outcome)
        disk.do(call)
        if number in moments:
            _look(disk, folder / "after", acknowledged, chance, outcome)
    outcome.acknowledged = len(acknowledged)
    return outcome


def _look(disk: Disk, folder: Path, acknowledged: list[str], chance: random.Random | None, outcome: Outcome) -> None:
    """Open the disk as it is after the cut, and ask for everything that was acknowledged."""
    outcome.crashes += 1
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    disk.after_power_loss(folder, chance)
    database = open_database(folder / "state.sqlite")
    if database.integrity() != "ok":
        outcome.faults.append("the database is damaged")
    with database.read() as connection:
        kept = {row.sop_instance_uid: row.sha256 for row in connection.execute(select(instances))}
    database.close()
    for uid in acknowledged:
        path = folder / "instances" / kept.get(uid, "??")[:2] / f"{kept.get(uid)}.dcm"
        if uid not in kept or not path.exists():
            outcome.faults.append(f"lost after {len(acknowledged)} acknowledged: {uid}")
        elif hashlib.sha256(path.read_bytes()).hexdigest() != kept[uid]:
            outcome.faults.append(f"torn after {len(acknowledged)} acknowledged: {uid}")
