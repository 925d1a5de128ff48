"""The child's whole life: read a request, close the doors, look or convert, answer one line.

Run as ``python -I -m hounsfield.importing.confined`` by :mod:`hounsfield.importing.jail`.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

from hounsfield.errors import HounsfieldError, InternalError, SourceRefused
from hounsfield.importing.answers import Answers
from hounsfield.importing.format import FORMATS, Format, format_module
from hounsfield.importing.locks import Bounds, close_the_doors, readable_places, turn_the_key


def main() -> None:
    """Answer the request on standard input; the exit code is 0 whenever there is an answer."""
    request = json.loads(sys.stdin.buffer.read())
    answers_to = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    warnings.simplefilter("ignore")
    data = json.dumps(_answer(request)).encode("utf-8")
    while data:
        data = data[os.write(answers_to, data) :]
    os._exit(0)


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    source, folder = Path(request["source"]), Path(request["folder"])
    try:
        held = close_the_doors(folder, readable_places(source))
        modules = _formats(request)
        held += turn_the_key(_bounds(request["limits"]))
        if "seccomp" not in held:
            raise SourceRefused("this system cannot confine the conversion", "import on Linux with seccomp", source)
        return {**_work(request, modules, source, folder), "locks": held}
    except HounsfieldError as error:
        return {"error": error.as_dict()}
    except (MemoryError, RecursionError):
        refused = SourceRefused("converting it takes more memory than allowed", "import a smaller model", source)
        return {"error": refused.as_dict()}
    except Exception as error:
        # The text of an unforeseen error may quote the source, so only its place is told.
        return {"error": InternalError(f"the converter failed ({_place(error)})", "please report it").as_dict()}


def _formats(request: dict[str, Any]) -> dict[str, Format]:
    """The modules that the task needs, with their frameworks loaded: from here on nothing is imported."""
    if request["task"] == "look":
        return {name: format_module(name) for name in FORMATS}
    module = format_module(request["format"])
    for name in module.HEAVY:
        try:
            importlib.import_module(name)
        except ImportError:
            remedy = 'install it: pip install "hounsfield[train]"'
            raise SourceRefused(f"importing this needs {name}, which is not installed", remedy) from None
    return {request["format"]: module}


def _bounds(table: dict[str, Any]) -> Bounds:
    return Bounds(int(table["memory_bytes"]), int(table["cpu_s"]), int(table["file_bytes"]))


def _work(request: dict[str, Any], modules: dict[str, Format], source: Path, folder: Path) -> dict[str, Any]:
    if request["task"] == "look":
        claims = [module.claims(source) for module in modules.values()]
        return {"claims": [claim.as_dict() for claim in claims if claim is not None]}
    draft = modules[request["format"]].convert(source, Answers(request["answers"]), folder)
    return {"draft": draft.as_dict()}


def _place(error: Exception) -> str:
    trace, last = error.__traceback__, ""
    while trace is not None:
        last = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"{type(error).__name__} at {last}"


if __name__ == "__main__":
    main()
