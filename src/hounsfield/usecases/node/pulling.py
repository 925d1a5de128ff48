"""Pulling: ask a PACS what it has (C-FIND), and fetch studies from it (C-GET or C-MOVE)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from hounsfield.audit import AuditEvent
from hounsfield.errors import NotReadable, SettingsError
from hounsfield.network.destinations import Destination
from hounsfield.network.query_scu import Fetched, Fetcher, find, move
from hounsfield.network.requestor import PeerFailed
from hounsfield.reading.elements import Malformed
from hounsfield.usecases.events import OnEvent, Progress
from hounsfield.usecases.node.cataloguing import TAGS, text
from hounsfield.usecases.node.committing import read_message
from hounsfield.usecases.node.keeping import Keeper
from hounsfield.usecases.node.listening import limits_of
from hounsfield.usecases.node.opening import Node

#: Attributes that are asked for, and shown.
_SHOWN: Final = (
    "PatientID",
    "PatientName",
    "StudyInstanceUID",
    "StudyDate",
    "StudyDescription",
    "AccessionNumber",
    "ModalitiesInStudy",
    "NumberOfStudyRelatedInstances",
)
_MORE_TAGS: Final = {"ModalitiesInStudy": ("00080061", "CS"), "NumberOfStudyRelatedInstances": ("00201208", "IS")}
_VRS: Final = {"PatientID": "LO", "PatientName": "PN", "StudyInstanceUID": "UI", "StudyDate": "DA"} | {
    "StudyDescription": "LO",
    "AccessionNumber": "SH",
}
_PATIENCE_S: Final = 600.0


@dataclass(frozen=True)
class PullRequest:
    """What to fetch from where.

    Parameters
    ----------
    source
        Name of a ``dicom`` destination of the configuration.
    keys
        Attribute keyword to the text to match, as in a query; at least one must say something.
    by
        ``"get"``: over the same association, which needs nothing else. ``"move"``: the PACS sends to
        this node, which must be running and known to the PACS.
    only_look
        Ask, and fetch nothing.
    most
        Refuse to fetch more studies than this.
    """

    source: str
    keys: Mapping[str, str]
    by: Literal["get", "move"] = "get"
    only_look: bool = False
    most: int = 20


@dataclass(frozen=True)
class PulledStudy:
    """A study that the source has, and what became of it."""

    study_uid: str
    told: Mapping[str, str] = field(repr=False)
    completed: int = 0
    failed: int = 0
    status: int | None = None

    @property
    def is_whole(self) -> bool:
        """Whether the source says that all of it was sent."""
        return self.status == 0 and not self.failed

    def as_dict(self) -> dict[str, Any]:
        """The study as data."""
        return {**vars(self), "told": dict(self.told)}


def pull(node: Node, request: PullRequest, who: str, on_event: OnEvent = lambda event: None) -> list[PulledStudy]:
    """Ask, and fetch study by study.

    Raises
    ------
    SettingsError
        If there is no such source, no key says anything, or more studies match than allowed.
    NotReadable
        If the source cannot be reached, or does not offer what is asked for.
    """
    source = _source(node, request.source)
    if not any(value.strip("*? ") for value in request.keys.values()):
        raise SettingsError("this would match every study", "give a patient, a study, a date or another key")
    try:
        found = _ask(source, request.keys)
        if request.only_look:
            return found
        if len(found) > request.most:
            raise SettingsError(f"{len(found)} studies match", f"narrow the keys, or allow more than {request.most}")
        return _fetch(node, source, request, who, found, on_event)
    except PeerFailed as failed:
        raise NotReadable(f"{request.source}: {failed}", "check the source, and that it knows this node") from failed


def _source(node: Node, name: str) -> Destination:
    for table in node.config.destinations:
        if table.name == name and table.kind == "dicom":
            return node.destination(table)
    names = [one.name for one in node.config.destinations if one.kind == "dicom"]
    raise SettingsError(f"{name!r} is no PACS of node.toml", f"it names: {', '.join(names) or 'none'}")


def _ask(source: Destination, keys: Mapping[str, str]) -> list[PulledStudy]:
    asked: dict[str, Any] = {"00080005": {"vr": "CS", "Value": ["ISO_IR 192"]}}
    asked["00080052"] = {"vr": "CS", "Value": ["STUDY"]}
    for keyword in _SHOWN:
        tag, vr = _MORE_TAGS.get(keyword) or (TAGS[keyword], _VRS[keyword])
        value = keys.get(keyword, "")
        asked[tag] = {"vr": vr, "Value": [value]} if value else {"vr": vr}
    found = []
    for answer in find(source, asked):
        try:
            told = read_message(answer.data, answer.transfer_syntax_uid)
        except Malformed as fault:
            raise PeerFailed(f"an answer to the query is damaged ({fault})") from None
        shown = {name: text(told, (_MORE_TAGS.get(name) or (TAGS.get(name, ""), ""))[0]) for name in _SHOWN}
        found.append(PulledStudy(shown["StudyInstanceUID"], shown))
    return found


def _fetch(
    node: Node,
    source: Destination,
    request: PullRequest,
    who: str,
    found: list[PulledStudy],
    on_event: OnEvent,
) -> list[PulledStudy]:
    keeper, done = Keeper(node.database, node.files), []
    with asyncio.Runner() as runner:
        fetcher = Fetcher(
            source, node.files.incoming, limits_of(node), lambda received: runner.run(keeper.keep(received))
        )
        try:
            for number, one in enumerate(found, 1):
                keys = {
                    "00080052": {"vr": "CS", "Value": ["STUDY"]},
                    "0020000D": {"vr": "UI", "Value": [one.study_uid]},
                }
                outcome: Fetched
                if request.by == "get":
                    outcome = fetcher.get(keys)
                else:
                    outcome = move(source, keys, node.config.ae_title, _PATIENCE_S)
                done.append(PulledStudy(one.study_uid, one.told, outcome.completed, outcome.failed, outcome.status))
                what = {"source": request.source, "study": one.study_uid, "by": request.by}
                counts = {"completed": outcome.completed, "failed": outcome.failed}
                event = AuditEvent("begin-transferring", who, {**what, **counts}, 0 if outcome.is_whole else 4)
                node.audit(event)
                on_event(Progress("studies", number, len(found)))
        finally:
            keeper.close()
    return done
