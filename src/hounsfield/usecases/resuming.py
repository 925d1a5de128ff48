"""What an earlier run left in an output folder: its finished results, and what it was killed at."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from hounsfield.errors import NotReadable, OutputExists
from hounsfield.findings.terminology import DIAMETER, FINDING_COUNT, VOLUME
from hounsfield.packages import ModelPackage
from hounsfield.usecases.job import SeriesResult

_PARTIAL: Final = ".partial-"
_KINDS: Final = {"labels": "nifti", "result": "json"}


def finished_before(output: Path, package: ModelPackage, precision: str, *, resume: bool) -> dict[str, SeriesResult]:
    """What an earlier run finished, by name; an empty answer for a new output folder.

    With ``resume``, what the earlier run was killed at is removed.

    Raises
    ------
    OutputExists
        If there is something and ``resume`` was not asked for, or another package or precision
        made it.
    NotReadable
        If a result in the folder is not one of ours.
    """
    if not output.exists():
        return {}
    if not output.is_dir():
        raise OutputExists("there is a file where the output folder should be", "choose another folder", output)
    if not resume:
        if any(_visible(output)):
            remedy = "choose another folder, or go on with --resume"
            raise OutputExists("the output folder is not empty", remedy, output)
        return {}
    for left in output.glob(f"{_PARTIAL}*"):
        shutil.rmtree(left, ignore_errors=True)
    return {path.parent.name: _skipped(path, package, precision) for path in sorted(output.glob("*/result.json"))}


def _skipped(path: Path, package: ModelPackage, precision: str) -> SeriesResult:
    """The result of an earlier run, from its folder."""
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
        digest, run = written["package"]["sha256"], written["run"]
        ran, rows = run["precision"], tuple(_rows(written))
        warnings, figures = tuple(map(str, written["warnings"])), dict(run["figures"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NotReadable("this is not a result of hounsfield", "choose another output folder", path) from error
    if digest != package.digest:
        raise OutputExists("another package wrote these results", "choose another output folder", path.parent)
    if ran != precision:
        fact = f"these results were made in {ran}, not in {precision}"
        raise OutputExists(fact, "choose another output folder, or the same precision", path.parent)
    files = {_KINDS.get(_stem(one), _stem(one)): one for one in sorted(path.parent.iterdir())}
    return SeriesResult(path.parent.name, "", "skipped", files, rows, warnings, figures)


def _rows(written: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows of a summary, as they were when the result was written."""
    for one in written["class_scores"]:
        yield {name: one[name] for name in ("label", "probability", "point_mm", "called")}
    labels = {segment["number"]: segment["label"] for segment in written["segments"]}
    for finding in written["findings"]:
        if finding["segment_number"] is None:
            if not written["class_scores"]:
                yield _located(finding)
            continue
        volumes = (one["value"] for one in finding["measurements"] if one["concept"]["value"] == VOLUME.value)
        yield {
            "label": labels[finding["segment_number"]],
            "component": finding["component"],
            "volume_ml": next(volumes, 0.0),
            "tracking_uid": finding["tracking_uid"],
        }


def _located(finding: Mapping[str, Any]) -> dict[str, Any]:
    """A located finding, or how many there are of a kind."""
    values = {one["concept"]["value"]: one["value"] for one in finding["measurements"]}
    point = finding["centre_lps_mm"]
    if point is None:
        return {"label": finding["tracking_id"], "count": round(values[FINDING_COUNT.value]), "point_mm": None}
    known = {"label": finding["tracking_id"], "probability": finding["score"], "point_mm": point, "called": {}}
    return {**known, "diameter_mm": values[DIAMETER.value]}


def _stem(path: Path) -> str:
    return path.name.split(".")[0]


def _visible(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if not path.name.startswith("."))
