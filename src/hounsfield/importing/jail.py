"""Look at and convert a source in a limited child process; only data come back.

The child is a fresh, isolated interpreter (``python -I``) with an empty environment, its own
temporary folder, no network and no way to start a program (see :mod:`hounsfield.importing.locks`).
It answers one line of JSON; files it left are looked at again by the parent.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hounsfield import errors
from hounsfield.errors import HounsfieldError, InternalError, SourceRefused
from hounsfield.importing.answers import Answers
from hounsfield.importing.claim import Claim, printable
from hounsfield.importing.draft import Draft

GIB = 1024**3
_MOST_ANSWER_BYTES = 64 * 1024**2
_KNOWN_ERRORS = ("SourceError", "SourceUnknown", "SourceRefused", "AnswersMissing", "PackageInvalid", "OutputError")


@dataclass(frozen=True)
class ImportLimits:
    """How much one import may take.

    Parameters
    ----------
    memory_bytes
        Address space beyond what the child has when it opens the source.
    cpu_s, wall_s
        Processor and wall time, seconds.
    file_bytes
        Largest single file that may be written.
    threads
        Threads of the child's arithmetic.
    """

    memory_bytes: int = 24 * GIB
    cpu_s: int = 3600
    wall_s: float = 3600.0
    file_bytes: int = 8 * GIB
    threads: int = 1


def look_in_jail(source: Path, folder: Path, limits: ImportLimits = ImportLimits()) -> tuple[Claim, ...]:
    """All formats' claims on a source; ``folder`` is an empty folder for the child.

    Raises
    ------
    SourceError
        If a format refuses the source, or looking takes more than allowed.
    """
    answer = _child({"task": "look"}, source, folder, limits)
    return tuple(Claim.from_dict(table) for table in answer["claims"])


def convert_in_jail(
    claim: Claim, source: Path, answers: Answers, folder: Path, limits: ImportLimits = ImportLimits()
) -> tuple[Draft, tuple[str, ...]]:
    """Convert a source as its claim says; data files appear in ``folder``.

    Returns
    -------
    The draft, and the locks that held while it was made.

    Raises
    ------
    SourceRefused, AnswersMissing, PackageInvalid
        From the format, in one line.
    """
    answer = _child({"task": "convert", "format": claim.format, "answers": answers.table}, source, folder, limits)
    return Draft.from_dict(answer["draft"]), tuple(answer["locks"])


def _child(task: dict[str, Any], source: Path, folder: Path, limits: ImportLimits) -> dict[str, Any]:
    request = {**task, "source": str(source.absolute()), "folder": str(folder), "limits": asdict(limits)}
    command = [sys.executable, "-I", "-B", "-X", "utf8", "-m", "hounsfield.importing.confined"]
    with subprocess.Popen(  # noqa: S603
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        env=_environment(folder, limits.threads),
        start_new_session=True,
    ) as process:
        try:
            out, _ = process.communicate(json.dumps(request).encode("utf-8"), timeout=limits.wall_s)
        except subprocess.TimeoutExpired:
            raise SourceRefused(
                "converting it takes more time than allowed", "import a smaller model", source
            ) from None
        finally:
            if process.poll() is None:
                process.kill()
    return _answer(process.returncode, out, source)


def _environment(folder: Path, threads: int) -> dict[str, str]:
    kept = {name: str(threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    return {"PATH": "/usr/bin:/bin", "HOME": str(folder), "TMPDIR": str(folder), "LANG": "C.UTF-8", **kept}


def _answer(code: int, out: bytes, source: Path) -> dict[str, Any]:
    if code != 0:
        raise _died(code, source)
    try:
        if len(out) > _MOST_ANSWER_BYTES:
            raise ValueError("too long")
        answer = json.loads(out)
        if not isinstance(answer, dict):
            raise ValueError("no table")
    except (ValueError, RecursionError) as error:
        raise SourceRefused("the conversion gave no usable answer", "check the source", source) from error
    if "error" in answer:
        raise _error(answer["error"], source)
    return answer


def _died(code: int, source: Path) -> SourceRefused:
    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        return SourceRefused("converting it takes more time or memory than allowed", "import a smaller model", source)
    if code == -signal.SIGXFSZ:
        return SourceRefused("converting it writes more than allowed", "import a smaller model", source)
    if code == -signal.SIGSYS:
        return SourceRefused("it made the converter try what a converter never does", "do not trust it", source)
    what = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return SourceRefused(f"the conversion ended early ({what})", "check that the source is whole", source)


def _error(table: dict[str, Any], source: Path) -> HounsfieldError:
    name = str(table.get("error"))
    fact, remedy = printable(str(table.get("fact")), 2000), printable(str(table.get("remedy")), 500)
    if name not in _KNOWN_ERRORS:
        return InternalError(fact, "please report it with the command that was run", source)
    kind: type[HounsfieldError] = getattr(errors, name)
    path = table.get("path")
    return kind(fact, remedy, source if path is None else os.fsdecode(os.fsencode(printable(str(path), 1000))))
