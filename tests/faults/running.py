"""A receiver in the test's own process, on a thread: quick, and its insides can be looked at."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hounsfield.department.database import Database, open_database
from hounsfield.department.files import InstanceFiles
from hounsfield.network.acceptor import Acceptor
from hounsfield.network.received import AssociationRecord
from hounsfield.usecases.node.keeping import Keeper


@dataclass
class Receiver:
    """Acceptor and keeper over a folder; a context manager."""

    root: Path
    options: dict[str, Any] = field(default_factory=dict)
    records: list[AssociationRecord] = field(default_factory=list)

    def __enter__(self) -> Self:
        self.files = InstanceFiles(self.root)
        self.files.prepare()
        self.database: Database = open_database(self.root / "state.sqlite")
        self.keeper = Keeper(self.database, self.files)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.port = self._run(self._open())
        return self

    async def _open(self) -> int:
        self._acceptor = Acceptor(self.keeper.keep, self.files.incoming, on_end=self.records.append, **self.options)
        return await self._acceptor.listen("127.0.0.1", 0)

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run(self._acceptor.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self.keeper.close()
        self.database.close()

    def parts(self) -> list[Path]:
        """What lies in the incoming folder."""
        return list(self.files.incoming.iterdir())
