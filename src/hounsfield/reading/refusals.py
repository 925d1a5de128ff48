"""Refusals across the wall of a child process: an error as JSON there, an issue or an error here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from hounsfield.errors import GeometryRefused, InputError, LimitExceeded, NotReadable, UnsupportedEncoding
from hounsfield.reading.jail import Failure
from hounsfield.reading.series import Issue

_CODE_OF: Final[dict[type[InputError], str]] = {
    LimitExceeded: "limit",
    UnsupportedEncoding: "encoding",
    GeometryRefused: "geometry",
    NotReadable: "header",
}
_ERROR_OF: Final = {code: error for error, code in _CODE_OF.items()}


def refusal_of(error: InputError) -> dict[str, str]:
    """An error as JSON can carry it."""
    return {"code": _CODE_OF.get(type(error), "header"), "fact": error.fact, "remedy": error.remedy}


def refusal_or(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The answer of ``work``, or ``{"refusal": ...}`` if it raised an `InputError`."""
    try:
        return work()
    except InputError as error:
        return {"refusal": refusal_of(error)}
    except OSError as error:
        fact = f"cannot be read ({error.strerror or 'input error'})"
        return {"refusal": {"code": "header", "fact": fact, "remedy": "check the file and its permissions"}}


def refusal_issue(answer: dict[str, Any] | Failure) -> Issue | None:
    """The refusal in the answer of a child, as an issue of the series."""
    if isinstance(answer, Failure):
        return Issue(answer.code or "header", "refuse", answer.reason, "check the file, or copy it again")
    said = answer.get("refusal")
    return None if said is None else Issue(said["code"], "refuse", said["fact"], said["remedy"])


def answer_or_raise(answer: dict[str, Any] | Failure, path: Path) -> dict[str, Any]:
    """The answer of a child.

    Raises
    ------
    InputError
        What the child refused with, or `NotReadable` if it crashed.
    """
    issue = refusal_issue(answer)
    if issue is not None or isinstance(answer, Failure):
        issue = issue or Issue("header", "refuse", "it cannot be read")
        raise _ERROR_OF.get(issue.code, NotReadable)(issue.message, issue.remedy, path)
    return answer
