"""How far a running job is, for people who wait: written at most once a second."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from hounsfield.department import described
from hounsfield.department.database import Database

SHOW_SECONDS: Final = 1.0


@dataclass
class Shown:
    """Remembers when a job's stage began, and what was written last."""

    database: Database
    job_id: int
    _stage: str = ""
    _began: float = 0.0
    _written: float = field(default=-SHOW_SECONDS)

    def say(self, said: Mapping[str, Any]) -> None:
        """Take a line of the job's process; other lines than progress are passed over."""
        if not {"stage", "done", "total"} <= said.keys():
            return
        now, stage = time.monotonic(), str(said["stage"])
        fresh = stage != self._stage
        if fresh:
            self._stage, self._began = stage, now
        if fresh or now - self._written >= SHOW_SECONDS:
            self._written = now
            with self.database.write() as connection:
                described.progress(
                    connection, self.job_id, stage, int(said["done"]), int(said["total"]), now - self._began
                )
