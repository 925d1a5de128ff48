"""Progress bars with time left, drawn on standard error from the events of a use case."""

from __future__ import annotations

from types import TracebackType

from hounsfield.usecases.events import Event, Note, Progress


class ProgressBars:
    """One bar per stage; silent when ``quiet``, and without bars when standard error is no terminal."""

    def __init__(self, quiet: bool = False) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self._quiet = quiet
        self._console = Console(stderr=True)
        self._bars = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            disable=quiet or not self._console.is_terminal,
        )
        self._tasks: dict[str, int] = {}

    def __enter__(self) -> ProgressBars:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def __call__(self, event: Event) -> None:
        """Draw one event."""
        if isinstance(event, Progress):
            self._draw(event)
        elif isinstance(event, Note) and not self._quiet:
            style = {"warn": "yellow", "error": "red"}.get(event.severity, "dim")
            self._console.print(event.message, style=style, highlight=False, markup=False)

    def _draw(self, event: Progress) -> None:
        from rich.progress import TaskID

        total = float(event.total) if event.total else None
        if event.stage not in self._tasks:
            self._tasks[event.stage] = self._bars.add_task(event.stage, total=total)
        self._bars.update(TaskID(self._tasks[event.stage]), completed=event.done, total=total)
