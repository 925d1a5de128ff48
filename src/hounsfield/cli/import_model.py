"""``hounsfield import``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hounsfield.usecases.import_model import ImportResult


def import_model(
    source: Annotated[Path, typer.Argument(help="A model of another tool: a file or a folder.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder that will hold the package folder.")
    ] = None,
    format: Annotated[str, typer.Option("--as", metavar="FORMAT", help="Read it as this format.")] = "",
    answers: Annotated[
        Path | None, typer.Option(metavar="FILE", help="TOML file: what only you know (see the template).")
    ] = None,
    template: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the template of the answers to this new file.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of the conversion.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print data instead of text.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the result.")] = False,
) -> None:
    """Turn a model of another tool into a package, once, in a confined process.

    Without -o it says what the source is and prints a template of what it must be told.
    """
    from hounsfield.cli.progress import ProgressBars
    from hounsfield.importing import ImportLimits
    from hounsfield.usecases.import_model import ImportRequest
    from hounsfield.usecases.import_model import import_model as run_import

    limits = ImportLimits(threads=threads)
    with ProgressBars(quiet or as_json) as bars:
        result = run_import(ImportRequest(source, output, format, answers, limits), bars)
    if template is not None:
        _write_template(template, result.template)
    if as_json:
        import json

        typer.echo(json.dumps(result.as_dict(), indent=1))
        return
    _print(result, template)


def _write_template(path: Path, text: str) -> None:
    from hounsfield.errors import OutputError, OutputExists

    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise OutputExists("something stands there already", "choose another name", path) from error
    except OSError as error:
        raise OutputError(f"the template cannot be written ({error.strerror})", "check the path", path) from error


def _print(result: ImportResult, template: Path | None) -> None:
    typer.echo(f"{result.claim.title}  (format {result.claim.format})")
    width = max((len(name) for name, _ in result.claim.found), default=0)
    for name, value in result.claim.found:
        typer.echo(f"  {name:<{width}}  {value}")
    package = result.package
    if package is not None:
        for fact in result.facts:
            typer.echo(f"  {fact}")
        for one in result.parity:
            typer.echo(f"  parity with {one['against']}: {one['difference']:.1e} of the largest answer")
        for golden in result.goldens:
            typer.echo(f"  golden case in {golden.engine}: {golden.difference:.1e} of the largest answer")
        typer.echo(f"built {package.reference}")
        typer.echo(f"  folder  {package.root}")
        typer.echo(f"  digest  {package.digest}")
        typer.echo(f"  jail    {', '.join(result.locks)}")
        return
    if template is not None:
        typer.echo(f"answer each '?' in {template}, then: hounsfield import SOURCE -o FOLDER --answers {template}")
        return
    typer.echo("\nWhat must be told (answer each '?', save it, and give it with --answers and -o):\n")
    typer.echo(result.template)
