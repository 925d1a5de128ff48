"""``hounsfield deidentify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hounsfield.cli.progress import ProgressBars


def deidentify(
    source: Annotated[Path, typer.Argument(help="DICOM file or folder.", exists=True)],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder that is not there yet.")],
    key: Annotated[Path, typer.Option(help="Key of the pseudonyms; made if it is not there. Keep it apart.")],
    characteristics: Annotated[bool, typer.Option(help="Keep sex, age, size and weight.")] = False,
    shift_dates: Annotated[
        bool, typer.Option(help="Move a patient's dates together instead of removing them.")
    ] = False,
    keep_uids: Annotated[bool, typer.Option(help="Keep UIDs: who has the original can match them.")] = False,
    pixels_checked: Annotated[
        bool, typer.Option("--pixels-checked", help="You looked: nothing is written on the pixels.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print data instead of text.")] = False,
) -> None:
    """Take the person out of DICOM images (PS3.15 Basic Profile): only what is known to be safe stays.

    Reports, presentation states and documents are left out. The same key gives the same person the
    same pseudonym and the same UIDs every time.
    """
    from hounsfield.deidentifying.rules import Options
    from hounsfield.usecases.deidentify import DeidentifyRequest
    from hounsfield.usecases.deidentify import deidentify as run

    request = DeidentifyRequest(source, output, key, Options(characteristics, shift_dates, keep_uids), pixels_checked)
    with ProgressBars(quiet=as_json) as on_event:
        result = run(request, on_event)
    if as_json:
        import json

        typer.echo(json.dumps(result.as_dict(), indent=1))
        return
    typer.echo(f"{result.written} files of {result.people} people in {output}")
    for reason, count in result.refused.items():
        typer.echo(f"  left out {count}: {reason}")
    for note, count in result.warnings.items():
        typer.echo(f"  look at {count}: {note}")
