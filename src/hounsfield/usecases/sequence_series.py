"""Which series of an input are sequences over time, and why some that look like one are not."""

from __future__ import annotations

from hounsfield.errors import NothingToRead
from hounsfield.reading import Contents, Series, SeriesKind

_APART = "apart-in-time"


def dynamic_series(contents: Contents) -> tuple[Series, ...]:
    """The dynamic series; static ones are left aside.

    Raises
    ------
    NothingToRead
        If there is none; where volumes of one protocol lie too far apart in time, the message says where.
    """
    found = tuple(one for one in contents.series if one.kind is SeriesKind.DYNAMIC)
    if found:
        return found
    for one in contents.series:
        for issue in one.issues:
            if issue.code == _APART:
                raise NothingToRead(issue.message, issue.remedy or "give the whole sequence", contents.source)
    refused = [issue.message for one in contents.series for issue in one.issues if issue.severity == "refuse"]
    why = f"; {len(refused)} cannot be read, the first because {refused[0]}" if refused else ""
    raise NothingToRead(
        f"there is no sequence over time among {len(contents.series)} series{why}",
        "give at least three time points of one protocol, with their times (AcquisitionTime or ContentTime)",
        contents.source,
    )
