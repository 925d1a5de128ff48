"""``hounsfield train`` and ``hounsfield search``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from hounsfield.cli.options import AsJson, Quiet


def train(
    recipe: Annotated[Path, typer.Argument(help="The recipe, a TOML file; see docs/how-to/train.md.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the run.")],
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the checkpoint in the folder.")] = False,
    package: Annotated[bool, typer.Option(help="End with an ONNX graph and a package.")] = True,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Replace a value of the recipe: --set optimisation.steps=100"),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train a recipe; end with weights, curves, a graph and a model package.

    For several GPUs or processes: torchrun --nproc-per-node N -m hounsfield train RECIPE -o RUN
    """
    from hounsfield.cli.progress import ProgressBars
    from hounsfield.usecases.train import TrainRequest
    from hounsfield.usecases.train import train as run_training

    with ProgressBars(quiet or as_json) as bars:
        result = run_training(TrainRequest(recipe, output, resume, package, _typed(changes or ())), bars)
    if as_json:
        import json

        typer.echo(json.dumps(result.as_dict(), indent=2))
        return
    score = "not validated" if result.best_score is None else f"best validation score {result.best_score:.4f}"
    typer.echo(f"{result.finished} after {result.steps} steps; {score}")
    typer.echo(f"  plan     {result.plan}")
    typer.echo(f"  weights  {result.weights}")
    if result.package is not None:
        typer.echo(f"  package  {result.package}")


def _typed(changes: Sequence[str]) -> dict[str, Any]:
    """Names and values (written as in TOML) of ``--set``."""
    import tomllib

    found: dict[str, Any] = {}
    for text in changes:
        name, _, value = text.partition("=")
        try:
            found[name.strip()] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            raise typer.BadParameter(
                f"{text!r} is not NAME=VALUE with a value as in TOML", param_hint="--set"
            ) from None
    return found


def search(
    recipe: Annotated[Path, typer.Argument(help="A recipe with a [search] table.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the search.")],
    budget: Annotated[str, typer.Option(help="Time for this call, such as 2h or 30min.")] = "1h",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the search in the folder.")] = False,
    as_json: AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the result.")] = False,
) -> None:
    """Try values from the declared ranges within a time budget; report what mattered."""
    from hounsfield.cli.progress import ProgressBars
    from hounsfield.planning.units import parse_seconds
    from hounsfield.usecases.train import SearchRequest
    from hounsfield.usecases.train import search as run_search

    with ProgressBars(quiet or as_json) as bars:
        result = run_search(SearchRequest(recipe, output, parse_seconds(budget), resume), bars)
    if as_json:
        import json

        typer.echo(json.dumps(result.as_dict(), indent=2))
        return
    typer.echo(result.report.read_text(encoding="utf-8"))
