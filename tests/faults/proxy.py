"""A TCP proxy that harms: cuts, resets, delays, drips, lies; one asyncio loop on a thread."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self

Fault = Literal["none", "refuse", "cut", "reset", "garbage", "drip", "half-open"]


@dataclass
class Proxy:
    """Passes connections on to ``target``, and harms each by the next of ``faults``.

    Parameters
    ----------
    faults
        One per connection, in order; after the last, ``"none"``.
    after
        Bytes from the client that pass before the harm.
    """

    target: int
    faults: list[Fault] = field(default_factory=list)
    after: int = 2000
    port: int = 0
    connections: int = 0

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._tasks: set[asyncio.Task[None]] = set()
        start = asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self._server = asyncio.run_coroutine_threadsafe(start, self._loop).result(10)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0.01)  # aborted transports close in the next turn of the loop

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        fault: Fault = self.faults.pop(0) if self.faults else "none"
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        opened = [writer]
        try:
            if fault == "refuse":
                _reset(writer)
                return
            there, onward = await asyncio.open_connection("127.0.0.1", self.target)
            opened.append(onward)
            back = asyncio.create_task(_pump(there, writer))
            try:
                await self._harm(reader, onward, writer, fault)
            finally:
                back.cancel()
        except OSError:
            return
        finally:
            for one in opened:
                one.transport.abort()
            self._tasks.discard(task)

    async def _harm(
        self, reader: asyncio.StreamReader, onward: asyncio.StreamWriter, writer: asyncio.StreamWriter, fault: Fault
    ) -> None:
        passed = 0
        while block := await reader.read(1024):
            passed += len(block)
            if fault != "none" and passed > self.after:
                if fault == "reset":
                    _reset(writer)
                    return
                if fault == "cut":
                    return
                if fault == "half-open":
                    await asyncio.sleep(3600)
                if fault == "garbage":
                    block = random.Random(passed).randbytes(len(block))
                if fault == "drip":
                    await asyncio.sleep(0.02)
            onward.write(block)
            await onward.drain()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while block := await reader.read(4096):
            writer.write(block)
            await writer.drain()
        writer.close()
    except OSError:
        return


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close so that the peer gets a RST: linger of zero."""
    plug = writer.get_extra_info("socket")
    plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
