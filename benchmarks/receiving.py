"""Durable receiving beside Orthanc in the same run: the same slices to both, by C-STORE and by STOW-RS.

    python benchmarks/receiving.py [--slices 400] [--rounds 5]

By C-STORE dcmtk's storescu sends, over one association and over four at once; by STOW-RS one client
posts bodies of twenty instances. Orthanc writes with SQLite and fsync (its default since 1.7.4), as
this node does: both say success only for what is on the disk. The order changes from round to
round. Writes benchmarks/results/receiving.json; figures mean something on a quiet machine only.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from faults.instances import encoded, instance  # noqa: E402
from faults.nodes import free_port, make_node  # noqa: E402
from faults.orthanc import Orthanc, isolate  # noqa: E402
from faults.sender import echoes, wait_until  # noqa: E402
from hounsfield.usecases.node.opening import open_node  # noqa: E402
from hounsfield.usecases.node.tokens import add_token  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "receiving.json"
_SENDERS = (1, 4)
_BODY = 20


def main() -> None:
    """Measure both, by C-STORE and by STOW-RS, and write the table."""
    asked = argparse.ArgumentParser()
    asked.add_argument("--slices", type=int, default=400)
    asked.add_argument("--rounds", type=int, default=5)
    asked.add_argument("--output", type=Path, default=RESULTS)
    given = asked.parse_args()
    isolate()
    with tempfile.TemporaryDirectory(prefix="receiving-") as folder:
        results = measure(Path(folder), given.slices, given.rounds)
    given.output.write_text(json.dumps(results, indent=1) + "\n")
    given.output.with_suffix(".md").write_text(page(results))
    print(json.dumps(results, indent=1))


def measure(folder: Path, slices: int, rounds: int) -> dict[str, Any]:
    """Instances per second of each receiver: every round, and the median."""
    rates: dict[str, list[float]] = {}
    before = os.getloadavg()[0]
    for number in range(rounds):
        receivers = [("hounsfield", _node, _web), ("orthanc", _orthanc, _orthanc_web)]
        for name, open_receiver, open_web in receivers if number % 2 == 0 else receivers[::-1]:
            for senders in _SENDERS:
                where = folder / f"{name}-{number}-{senders}"
                files = _slices(where / "sent", slices, number * 10 + senders, senders)
                rate = open_receiver(where)(files, slices)
                rates.setdefault(f"{name}/{senders}", []).append(round(rate, 1))
            rate = open_web(folder / f"{name}-{number}-stow")(_bodies(slices, number * 10 + 9), slices)
            rates.setdefault(f"{name}/stow", []).append(round(rate, 1))
    ways = [*map(str, _SENDERS), "stow"]
    return {
        "slices": slices,
        "load_before": round(before, 2),
        "instances_per_second": rates,
        "median": {name: statistics.median(found) for name, found in rates.items()},
        "ratio_to_orthanc": {way: _ratio(rates[f"hounsfield/{way}"], rates[f"orthanc/{way}"]) for way in ways},
        "cpus": len(os.sched_getaffinity(0)),
    }


def _ratio(ours: list[float], theirs: list[float]) -> float:
    """Median of the rounds' own ratios: both sides of one round had the same machine."""
    return round(statistics.median(a / b for a, b in zip(ours, theirs, strict=True)), 2)


_WAYS = {"1": "C-STORE, one association", "4": "C-STORE, four at once", "stow": "STOW-RS, bodies of twenty"}


def page(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    rows = [
        f"|{_WAYS[way]}|{results['median'][f'hounsfield/{way}']:g}|{results['median'][f'orthanc/{way}']:g}|{ratio:.2f}|"
        for way, ratio in results["ratio_to_orthanc"].items()
    ]
    rounds = len(results["instances_per_second"]["orthanc/1"])
    return "\n".join(
        [
            "# Durable receiving beside Orthanc",
            "",
            f"Made by `python benchmarks/receiving.py`: {results['slices']} CT slices of 512 x 512 (half a megabyte each) to",
            f"both, {rounds} rounds in turns, on {results['cpus']} cores that the senders shared; load average before: "
            f"{results['load_before']:g}.",
            "Both answer when a slice is on the disk (fsync) and in the database. Instances per second, medians; the ratio is the",
            "median of the rounds' own ratios.",
            "",
            "|way in|hounsfield|Orthanc|ratio|",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def _bodies(count: int, study: int) -> list[bytes]:
    """Bodies of STOW-RS with the same kind of slices."""
    head = b"--edge\r\nContent-Type: application/dicom\r\n\r\n"
    parts = [head + encoded(instance(study, number, size=512)) + b"\r\n" for number in range(count)]
    return [b"".join(parts[at : at + _BODY]) + b"--edge--" for at in range(0, count, _BODY)]


def _post(bodies: list[bytes], port: int, authorization: str) -> float:
    """Seconds until the last body was answered; each must be stored whole."""
    kind = 'multipart/related; type="application/dicom"; boundary=edge'
    headers = {"Content-Type": kind, "Accept": "application/dicom+json", "Authorization": authorization}
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    for number, body in enumerate([*_bodies(1, 99), *bodies]):  # the first warms up, and is not counted
        if number == 1:
            began = time.perf_counter()
        link.request("POST", "/dicom-web/studies", body, headers)
        answer = link.getresponse()
        said = json.loads(answer.read())
        assert answer.status == 200, answer.status
        assert len(said["00081199"]["Value"]) == body.count(b"--edge\r\n")
    taken = time.perf_counter() - began
    link.close()
    return taken


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


def _web(where: Path) -> Callable[[list[bytes], int], float]:
    def run(bodies: list[bytes], count: int) -> float:
        port = free_port()
        (where / "node").mkdir(parents=True)
        (where / "node" / "node.toml").write_text(f"http_port = {port}\n")
        opened = open_node(where / "node")
        token = add_token(opened, "sender", "sender", "benchmark")
        opened.close()
        node = subprocess.Popen(
            [sys.executable, "-m", "hounsfield.server", "--data", str(where / "node")], stderr=subprocess.DEVNULL
        )
        try:
            wait_until(lambda: _listens(port))
            return count / _post(bodies, port, f"Bearer {token}")
        finally:
            node.terminate()
            node.wait(30)

    return run


def _listens(port: int) -> bool:
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        link.request("GET", "/api/v1/health")
        return link.getresponse().status == 200
    except OSError:
        return False
    finally:
        link.close()


def _orthanc_web(where: Path) -> Callable[[list[bytes], int], float]:
    def run(bodies: list[bytes], count: int) -> float:
        pair = base64.b64encode(b"tester:secret").decode()
        with Orthanc(where / "pacs") as orthanc:
            return count / _post(bodies, orthanc.http_port, f"Basic {pair}")

    return run


def _orthanc(where: Path) -> Callable[[list[Path], int], float]:
    def run(folders: list[Path], count: int) -> float:
        with Orthanc(where / "pacs") as orthanc:
            return count / _send(folders, orthanc.port, orthanc.title)

    return run


def _send(folders: list[Path], port: int, title: str) -> float:
    """Seconds until every sender has had its last answer."""
    program = _storescu()

    def send(folder: Path) -> None:
        command = [program, "-aec", title, "-pdu", "131072", "+sd", "127.0.0.1", str(port), str(folder)]
        subprocess.run(command, check=True, env={**os.environ, "TCP_NODELAY": "1"}, stdout=subprocess.DEVNULL)

    with ThreadPoolExecutor(len(folders)) as pool:
        began = time.perf_counter()
        for sent in [pool.submit(send, folder) for folder in folders]:
            sent.result()
        return time.perf_counter() - began


def _storescu() -> str:
    """dcmtk's program, and not pynetdicom's of the same name in this environment."""
    own = Path(sys.prefix).resolve() / "bin"
    places = [one for one in os.environ.get("PATH", "").split(os.pathsep) if one and Path(one).resolve() != own]
    found = shutil.which("storescu", path=os.pathsep.join(places))
    if found is None:
        sys.exit("dcmtk's storescu is not here: sh scripts/system-packages")
    return found


if __name__ == "__main__":
    main()
