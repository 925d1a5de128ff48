"""The process that stays: it reads points of the scan that it holds, with the model that it holds.

    python -m hounsfield.usecases.node.point_process FD

One line of JSON on standard input for each thing to do; on the descriptor FD first, for a reading, what
the model found (``{"seen": ...}``), then, when everything is written, how it went. It ends when standard
input does.
"""

from __future__ import annotations

import base64
import gc
import gzip
import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from hounsfield.errors import GeometryRefused, HounsfieldError, InternalError, NotReadable
from hounsfield.packages import ModelPackage, open_package
from hounsfield.reading import Series, load, scan_files
from hounsfield.usecases.events import silent
from hounsfield.usecases.inferring import infer_stage
from hounsfield.usecases.job import Job, SeriesResult
from hounsfield.usecases.loading import loaded_part
from hounsfield.usecases.sessions import Sessions
from hounsfield.usecases.stages import result_name
from hounsfield.usecases.storing import write_stage
from hounsfield.volume import LabelMap, Volume


class Holding:
    """One scan and one model, kept until another is asked for.

    Parameters
    ----------
    say
        Told what the model found, before it is written.
    """

    def __init__(self, say: Callable[[dict[str, Any]], None]) -> None:
        self._say = say
        self._sessions = Sessions()
        self._package: ModelPackage | None = None
        self._scan: tuple[object, Series, Volume] | None = None

    def prepare(self, job: Job) -> SeriesResult:
        """Load everything that reading will need."""
        series, _ = self._scan_of(job)
        self._sessions.open(self._package_of(job), job.choices, job.plan)
        for name in ("highdicom.seg", "highdicom.sr", "nibabel", "scipy.ndimage", "PIL.Image"):
            importlib.import_module(name)
        return SeriesResult(job.name, series.summary, "skipped")

    def read(self, job: Job) -> SeriesResult:
        """Read the surroundings of the job's points and write the answer."""
        package = self._package_of(job)
        series, whole = self._scan_of(job)
        try:
            loaded = loaded_part(whole, package, job.choices, job.warnings, job.source, time.perf_counter())
            labelled = infer_stage(loaded, package, job.choices, self._sessions, silent, job.plan)
            self._say({"seen": seen(labelled.labels, package)})
            return write_stage(job.name, series, loaded, labelled, package, job.choices, job.output)
        except HounsfieldError as error:
            return SeriesResult.not_done(job.name, series.summary, error)

    def _package_of(self, job: Job) -> ModelPackage:
        if self._package is None or self._package.digest != job.package_digest:
            self._package = open_package(job.package)
        return self._package

    def _scan_of(self, job: Job) -> tuple[Series, Volume]:
        """The job's series and its voxels; what was kept of another is let go first."""
        key = (job.files, job.name, job.choices.repair)
        if self._scan is None or self._scan[0] != key:
            self._scan = None
            gc.collect()
            series = next(
                (one for one in scan_files(job.files, source=job.source).series if result_name(one) == job.name), None
            )
            if series is None:
                raise NotReadable("the files of the series changed", "open the study again")
            whole = load(series, repair=job.choices.repair)
            if not isinstance(whole, Volume):
                raise GeometryRefused("the series has several time points", "choose another series")
            self._scan = (key, series, whole)
        return self._scan[1:]


def seen(labels: LabelMap, package: ModelPackage) -> dict[str, Any]:
    """What was found, for a viewer: segments with their ml, and the box of labels as base64 of a packed NIfTI file."""
    import nibabel

    places = np.argwhere(labels.array)
    ml = labels.geometry.voxel_volume_mm3 / 1000
    segments = [
        {
            "number": one.number,
            "label": one.label,
            "colour_rgb": list(one.colour_rgb),
            "volume_ml": round(float(np.count_nonzero(labels.array == one.number)) * ml, 4),
        }
        for one in package.manifest.output.segments
    ]
    if not len(places):
        return {"segments": segments, "nifti": ""}
    low, high = places.min(0), places.max(0) + 1
    box = labels.array[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    k, j, i = (int(one) for one in low)
    geometry = labels.geometry.cropped((k, j, i), (box.shape[0], box.shape[1], box.shape[2]))
    image = nibabel.Nifti1Image(box.astype(np.uint8).transpose(2, 1, 0), geometry.affine_ras)
    return {"segments": segments, "nifti": base64.b64encode(gzip.compress(image.to_bytes(), 1)).decode("ascii")}


def _answer(work: Callable[[Job], SeriesResult], job: Job) -> dict[str, Any]:
    try:
        return {"result": work(job).as_dict()}
    except HounsfieldError as error:
        return {"error": error.as_dict()}
    except Exception as error:
        unforeseen = InternalError(f"it failed unexpectedly ({type(error).__name__})", "see the log of the node")
        return {"error": unforeseen.as_dict()}


def main() -> None:
    """Do what comes until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with os.fdopen(int(sys.argv[1]), "w", encoding="utf-8") as out:

        def say(fact: dict[str, Any]) -> None:
            out.write(json.dumps(fact) + "\n")
            out.flush()

        holding = Holding(say)
        while line := sys.stdin.readline():
            given = json.loads(line)
            work = holding.prepare if given["prepare"] else holding.read
            say(_answer(work, Job.from_json(given["job"])))


if __name__ == "__main__":
    main()
