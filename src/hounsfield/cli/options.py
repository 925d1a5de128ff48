"""Options that mean the same in several verbs, so that they are said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

GateFile = Annotated[Path, typer.Option("--gate", metavar="FILE", help="TOML: metrics, margins, strata, confidence.")]
SplitFile = Annotated[
    Path | None, typer.Option("--split", metavar="FILE", help="JSON: split name to list of case ids.")
]
JudgedPart = Annotated[
    str, typer.Option("--part", help="Split to judge on; 'test' by default, where there are splits.")
]
UsedTables = Annotated[
    list[Path] | None,
    typer.Option(
        "--used", metavar="TABLE", help="Data that trained or calibrated the model, to be kept out; repeat it."
    ),
]
MatchIou = Annotated[
    float, typer.Option("--match-iou", min=0, max=1, metavar="IOU", help="Overlap that matches lesions.")
]
Repair = Annotated[bool, typer.Option("--repair", help="Resample tilted or uneven slices.")]
Threads = Annotated[int, typer.Option("--threads", min=0, help="CPU threads; 0 means all.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars.")]
Device = Annotated[str, typer.Option("--device", help="cpu, or a GPU: cuda, cuda:1 (needs PyTorch for CUDA).")]
