"""The ``hounsfield`` command: its verbs, and how errors end.

Each verb is a function in a module of its own, which imports its use case only when it is
called, so that ``--help`` stays quick. Exit codes: 0 ok, 1 refused or failed, 2 usage.
"""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from hounsfield.cli import audit, dataset, jobs, models, package, routes, token, user
from hounsfield.cli.bench import bench
from hounsfield.cli.compress import compress
from hounsfield.cli.deidentify import deidentify
from hounsfield.cli.demo import demo
from hounsfield.cli.doctor import doctor
from hounsfield.cli.evaluate import evaluate
from hounsfield.cli.export import export
from hounsfield.cli.gate import gate
from hounsfield.cli.import_model import import_model
from hounsfield.cli.inspect import inspect
from hounsfield.cli.plan import plan
from hounsfield.cli.pull import pull
from hounsfield.cli.run import run
from hounsfield.cli.serve import serve
from hounsfield.cli.train import search, train
from hounsfield.errors import HounsfieldError, InternalError, OutputError
from hounsfield.version import __version__

app = typer.Typer(
    name="hounsfield",
    help="Run, prove, train and deploy medical-imaging AI on your own machine. Research use only.",
    epilog="Start with 'hounsfield demo', or 'hounsfield inspect SCAN' to see what a scan is.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options before the verb."""


for _verb in (
    demo,
    inspect,
    plan,
    run,
    train,
    search,
    evaluate,
    gate,
    compress,
    bench,
    export,
    serve,
    pull,
    deidentify,
    doctor,
):
    app.command()(_verb)
app.command(name="import")(import_model)
app.add_typer(dataset.app, name="dataset")
app.add_typer(models.app, name="models")
app.add_typer(package.app, name="package")
app.add_typer(routes.app, name="routes")
app.add_typer(jobs.app, name="jobs")
app.add_typer(audit.app, name="audit")
app.add_typer(token.app, name="token")
app.add_typer(user.app, name="user")


def main() -> None:
    """Run the command line; an error of ours becomes one clear line and exit code 1."""
    as_json = "--json" in sys.argv
    try:
        app()
    except HounsfieldError as error:
        fail(error, as_json)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)
    except Exception as error:
        if sys.flags.dev_mode:
            raise
        fail(_unforeseen(error), as_json)


def _unforeseen(error: Exception) -> HounsfieldError:
    """What a user is told of an error that nobody foresaw; ``python -X dev`` shows where it arose."""
    if isinstance(error, OSError) and error.strerror:
        return OutputError(
            f"the system refused ({error.strerror})", "check the path and its permissions", error.filename
        )
    fact = f"this failed unexpectedly ({type(error).__name__}: {error})"
    return InternalError(fact, "please report it with the command that was run")


def fail(error: HounsfieldError, as_json: bool) -> None:
    """Print the error as one line (or as JSON on standard output) and exit with 1."""
    if as_json:
        print(json.dumps(error.as_dict()))
    else:
        print(f"hounsfield: {' '.join(str(error).split())}", file=sys.stderr)
    sys.exit(1)
