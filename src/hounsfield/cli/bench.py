"""``hounsfield bench``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hounsfield.cli.options import Quiet, Threads


def bench(
    package: Annotated[str, typer.Argument(metavar="PACKAGE", help="An installed model or a package folder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for table and plot; new or empty.")],
    engine: Annotated[
        list[str] | None, typer.Option(help="Only this engine; repeat it. All that are installed by default.")
    ] = None,
    threads: Threads = 0,
    rounds: Annotated[int, typer.Option(min=3, max=1000, help="How often the variants take turns.")] = 15,
    into_package: Annotated[
        bool,
        typer.Option("--into-package", help="Also build the next patch version, with the figures in its evidence."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Measure every graph of a model in every engine that runs it here: speed, memory, energy, accuracy."""
    from hounsfield.cli.progress import ProgressBars
    from hounsfield.usecases.bench import BenchRequest
    from hounsfield.usecases.bench import bench as run

    request = BenchRequest(package, output, tuple(engine or ()), threads, rounds, into_package)
    with ProgressBars(quiet or as_json) as bars:
        result = run(request, bars)
    if as_json:
        import json

        typer.echo(json.dumps(result.as_dict(), indent=2))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console, table = Console(), Table(box=None, pad_edge=False)
    for heading in ("engine", "precision", "ms", "windows/s", "vs fp32", "MiB", "graph MB", "accuracy", "gate"):
        table.add_column(heading)
    for row in result.rows:
        speed_up = "" if row.speed_up is None else f"{row.speed_up:.2f}x"
        accuracy = "" if row.accuracy is None else f"{row.metric} {row.accuracy[0]:.3f}"
        figures = (f"{row.latency_ms:.1f}", f"{row.windows_per_second:.1f}", speed_up, f"{row.added_mib:.0f}")
        table.add_row(row.engine, row.precision, *figures, f"{row.graph_bytes / 1e6:.2f}", escape(accuracy), row.gate)
    console.print(table)
    for name, precision, why in result.left_out:
        console.print(f"not measured: {name} {precision}: {escape(why)}", highlight=False)
    if result.busy:
        console.print(f"the machine was busy (load average {result.load_average:g}): read the ratios only")
    for kind, path in result.outputs.items():
        console.print(f"  {kind:<9} {escape(str(path))}", highlight=False, soft_wrap=True)
