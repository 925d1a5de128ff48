"""Durable receiving beside Orthanc in the same run: dcmtk's storescu sends the same slices to both.

    python benchmarks/receiving.py [--slices 400] [--rounds 3]

Orthanc writes with SQLite and fsync (its default since 1.7.4), as this node does: both say success
only for what is on the disk. The order changes from round to round. Writes
benchmarks/results/receiving.json; figures mean something on a quiet machine only.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from faults.instances import encoded, instance  # noqa: E402
from faults.nodes import make_node  # noqa: E402
from faults.orthanc import Orthanc, isolate  # noqa: E402
from faults.sender import echoes, wait_until  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "receiving.json"
_SENDERS = (1, 4)


def main() -> None:
    """Measure both, one and four associations, and write the table."""
    asked = argparse.ArgumentParser()
    asked.add_argument("--slices", type=int, default=400)
    asked.add_argument("--rounds", type=int, default=3)
    asked.add_argument("--output", type=Path, default=RESULTS)
    given = asked.parse_args()
    isolate()
    with tempfile.TemporaryDirectory(prefix="receiving-") as folder:
        results = measure(Path(folder), given.slices, given.rounds)
    given.output.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))


def measure(folder: Path, slices: int, rounds: int) -> dict[str, Any]:
    """Instances per second of each receiver: every round, and the median."""
    rates: dict[str, list[float]] = {}
    for number in range(rounds):
        receivers: list[tuple[str, Callable[[Path], Any]]] = [("hounsfield", _node), ("orthanc", _orthanc)]
        for name, open_receiver in receivers if number % 2 == 0 else receivers[::-1]:
            for senders in _SENDERS:
                where = folder / f"{name}-{number}-{senders}"
                files = _slices(where / "sent", slices, number * 10 + senders, senders)
                rate = open_receiver(where)(files, slices)
                rates.setdefault(f"{name}/{senders}", []).append(round(rate, 1))
    medians = {name: statistics.median(found) for name, found in rates.items()}
    ratios = {str(n): round(medians[f"hounsfield/{n}"] / medians[f"orthanc/{n}"], 2) for n in _SENDERS}
    return {
        "slices": slices,
        "instances_per_second": rates,
        "median": medians,
        "ratio_to_orthanc_by_associations": ratios,
        "cpus": len(os.sched_getaffinity(0)),
    }


def _slices(folder: Path, count: int, study: int, senders: int) -> list[Path]:
    """CT slices of 512 x 512, half a megabyte each, in one folder for each sender."""
    folders = [folder / str(n) for n in range(senders)]
    for one in folders:
        one.mkdir(parents=True)
    for number in range(count):
        (folders[number % senders] / f"{number}.dcm").write_bytes(encoded(instance(study, number, size=512)))
    return folders


def _node(where: Path) -> Callable[[list[Path], int], float]:
    def run(folders: list[Path], count: int) -> float:
        port = make_node(where / "node")
        command = [sys.executable, "-m", "hounsfield", "serve", "--data", str(where / "node"), "--part", "receive"]
        node = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: echoes(port))
            return count / _send(folders, port, "HOUNSFIELD")
        finally:
            node.terminate()
            node.wait(30)

    return run


def _orthanc(where: Path) -> Callable[[list[Path], int], float]:
    def run(folders: list[Path], count: int) -> float:
        with Orthanc(where / "pacs") as orthanc:
            return count / _send(folders, orthanc.port, orthanc.title)

    return run


def _send(folders: list[Path], port: int, title: str) -> float:
    """Seconds until every sender has had its last answer."""

    def send(folder: Path) -> None:
        command = ["storescu", "-aec", title, "-pdu", "131072", "+sd", "127.0.0.1", str(port), str(folder)]
        subprocess.run(command, check=True, env={**os.environ, "TCP_NODELAY": "1"}, stdout=subprocess.DEVNULL)

    threads = [threading.Thread(target=send, args=(folder,)) for folder in folders]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
