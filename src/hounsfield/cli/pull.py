"""``hounsfield pull``."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer

from hounsfield.cli.serve import Data, need_server_extra


def pull(
    source: Annotated[str, typer.Argument(help="Name of a PACS: a dicom destination in node.toml.")],
    patient: Annotated[str, typer.Option(help="Patient ID; * and ? stand for anything.")] = "",
    study: Annotated[str, typer.Option(help="Study Instance UID.")] = "",
    accession: Annotated[str, typer.Option(help="Accession number.")] = "",
    date: Annotated[str, typer.Option(help="Study date, YYYYMMDD, or a range YYYYMMDD-YYYYMMDD.")] = "",
    modality: Annotated[str, typer.Option(help="A modality in the study, such as CT.")] = "",
    by: Annotated[
        str, typer.Option(help="get: over this connection. move: the PACS sends to the running node.")
    ] = "get",
    look: Annotated[bool, typer.Option("--look", help="Only say what the PACS has.")] = False,
    most: Annotated[int, typer.Option(min=1, help="Fetch no more studies than this.")] = 20,
    data: Data = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print data instead of text.")] = False,
) -> None:
    """Ask a PACS for studies, such as a patient's earlier ones, and fetch them into the node.

    What comes is kept and routed like what is sent. Exit code 1 means that something did not come.
    """
    need_server_extra()
    from hounsfield.usecases.node.looking import opened
    from hounsfield.usecases.node.opening import default_root
    from hounsfield.usecases.node.pulling import PullRequest
    from hounsfield.usecases.node.pulling import pull as pull_studies

    if by not in ("get", "move"):
        raise typer.BadParameter("choose get or move", param_hint="--by")
    given = {
        "PatientID": patient,
        "StudyInstanceUID": study,
        "AccessionNumber": accession,
        "StudyDate": date,
        "ModalitiesInStudy": modality,
    }
    keys = {keyword: value for keyword, value in given.items() if value}
    request = PullRequest(source, keys, "move" if by == "move" else "get", look, most)
    with opened(data or default_root()) as node:
        found = pull_studies(node, request, getpass.getuser())
    if as_json:
        import json

        typer.echo(json.dumps([one.as_dict() for one in found], indent=1))
    else:
        for one in found:
            came = "" if look else f"  {one.completed} came, {one.failed} failed, status {one.status or 0:04X}"
            told = one.told
            typer.echo(f"{one.study_uid}  {told['StudyDate']}  {told['ModalitiesInStudy']}{came}")
        typer.echo(f"{len(found)} studies")
    raise typer.Exit(0 if look or all(one.is_whole for one in found) else 1)
