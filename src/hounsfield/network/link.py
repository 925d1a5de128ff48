"""One connection of the acceptor: bytes arrive in one buffer and are looked at where they lie.

asyncio's streams copy what comes three times; at half a megabyte per slice, and hundreds of slices
per second, that was a fifth of the receiver's time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, cast

_FIRST: Final = 1 << 12
_TIMES: Final = 4


class Link(asyncio.BufferedProtocol):
    """Reads into a buffer that grows up to what one PDU needs; the peer waits while it is full.

    Parameters
    ----------
    serve
        Called with the link once the connection stands; runs until it is to be closed.
    """

    def __init__(self, serve: Callable[[Link], Coroutine[Any, Any, None]]) -> None:
        self._serve = serve
        self._buffer = bytearray(_FIRST)
        self._start = self._end = 0
        self._ended = False
        self._paused = False
        self._lost: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._closed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    # ---- what asyncio calls ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to serve."""
        self._transport = cast(asyncio.Transport, transport)
        self._task = asyncio.get_running_loop().create_task(self._serve(self))

    def get_buffer(self, _hint: int) -> memoryview:
        """Where the next bytes go; there is room whenever reading is not paused."""
        return memoryview(self._buffer)[self._end :]

    def buffer_updated(self, count: int) -> None:
        """So many bytes came."""
        self._end += count
        if self._end == len(self._buffer) and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        """The peer says no more; what came may still be answered."""
        self._ended = True
        self._wake()
        return not self._is_tls

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone."""
        self._ended, self._lost = True, error or ConnectionResetError("the connection is closed")
        self._wake()
        self._may_write.set()
        self._closed.set()

    def pause_writing(self) -> None:
        """The peer takes nothing at present."""
        self._may_write.clear()

    def resume_writing(self) -> None:
        """The peer takes again."""
        self._may_write.set()

    # ---- what the association calls ----

    @property
    def held(self) -> int:
        """How many bytes are there."""
        return self._end - self._start

    async def fill(self, count: int) -> None:
        """Wait until so many bytes are there.

        Raises
        ------
        asyncio.IncompleteReadError
            If the connection ends before.
        """
        if count > len(self._buffer) - self._start:
            self._make_room(count)
        while self.held < count:
            if self._ended:
                raise asyncio.IncompleteReadError(bytes(self.peek(self.held)), count)
            self._waiter = asyncio.get_running_loop().create_future()
            self._resume()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def peek(self, count: int) -> memoryview:
        """The next bytes, which must be there; they stay, and the view holds until the next :meth:`fill`."""
        return memoryview(self._buffer)[self._start : self._start + count]

    def take(self, count: int) -> memoryview:
        """As :meth:`peek`, and they are passed by."""
        found = self.peek(count)
        self._start += count
        return found

    def write(self, data: bytes) -> None:
        """Send, without waiting."""
        self._transport.write(data)

    async def drain(self) -> None:
        """Wait until the peer takes what was written.

        Raises
        ------
        OSError
            If the connection is gone.
        """
        if not self._may_write.is_set():
            await self._may_write.wait()
        if self._lost is not None:
            raise ConnectionResetError("the connection is gone") from self._lost

    def about(self, name: str) -> Any:
        """What asyncio knows of the transport: ``"peername"``, ``"socket"``."""
        return self._transport.get_extra_info(name)

    async def close(self, patience_s: float) -> None:
        """Send what is written and close; after so many seconds it is cut."""
        self._transport.close()
        try:
            async with asyncio.timeout(patience_s):
                await self._closed.wait()
        except TimeoutError:
            self._transport.abort()

    @property
    def _is_tls(self) -> bool:
        return self._transport.get_extra_info("sslcontext") is not None

    def _make_room(self, count: int) -> None:
        """Bring what is held to the front of a buffer that takes so many bytes several times over."""
        held = bytes(self.peek(self.held))
        if count > len(self._buffer) // 2:
            self._buffer = bytearray(_TIMES * count)
        self._buffer[: len(held)] = held
        self._start, self._end = 0, len(held)

    def _resume(self) -> None:
        if self._start == self._end:
            self._start = self._end = 0
        if self._paused and self._end < len(self._buffer) and not self._ended:
            self._paused = False
            self._transport.resume_reading()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
