"""``run`` over many scans: one failure stops nothing, resume redoes nothing, the budget holds."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from run_scenes import Watcher, alive, ball_ml, start, wait_until, workers_of, write_ball

from hounsfield.errors import OutputExists, SettingsError
from hounsfield.packages import ModelPackage, open_package
from hounsfield.planning import Budget, CalibrationKey, Plan, read_cost, read_machine
from hounsfield.planning.calibration import Calibration, plausible, save
from hounsfield.settings import load_settings
from hounsfield.testing.packages import TinyModel, tiny_package
from hounsfield.usecases.events import Event, Note, Progress
from hounsfield.usecases.job import Choices
from hounsfield.usecases.plan import PlanRequest, plan_run
from hounsfield.usecases.run import RunRequest, RunResult, run_model

UNPROVEN = Choices(allow_unproven=True)
FIGURES = {
    "engine": str,
    "precision": str,
    "read_seconds": float,
    "infer_seconds": float,
    "write_seconds": float,
    "windows": int,
    "windows_per_second": float,
    "voxels_per_second": int,
    "cpu_utilisation": float,
    "peak_resident_mib": float,
    "predicted_peak_mib": float,
    "attempts": int,
}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    """A model that finds the bright ball exactly."""
    model = TinyModel((0.0, 4095.0), "MR", "arbitrary", window=(8, 8, 8))
    return tiny_package(tmp_path_factory.mktemp("package") / "tiny", model)


def request(package: ModelPackage, scans: Path, out: Path, **more: object) -> RunRequest:
    return RunRequest(package.root, scans, out, choices=UNPROVEN, **more)  # type: ignore[arg-type]


def by_description(result: RunResult) -> dict[str, str]:
    return {one.series.split()[-1]: one.status for one in result.series}


def test_one_damaged_and_one_refused_stop_nothing(tiny: ModelPackage, tmp_path: Path) -> None:
    """Four scans, two workers: the CT is refused, the cut one fails, two are done."""
    scans, out = tmp_path / "scans", tmp_path / "out"
    for name in ("a", "b", "cut", "ct"):
        write_ball(scans / name)
    for path in (scans / "cut").iterdir():
        path.write_bytes(path.read_bytes()[:-60])
    for path in (scans / "ct").iterdir():
        path.write_bytes(path.read_bytes().replace(b"\x08\x00\x60\x00CS\x02\x00MR", b"\x08\x00\x60\x00CS\x02\x00CT"))
    events: list[Event] = []
    with Watcher() as watcher:
        result = run_model(request(tiny, scans, out), events.append)
    assert by_description(result) == {"a": "done", "b": "done", "cut": "failed", "ct": "refused"}
    assert watcher.most_at_once == 2
    assert not result.succeeded  # because of the damaged one: a refusal alone is an answer
    reasons = {one.series.split()[-1]: one.error for one in result.series if one.error is not None}
    assert "cut short" in reasons["cut"]["fact"]
    assert "modality is CT" in reasons["ct"]["fact"]
    done = [one for one in result.series if one.status == "done"]
    for one in done:
        assert sorted(one.outputs) == ["json", "nifti", "report", "seg", "sr"]
        assert one.measured[0]["volume_ml"] == pytest.approx(ball_ml(), rel=1e-6)
        for name, kind in FIGURES.items():
            assert isinstance(one.figures[name], kind), name
        assert one.figures["attempts"] == 1
        assert 0 < one.figures["cpu_utilisation"] <= 1
        assert (one.figures["engine"].split()[0], one.figures["precision"]) in {
            ("openvino", "fp32"),
            ("onnxruntime", "fp32"),
        }
        written = json.loads(one.outputs["json"].read_text())["run"]
        unknown = {"write_seconds", "attempts"}
        assert FIGURES.keys() - unknown <= written["figures"].keys()
        assert int((np.asarray(nib.load(one.outputs["nifti"]).dataobj) == 1).sum()) * 3.0 / 1000 == pytest.approx(
            ball_ml()
        )
    summary = json.loads((out / "summary.json").read_text())
    assert summary == json.loads(json.dumps(result.as_dict()))
    progress = [event for event in events if isinstance(event, Progress) and event.stage == "series"]
    assert (progress[0].done, progress[-1].done, progress[-1].total) == (1, 4, 4)
    assert sorted(path.name for path in out.iterdir()) == sorted(["summary.json", *(one.name for one in done)])


def test_a_killed_run_is_resumed_and_leaves_no_orphans(tiny: ModelPackage, tmp_path: Path) -> None:
    scans, out = tmp_path / "scans", tmp_path / "out"
    for number in range(4):
        write_ball(scans / f"n{number}")
    process = start(tiny.root, scans, "-o", out, "--allow-unproven", "-q")
    wait_until(lambda: len(list(out.glob("series-*/result.json"))) >= 1)
    workers = workers_of(process.pid)
    process.kill()
    process.wait()
    assert workers
    wait_until(lambda: not any(alive(pid) for pid in workers), 20)
    finished = {path: path.stat().st_mtime_ns for path in out.glob("series-*/*")}
    folders = {path.parent.name for path in finished}
    assert 1 <= len(folders) < 4, "the run was over before it was killed"
    (out / ".partial-series-0123456789-abcd").mkdir()
    with pytest.raises(OutputExists, match="--resume"):
        run_model(request(tiny, scans, out))
    result = run_model(request(tiny, scans, out, resume=True))
    statuses = {one.name: one.status for one in result.series}
    assert len(statuses) == 4
    assert {name for name, status in statuses.items() if status == "skipped"} == folders
    assert set(statuses.values()) == {"skipped", "done"}
    assert result.succeeded
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert not list(out.glob(".*"))
    summary = json.loads((out / "summary.json").read_text())
    for row in summary["series"]:
        assert row["measured"][0]["volume_ml"] == pytest.approx(ball_ml(), rel=1e-6)
        assert row["figures"]["precision"] == "fp32"
        assert row["outputs"]["seg"].endswith("seg.dcm")
    with pytest.raises(OutputExists, match="made in fp32, not in bf16"):
        run_model(replace(request(tiny, scans, out, resume=True), choices=Choices("bf16", allow_unproven=True)))


def test_a_killed_worker_is_one_failed_series(tiny: ModelPackage, tmp_path: Path) -> None:
    scans, out = tmp_path / "scans", tmp_path / "out"
    for name in ("a", "b", "c"):
        write_ball(scans / name)
    killed: list[int] = []

    def kill_one(event: Event) -> None:
        """When the first network runs, its worker is killed from outside."""
        if isinstance(event, Progress) and event.stage == "windows" and not killed:
            killed.append(max(workers_of(os.getpid()), key=_busy))
            os.kill(killed[0], signal.SIGKILL)

    result = run_model(request(tiny, scans, out), kill_one)
    statuses = [one.status for one in result.series]
    assert sorted(statuses) == ["done", "done", "failed"]
    assert not result.succeeded
    error = next(one.error for one in result.series if one.error is not None)
    assert error["error"] == "EngineError"
    assert "signal 9 (SIGKILL)" in error["fact"]
    assert not list(out.glob(".partial-*"))
    assert not alive(killed[0])


def _busy(pid: int) -> int:
    """Processor time of a process: the one whose network runs has used most."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def test_a_saved_plan_is_what_ran(tiny: ModelPackage, tmp_path: Path) -> None:
    scan = write_ball(tmp_path / "scan", (20, 24, 22))
    plan = plan_run(PlanRequest(tiny.root, scan, choices=UNPROVEN, measure=False))[0].plan
    assert plan is not None
    edited = replace(plan, threads=1, batch=2, accumulator="float16")
    result = run_model(request(tiny, scan, tmp_path / "out", plan=Plan.from_toml(edited.to_toml())))
    ran = json.loads(result.series[0].outputs["json"].read_text())["run"]["plan"]
    wanted = json.loads(edited.to_json())
    assert {name: ran[name] for name in wanted if name != "engine"} == {n: wanted[n] for n in wanted if n != "engine"}
    assert ran["engine"] == edited.engine
    for wrong, words in (({"window": (16, 8, 8)}, "has others"), ({"overlap": 0.25}, "has others")):
        with pytest.raises(SettingsError, match=words):
            run_model(request(tiny, scan, tmp_path / "no", plan=replace(plan, **wrong)))  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="the plan is for fp32, not bf16"):
        run_model(
            replace(request(tiny, scan, tmp_path / "no", plan=plan), choices=Choices("bf16", allow_unproven=True))
        )
    assert not (tmp_path / "no").exists()


@pytest.fixture(scope="module")
def brain_box(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ball(tmp_path_factory.mktemp("box") / "box", (24, 32, 60))


def test_a_plan_that_is_ten_times_too_low_never_breaks_the_budget(brain_box: Path, tmp_path: Path) -> None:
    """The plan says 30 MiB; the run takes over 250. The budget of 200 MiB holds all the same."""
    budget = Budget.parse("200MiB")
    plan = plan_run(PlanRequest("hippocampus-mr", brain_box, measure=False))[0].plan
    assert plan is not None
    wrong = replace(plan, host_peak_bytes=30 * 2**20)
    notes: list[Event] = []
    with Watcher() as watcher:
        asked = RunRequest("hippocampus-mr", brain_box, tmp_path / "out", budget=budget, plan=wrong)
        result = run_model(asked, notes.append)
    assert budget.host_bytes is not None
    assert 50 * 2**20 < watcher.peak_bytes <= budget.host_bytes
    check_clean_end(result, budget, tmp_path / "out", notes)


def test_a_spoiled_calibration_never_breaks_the_budget(brain_box: Path, tmp_path: Path) -> None:
    """A calibration that says too little but could be true is believed, and the budget still holds."""
    budget = Budget.parse("240MiB")
    spoil_calibration("hippocampus-mr")
    plan = plan_run(PlanRequest("hippocampus-mr", brain_box, budget=budget))[0].plan
    assert plan is not None, "the spoiled calibration was not believed, so nothing is tested"
    assert plan.calibrated
    notes: list[Event] = []
    with Watcher() as watcher:
        result = run_model(RunRequest("hippocampus-mr", brain_box, tmp_path / "out", budget=budget), notes.append)
    assert budget.host_bytes is not None
    assert 50 * 2**20 < watcher.peak_bytes <= budget.host_bytes
    check_clean_end(result, budget, tmp_path / "out", notes)


def check_clean_end(result: RunResult, budget: Budget, out: Path, events: list[Event]) -> None:
    """Either it was done within the budget, or it says why not; nothing is left half-written."""
    series = result.series[0]
    limit = (budget.host_bytes or 0) / 2**20
    if series.status == "done":
        assert series.figures["peak_resident_mib"] <= limit
        assert series.figures["attempts"] >= 1
        assert series.figures["budget_bytes"] == budget.host_bytes
    else:
        assert series.status == "failed"
        assert series.error is not None
        assert series.error["error"] == "DoesNotFit"
        assert "MiB" in series.error["fact"]
        assert series.error["remedy"]
        assert not out.exists() or not list(out.iterdir())
    if series.figures.get("attempts", 2) > 1 and series.status == "done":
        assert any(isinstance(one, Note) and "smaller plan" in one.message for one in events)


def spoil_calibration(model: str) -> None:
    """Put a record into the store that says as little as a record may."""
    package, machine, settings = open_package(model), read_machine(), load_settings()
    window = package.manifest.input.window.shape
    cost = read_cost(package.graph_path("fp32"), window)
    for engine in ("openvino", "onnxruntime"):
        key = CalibrationKey(package.digest, engine, "fp32", "cpu", machine.key, machine.cores, window)
        floor = cost.input_bytes + cost.live_bytes // 4 + 4096
        loaded = cost.weights_bytes // 8 + 4096
        record = Calibration(key, 25 * 2**20, loaded, loaded, floor, 0, 1.0, 0.5)
        assert plausible(record, cost)
        save(record, settings.home / "calibration")
