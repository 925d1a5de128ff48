"""A long mixed load on a whole node; ``make soak`` runs it and writes benchmarks/results/soak.json and .md.

    python -m faults.soak [--minutes 120] [--output FILE]   (in tests/)

The node is ``hounsfield serve`` with all its parts. Every ten seconds the resident memory, threads
and open files of each process are noted. In the end nothing acknowledged may be lost, each study
has one answer at the peer, and no part was started again.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from hounsfield.department.database import open_database
from hounsfield.department.tables import instances, jobs, results
from hounsfield.usecases.node.opening import open_node
from hounsfield.usecases.node.tokens import add_token

from . import chain_kills
from .load import Load
from .nodes import free_port
from .sender import echoes, lost_or_wrong, wait_until
from .sink import Sink

ROOT = Path(__file__).resolve().parents[2]
FULL_MINUTES = 120.0
_EVERY_S = 10.0
_MOST_GROWTH_MIB = 32.0
_SHOWN = 60
_CONFIG = """
port = {port}
http_port = {http_port}
quiet_s = 5.0
[[destinations]]
name = "sink"
ae_title = "SINK"
host = "127.0.0.1"
port = {sink}
"""


@dataclass(frozen=True)
class Sample:
    """One process at one moment; memory in MiB, time in minutes after the start."""

    minutes: float
    part: str
    pid: int
    resident_mib: float
    threads: int
    files: int


def main() -> None:
    """Run, write the results, and fail if anything was lost, doubled, answered wrongly, or grew."""
    asked = argparse.ArgumentParser()
    asked.add_argument("--minutes", type=float, default=FULL_MINUTES)
    asked.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "soak.json")
    given = asked.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        os.environ["HOUNSFIELD_HOME"] = f"{folder}/home"
        found = run(Path(folder), given.minutes)
    given.output.write_text(json.dumps(found, indent=1) + "\n")
    given.output.with_suffix(".md").write_text(page(found))
    print(given.output.with_suffix(".md").read_text())
    sys.exit(1 if found["faults"] else 0)


def run(folder: Path, minutes: float) -> dict[str, Any]:
    """Load a node for so long, let it settle, and count."""
    chain_kills.install_model(folder / "home")
    root, port, http_port = folder / "node", free_port(), free_port()
    root.mkdir()
    with Sink() as sink:
        (root / "node.toml").write_text(_CONFIG.format(port=port, http_port=http_port, sink=sink.port))
        (root / "routes.toml").write_text(chain_kills.ROUTES)
        node = open_node(root)
        load = Load(folder / "sent", port, http_port, add_token(node, "soak", "operator", "tester"))
        node.close()
        with (folder / "log.txt").open("wb") as log:
            serving = subprocess.Popen([sys.executable, "-m", "hounsfield", "serve", "--data", str(root)], stderr=log)
        try:
            wait_until(lambda: echoes(port) and _answers(http_port), 120)
            load.start()
            samples = list(_watch(serving.pid, minutes))
            load.stop()
            settled_s = wait_until(lambda: chain_kills.settled(root), 300)
        finally:
            load.stop()
            serving.send_signal(signal.SIGTERM)
            serving.wait(60)
        counted = _counted(root, load, sink)
    faults = [*load.faults, *counted.pop("faults"), *_restarted(samples), *_grown(samples)]
    if b"Canary" in (folder / "log.txt").read_bytes():
        faults.append("the log names a patient")
    about = {"minutes": minutes, "full_minutes": FULL_MINUTES, "cpus": os.cpu_count(), "settled_s": round(settled_s, 1)}
    return {**about, **counted, "http": dict(load.statuses), "processes": _told(samples), "faults": faults}


def _answers(http_port: int) -> bool:
    import urllib.request

    try:
        urllib.request.urlopen(f"http://127.0.0.1:{http_port}/api/v1/health", timeout=5).close()
    except OSError:
        return False
    return True


def _watch(pid: int, minutes: float) -> Iterator[Sample]:
    """Look at every process of the node until the time is over."""
    began = time.monotonic()
    while (passed := (time.monotonic() - began) / 60) < minutes:
        for process in _family(pid):
            try:
                yield _look(process, round(passed, 2), pid)
            except OSError:  # it ended while it was looked at
                continue
        time.sleep(_EVERY_S)


def _family(pid: int) -> Iterator[int]:
    """A process and all that it started."""
    yield pid
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in children:
        yield from _family(int(child))


def _look(pid: int, minutes: float, watcher: int) -> Sample:
    """One process; what a part has started itself is a child, though a fork has its part's command line."""
    place = Path(f"/proc/{pid}")
    words = (place / "cmdline").read_bytes().decode().split("\0")
    status = dict(line.split(":\t", 1) for line in (place / "status").read_text().splitlines() if ":\t" in line)
    if pid == watcher:
        part = "watcher"
    elif int(status["PPid"]) != watcher:
        part = "child"
    else:
        part = words[words.index("--part") + 1] if "--part" in words else "web"
    resident = int(status.get("VmRSS", "0 kB").split()[0]) / 1024
    return Sample(minutes, part, pid, resident, int(status["Threads"]), len(list((place / "fd").iterdir())))


def _lasting(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    """The samples of each part; their children, such as the processes of jobs, come and go and are left out."""
    found: dict[str, list[Sample]] = {}
    for one in samples:
        if one.part != "child":
            found.setdefault(one.part, []).append(one)
    return found


def _restarted(samples: Sequence[Sample]) -> list[str]:
    lasting = _lasting(samples)
    return [f"{part} was started again" for part, of_it in lasting.items() if len({one.pid for one in of_it}) > 1]


def _grown(samples: Sequence[Sample]) -> list[str]:
    """Parts that hold much more memory in the last quarter than in the second."""
    found = []
    for part, of_it in _lasting(samples).items():
        early, late = _quarters(of_it)
        if late - early > _MOST_GROWTH_MIB:
            found.append(f"{part} grew from {early:.0f} to {late:.0f} MiB")
    return found


def _quarters(of_it: Sequence[Sample]) -> tuple[float, float]:
    """Median resident memory of the second and of the last quarter, MiB."""
    quarter = max(1, len(of_it) // 4)
    early, late = of_it[quarter : 2 * quarter] or of_it, of_it[-quarter:]
    return statistics.median(one.resident_mib for one in early), statistics.median(one.resident_mib for one in late)


def _told(samples: Sequence[Sample]) -> dict[str, Any]:
    """What the results say of each lasting process."""
    found = {}
    for part, of_it in _lasting(samples).items():
        early, late = _quarters(of_it)
        thinned = of_it[:: max(1, len(of_it) // _SHOWN)]
        settled = of_it[len(of_it) // 4 :]
        slope = _slope_mib_per_hour(settled)
        found[part] = {
            "second_quarter_mib": round(early, 1),
            "last_quarter_mib": round(late, 1),
            "most_mib": round(max(one.resident_mib for one in of_it), 1),
            "slope_mib_per_hour": None if slope is None else round(slope, 2),
            "threads": [settled[0].threads, settled[-1].threads],
            "files": [settled[0].files, settled[-1].files],
            "over_time": [[one.minutes, round(one.resident_mib, 1)] for one in thinned],
        }
    return found


def _slope_mib_per_hour(of_it: Sequence[Sample]) -> float | None:
    """Least squares of memory over time."""
    if len({one.minutes for one in of_it}) < 2:
        return None
    return 60 * statistics.linear_regression([one.minutes for one in of_it], [one.resident_mib for one in of_it]).slope


def _counted(root: Path, load: Load, sink: Sink) -> dict[str, Any]:
    """The sender's ledger against the database, the disk and the peer."""
    faults = lost_or_wrong(root, load.ledger)
    database = open_database(root / "state.sqlite")
    with database.read() as connection:
        kept = len(connection.execute(select(instances.c.id)).all())
        ended = connection.execute(select(jobs.c.study_uid, jobs.c.state)).all()
        written = set(connection.execute(select(results.c.sop_instance_uid)).scalars()) - {""}
    database.close()
    acknowledged = [entry for entry in load.ledger if entry.acknowledged]
    if len(acknowledged) != len(load.ledger):
        faults.append(f"{len(load.ledger) - len(acknowledged)} instances were not acknowledged")
    if kept != len({entry.uid for entry in acknowledged}):
        faults.append(f"{kept} rows for {len({entry.uid for entry in acknowledged})} instances")
    if sorted(row.study_uid for row in ended if row.state == "done") != sorted(load.studies_for_model):
        done = sum(row.state == "done" for row in ended)
        faults.append(f"{len(load.studies_for_model)} studies for the model, {done} jobs done of {len(ended)}")
    if set(sink.stored) != written or set(sink.stored.values()) - {1}:
        faults.append(f"{len(written)} results written, {len(sink.stored)} at the peer")
    counts = {"acknowledged": len(acknowledged), "sent_twice": load.doubled, "kept": kept, "jobs": len(ended)}
    return {**counts, "at_the_peer": len(sink.stored), "faults": faults}


def _shown(http: Mapping[str, int]) -> str:
    return ", ".join(f"{number} times {status}" for status, number in sorted(http.items()))


def page(found: Mapping[str, Any]) -> str:
    """The results as Markdown."""
    asked, full = found["minutes"], found["full_minutes"]
    whole = "the full time" if asked >= full else f"**not the full {full:g} minutes**"
    lines = [
        "# A long mixed load",
        "",
        f"Made by `make soak` (`tests/faults/soak.py`), on {found['cpus']} cores with other work on them.",
        f"It ran {asked:g} minutes: {whole}.",
        "",
        f"{found['acknowledged']} instances acknowledged, {found['sent_twice']} of them a second time;",
        f"{found['kept']} kept; {found['jobs']} jobs, {found['at_the_peer']} results at the peer, each once.",
        f"HTTP answers: {_shown(found['http'])}.",
        "",
        "|process|second quarter, MiB|last quarter, MiB|most, MiB|slope, MiB/h|threads|open files|",
        "|---|---|---|---|---|---|---|",
    ]
    for part, one in found["processes"].items():
        slope = "" if one["slope_mib_per_hour"] is None else f"{one['slope_mib_per_hour']:.1f}"
        pairs = [" to ".join(map(str, one[name])) for name in ("threads", "files")]
        cells = (part, one["second_quarter_mib"], one["last_quarter_mib"], one["most_mib"], slope, *pairs)
        lines.append("|" + "|".join(map(str, cells)) + "|")
    faults = [f"- {fault}" for fault in found["faults"][:50]]
    return "\n".join([*lines, "", *(["Faults:", "", *faults] if faults else ["No fault was found."])]) + "\n"


if __name__ == "__main__":
    main()
