"""A PACS for tests, by pynetdicom: it stores what it is sent, or does what it is told to do instead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from pynetdicom import AE, AllStoragePresentationContexts, evt


@dataclass
class Sink:
    """A storage SCP; a context manager.

    Parameters
    ----------
    behave
        (SOP Instance UID) -> status, or an exception to abort with.

    Attributes
    ----------
    stored
        SOP Instance UID -> how often it was stored.
    """

    behave: Callable[[str], int] = lambda uid: 0
    port: int = 0
    stored: dict[str, int] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        entity = AE(ae_title="SINK")
        entity.supported_contexts = AllStoragePresentationContexts
        handlers = [(evt.EVT_C_STORE, self._store)]
        self._server = entity.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers)
        self.port = self._server.socket.getsockname()[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()

    def _store(self, event: Any) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        self.asked.append(uid)
        try:
            status = self.behave(uid)
        except ConnectionError:
            event.assoc.abort()
            return 0xC000
        if status in (0, 0xB000):
            self.stored[uid] = self.stored.get(uid, 0) + 1
            content = event.request.DataSet.getvalue()
            if self.contents.setdefault(uid, content) != content:
                self.different.append(uid)
        return status
