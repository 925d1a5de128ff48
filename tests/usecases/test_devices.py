"""Plans and runs on a GPU, as far as a machine without one can tell; and PyTorch measured on the processor."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from run_scenes import write_ball

from hounsfield.errors import DoesNotFit, EngineUnavailable, SettingsError
from hounsfield.inference import accelerator
from hounsfield.planning import Budget, CalibrationKey, Machine, Plan
from hounsfield.planning.calibration import Calibration
from hounsfield.planning.machine import Accelerator
from hounsfield.usecases import calibrate, plan
from hounsfield.usecases.job import Choices, Job
from hounsfield.usecases.plan import Planner, PlanRequest, plan_run
from hounsfield.usecases.run import RunRequest, _smaller, run_model
from hounsfield.volume import Geometry

MIB = 2**20
MACHINE = Machine("Test CPU", 2, 24 * 2**30, 20 * 2**30, accelerators=(Accelerator("Test GPU", 8 << 30, 8 << 30),))
CUDA = Choices(device="cuda", engine="torch")


@pytest.fixture
def with_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose GPU was measured."""

    def measured(what: object, key: CalibrationKey, *_: object, **__: object) -> Calibration:
        assert isinstance(what, calibrate.Measurable)
        assert what.weights is not None
        assert what.architecture is not None
        assert key.cpu == "Test CPU Test GPU"
        return Calibration(key, 900 * MIB, 400 * MIB, 300 * MIB, 90 * MIB, 700 * MIB, 0.01, 3.0)

    monkeypatch.setattr(calibrate, "calibrated", measured)
    monkeypatch.setattr(plan, "why_unseen", lambda device: "")


def planned(budget: Budget, choices: Choices = CUDA, model: str = "hippocampus-mr") -> Plan:
    from hounsfield.packages import open_package

    planner = Planner(open_package(model), choices, measure=True, machine=MACHINE)
    geometry = Geometry.from_parts((60, 80, 60), (1.0, 1.0, 1.0))
    return planner._choose(planner.needs(geometry), budget)


@pytest.mark.usefixtures("with_gpu")
def test_on_a_gpu_the_sums_lie_there_and_not_on_the_host() -> None:
    made = planned(Budget())
    assert (made.engine, made.device, made.calibrated) == ("torch", "cuda", True)
    assert made.device_peak_bytes > 700 * MIB
    assert "stream" not in made.host_parts
    by_default = planned(Budget(), Choices(device="cuda"))
    assert replace(by_default, reasons=made.reasons) == made


@pytest.mark.usefixtures("with_gpu")
def test_the_gpu_s_budget_is_kept_or_the_smallest_is_named() -> None:
    made = planned(Budget())
    tight = planned(Budget(device_bytes=made.device_peak_bytes - 1))
    assert tight.accumulator == "float16"
    assert tight.device_peak_bytes < made.device_peak_bytes
    with pytest.raises(DoesNotFit, match="on the accelerator"):
        planned(Budget(device_bytes=600 * MIB))


@pytest.mark.usefixtures("with_gpu")
def test_when_the_gpu_is_full_the_next_plan_has_less_of_it(tmp_path: Path) -> None:
    made = planned(Budget())
    job = Job(tmp_path, "0" * 64, tmp_path, (), "one", tmp_path, CUDA, made)
    assert _smaller(Budget(), job, 0.5) == Budget(device_bytes=made.device_peak_bytes // 2)
    limited = replace(job, device_budget_bytes=1000)
    assert _smaller(Budget(host_bytes=7), limited, 0.5) == Budget(host_bytes=7, device_bytes=500)
    on_host = replace(job, plan=replace(made, device="cpu"), budget_bytes=1000)
    assert _smaller(Budget(host_bytes=1000), on_host, 0.5) == Budget(host_bytes=500)


@pytest.mark.parametrize(
    ("choices", "fact"),
    [
        (Choices(device="tpu"), "'tpu' is not a device"),
        (Choices(device="cuda:x"), "is not a device"),
        (Choices(device="cuda", engine="openvino"), "openvino runs on the processor"),
        (Choices(device="cuda", mode="whole"), "whole-volume mode runs on the processor"),
    ],
)
def test_devices_that_cannot_be(choices: Choices, fact: str) -> None:
    with pytest.raises(SettingsError, match=fact):
        choices.checked_device()


def test_a_gpu_that_is_not_there_is_named(tmp_path: Path) -> None:
    absent = "cuda:31"
    assert "PyTorch sees" in accelerator.why_unseen(absent)
    with pytest.raises(EngineUnavailable, match="PyTorch sees"):
        accelerator.limit_memory(absent, 1 << 30)
    accelerator.forget_peak(absent)
    assert accelerator.peak_bytes(absent) == accelerator.peak_bytes("cpu") == 0
    scan = write_ball(tmp_path / "scan", (40, 40, 40))
    choices = Choices(device=absent)
    result = run_model(RunRequest("hippocampus-mr", scan, tmp_path / "out", choices=choices))
    (series,) = result.series
    assert series.status in ("failed", "refused")
    assert series.error is not None
    assert "PyTorch sees" in f"{series.error}"
    assert not (tmp_path / "out").exists()


def test_a_plan_for_another_device_is_not_bent(tmp_path: Path) -> None:
    scan = write_ball(tmp_path / "scan", (40, 40, 40))
    made = plan_run(PlanRequest("hippocampus-mr", scan, measure=False))[0].plan
    request = RunRequest("hippocampus-mr", scan, tmp_path / "out", choices=Choices(device="cuda"), plan=made)
    with pytest.raises(SettingsError, match="the plan is for cpu"):
        run_model(request)


def test_pytorch_is_measured_with_the_reference_weights(tmp_path: Path) -> None:
    scan = write_ball(tmp_path / "scan", (40, 56, 40))
    (made,) = plan_run(PlanRequest("hippocampus-mr", scan, choices=Choices(engine="torch")))
    assert made.plan is not None
    assert (made.plan.engine, made.plan.device, made.plan.calibrated) == ("torch", "cpu", True)
    assert made.plan.device_peak_bytes == 0
