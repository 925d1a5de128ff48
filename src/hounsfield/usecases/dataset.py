"""Look at a data set before training on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hounsfield.usecases.events import OnEvent, Progress, silent

if TYPE_CHECKING:
    from hounsfield.training.dataset_check import DatasetReport


@dataclass(frozen=True)
class DatasetRequest:
    """Which table to look at.

    Parameters
    ----------
    table
        CSV or JSONL, see :mod:`hounsfield.evaluation.dataset`.
    split_file
        JSON from split name to case ids, instead of the column ``split``.
    target
        Column of the class, for data without label maps.
    montages
        Folder for the pictures.
    """

    table: Path
    split_file: Path | None = None
    target: str = ""
    montages: Path | None = None


def check_dataset(request: DatasetRequest, on_event: OnEvent = silent) -> DatasetReport:
    """Read every case and report what a training would stumble over."""
    from hounsfield.training.dataset_check import check_dataset as check

    return check(
        request.table,
        request.split_file,
        request.target,
        request.montages,
        lambda done, total: on_event(Progress("check", done, total)),
    )
