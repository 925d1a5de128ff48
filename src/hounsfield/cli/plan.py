"""``hounsfield plan``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hounsfield.cli.options import Device


def plan(
    model: Annotated[str, typer.Argument(help="An installed model or a package folder.")],
    scan: Annotated[Path, typer.Argument(metavar="INPUT", help="Folder, file, zip or tar with one or many scans.")],
    memory: Annotated[str, typer.Option(help="Memory that the run may take, such as 2GiB.")] = "",
    gpu_memory: Annotated[str, typer.Option(help="Memory of the GPU that the run may take, such as 8GiB.")] = "",
    time: Annotated[str, typer.Option(help="Time that the run may take, such as 60s.")] = "",
    series: Annotated[str, typer.Option(help="Only this series: its key or UID.")] = "",
    at: Annotated[
        list[str] | None, typer.Option(metavar="POINT", help="Plan for the surroundings of points, as 'run --at'.")
    ] = None,
    precision: Annotated[str, typer.Option(help="fp32, bf16, fp16 or int8.")] = "fp32",
    engine: Annotated[str, typer.Option(help="openvino, onnxruntime or torch; the best one by default.")] = "",
    device: Device = "",
    whole: Annotated[
        bool, typer.Option("--whole", help="Plan the equivalent of one pass over the whole volume.")
    ] = False,
    allow_unproven: Annotated[
        bool, typer.Option("--allow-unproven", help="Accept a precision without evidence or gate.")
    ] = False,
    save: Annotated[
        Path | None, typer.Option(metavar="PLAN.toml", help="Write the plan of the only series; 'run --plan' reads it.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plans as JSON.")] = False,
) -> None:
    """Say what a run would take, before any voxel is read: engine, window, memory, time.

    Or say the smallest budget that would do, and what would make it fit. The first time, the model is
    measured on this machine for some seconds.
    """
    from hounsfield.cli.progress import ProgressBars
    from hounsfield.cli.run import typed_points
    from hounsfield.planning import Budget
    from hounsfield.usecases.job import Choices
    from hounsfield.usecases.plan import PlanRequest, plan_run

    budget = Budget.parse(memory or None, gpu_memory or None, time or None)
    choices = Choices(
        precision=precision,
        engine=engine,
        at=typed_points(at or ()),
        allow_unproven=allow_unproven,
        mode="whole" if whole else "window",
        device=device,
    )
    with ProgressBars(as_json) as bars:
        plans = plan_run(PlanRequest(model, scan, budget, series or None, choices), bars)
    if save is not None:
        _save(plans, save)
    if as_json:
        import json

        typer.echo(json.dumps({"plans": [one.as_dict() for one in plans]}, indent=2))
    else:
        for one in plans:
            typer.echo(one.series)
            typer.echo(f"{one.plan}" if one.plan is not None else f"  {one.error}")
    raise typer.Exit(0 if all(one.plan is not None for one in plans) else 1)


def _save(plans: object, path: Path) -> None:
    from hounsfield.errors import SettingsError
    from hounsfield.writing.files import whole_file

    made = [one.plan for one in plans if one.plan is not None]  # type: ignore[attr-defined]
    if len(made) != 1:
        raise SettingsError(f"there are {len(made)} plans to save", "choose one series with --series")
    with whole_file(path) as temporary:
        temporary.write_text(made[0].to_toml(), encoding="utf-8")
