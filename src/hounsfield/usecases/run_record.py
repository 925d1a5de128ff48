"""Let a package read a record without a scan, and write its answer as JSON and a report."""

from __future__ import annotations

import datetime as dt
import json
import secrets
import shutil
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import OutputError, SettingsError
from hounsfield.findings import ClassScore
from hounsfield.inference.activating import probabilities
from hounsfield.inference.named import NamedAnswer
from hounsfield.packages import ModelPackage
from hounsfield.usecases.classifying import class_scores, score_rows
from hounsfield.usecases.job import Choices, SeriesResult
from hounsfield.usecases.records import checked_record, read_record, record_values
from hounsfield.usecases.small_networks import run_small
from hounsfield.version import __version__

if TYPE_CHECKING:
    from hounsfield.usecases.run import RunRequest, RunResult


@dataclass(frozen=True, eq=False)
class RecordAnswer:
    """The scores of one record, and what ran."""

    scores: tuple[ClassScore, ...]
    ran: NamedAnswer


def is_record_only(package: ModelPackage) -> bool:
    """Whether the package reads a record and no scan."""
    return bool(package.manifest.input.record) and not package.manifest.input.channels


def answer_record(package: ModelPackage, choices: Choices, values: NDArray[np.float32]) -> RecordAnswer:
    """Run the package's network on a record (1, columns).

    Raises
    ------
    SettingsError
        For another precision than fp32.
    PackageInvalid, EngineError
        From the package and the engine.
    """
    ran = run_small(package, choices, record=values)
    (row,) = probabilities(ran.values, package.manifest.output)
    return RecordAnswer(tuple(class_scores(package.manifest.output.classes, row.tolist())), ran)


def run_record(package: ModelPackage, request: RunRequest) -> RunResult:
    """Read ``request.record`` and write ``OUT/record/result.json`` and ``report.html``, both or none.

    Raises
    ------
    InputError, DomainRefused
        If the record cannot be read, or the package must not read it.
    OutputError
        If the results cannot be written.
    """
    from hounsfield.usecases.resuming import finished_before
    from hounsfield.usecases.run import RunResult
    from hounsfield.writing.record_result import RecordFacts, write_record_result

    if request.record is None:
        raise SettingsError(
            f"{package.reference} reads a record, and none was given", "give it with --record FILE.json"
        )
    finished_before(request.output, package, request.choices.precision, resume=False)
    began = time.perf_counter()
    data = read_record(request.record)
    values, warnings = checked_record(data, package.manifest.input.record, request.record)
    answer = answer_record(package, request.choices, values)
    manifest = package.manifest
    lacks = package.why_unproven("fp32")
    facts = RecordFacts(
        package_id=manifest.id,
        package_version=manifest.version,
        package_title=manifest.title,
        package_digest=package.digest,
        intended_use=" ".join(manifest.intended_use.split()),
        attribution=manifest.licence.attribution,
        engine=answer.ran.engine,
        precision=answer.ran.precision,
        software_version=__version__,
        run_uid=f"2.25.{uuid.uuid4().int}",
        finished=dt.datetime.now().astimezone(),
        seconds=round(time.perf_counter() - began, 3),
        lacks=lacks,
        warnings=((f"the package has {lacks}",) if lacks else ()) + warnings,
        record=record_values(manifest.input.record, values),
    )
    partial = request.output / f".partial-record-{secrets.token_hex(4)}"
    try:
        partial.mkdir(parents=True)
        files = write_record_result(facts, answer.scores, partial)
        partial.rename(request.output / "record")
    except OSError as error:
        fact = f"the results cannot be written ({error.strerror or error})"
        raise OutputError(fact, "free some space or choose another folder", request.output) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    outputs = {kind: request.output / "record" / name for kind, name in files.items()}
    figures: dict[str, Any] = {"precision": answer.ran.precision, "engine": answer.ran.engine, "seconds": facts.seconds}
    one = SeriesResult("record", "record", "done", outputs, score_rows(answer.scores), facts.warnings, figures)
    result = RunResult(package.reference, package.digest, (one,))
    (request.output / "summary.json").write_text(json.dumps(result.as_dict(), indent=1), encoding="utf-8")
    return result
