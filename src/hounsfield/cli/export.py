"""``hounsfield export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    package: Annotated[str, typer.Argument(metavar="PACKAGE", help="An installed model or a package folder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to make; new or empty.")],
    edge: Annotated[
        bool, typer.Option("--edge", help="A folder with a runner of one file, for small machines.")
    ] = False,
    precision: Annotated[
        str, typer.Option(help="fp32, bf16, fp16 or int8; the smallest proven graph by default.")
    ] = "",
    engine: Annotated[str, typer.Option(help="onnxruntime or openvino.")] = "onnxruntime",
    allow_unproven: Annotated[
        bool,
        typer.Option("--allow-unproven", help="Accept a precision without evidence or gate; every result says so."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the sizes as JSON.")] = False,
) -> None:
    """Write a folder that runs a model without hounsfield: numpy, nibabel and one engine."""
    from hounsfield.errors import SettingsError
    from hounsfield.usecases.export_edge import ExportRequest, export_edge

    if not edge:
        raise SettingsError("only edge folders can be exported", "add --edge")
    result = export_edge(ExportRequest(package, output, precision, engine, allow_unproven))
    if as_json:
        import json

        typer.echo(json.dumps(result.as_dict(), indent=2))
        return
    typer.echo(f"{result.package.reference} in {result.precision}, for {engine}")
    for name, size in result.files.items():
        typer.echo(f"  {name:<18} {size / 1e6:8.3f} MB")
    for name, size in result.needs.items():
        typer.echo(f"  needs {name:<12} {size / 1e6:8.1f} MB installed")
    typer.echo(f"whole-pipeline graph: {result.pipeline}")
    typer.echo(f"run it: python {output / 'run.py'} SCAN.nii.gz -o labels.nii.gz")
