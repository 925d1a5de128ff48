"""The acceptor's connection: every byte once and in order, never more held than agreed, ends that are seen."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from hounsfield.network import pdu
from hounsfield.network.limits import NodeLimits
from hounsfield.network.link import Link
from hounsfield.network.pdu import BadPdu
from hounsfield.network.pdu_stream import PduStream

Serve = Callable[[Link], Awaitable[None]]
Send = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def talk(serve: Serve, send: Send) -> None:
    """Run both sides of one connection to their ends; what either raises is raised."""

    async def both() -> None:
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def served(link: Link) -> None:
            try:
                await serve(link)
            except Exception as error:
                ended.set_exception(error)
            else:
                ended.set_result(None)
            finally:
                await link.close(1.0)

        server = await asyncio.get_running_loop().create_server(lambda: Link(served), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        try:
            async with asyncio.timeout(30):
                await send(reader, writer)
                await ended
        finally:
            writer.close()
            server.close()

    asyncio.run(both())


def test_pdus_of_any_size_arrive_whole_whatever_the_pieces() -> None:
    chance = random.Random(5)
    sizes = [
        1,
        2,
        5,
        6,
        7,
        4090,
        4096,
        5000,
        131_072,
        131_084,
        3,
        131_072,
        *(chance.randint(1, 131_084) for _ in range(40)),
    ]
    bodies = [chance.randbytes(size) for size in sizes]
    stream = b"".join(pdu.head(pdu.P_DATA_TF, len(body)) + body for body in bodies)

    async def serve(link: Link) -> None:
        pdus = PduStream(link, NodeLimits())
        for body in bodies:
            kind, found = await pdus.next()
            assert kind == pdu.P_DATA_TF
            assert bytes(found) == body

    async def send(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        at = 0
        while at < len(stream):
            size = chance.choice((1, 3, 7, 1000, 65_536, 300_000))
            writer.write(stream[at : at + size])
            await writer.drain()
            at += size
            if chance.random() < 0.3:
                await asyncio.sleep(0)

    talk(serve, send)


def test_a_peer_that_sends_more_than_is_read_waits() -> None:
    async def serve(link: Link) -> None:
        await link.fill(6)
        await asyncio.sleep(0.3)
        assert link.held <= 4096
        await link.fill(100_000)
        assert link.held <= 400_000
        assert bytes(link.take(100_000)) == bytes(100_000)

    async def send(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(bytes(8 << 20))
        with pytest.raises(ConnectionError):
            await _send_for_ever(writer)

    talk(serve, send)


async def _send_for_ever(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(bytes(1 << 16))
        await writer.drain()


def test_a_connection_that_ends_within_a_pdu_is_told() -> None:
    async def serve(link: Link) -> None:
        with pytest.raises(asyncio.IncompleteReadError):
            await PduStream(link, NodeLimits()).next()

    async def send(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(pdu.head(pdu.P_DATA_TF, 100) + bytes(50))
        writer.write_eof()

    talk(serve, send)


def test_a_half_closed_peer_still_gets_its_answer() -> None:
    async def serve(link: Link) -> None:
        await link.fill(4)
        link.write(b"fine")
        await link.drain()

    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"well")
        writer.write_eof()
        assert await reader.read() == b"fine"

    talk(serve, send)


def test_a_length_beyond_the_agreement_is_refused_before_its_body_is_read() -> None:
    async def serve(link: Link) -> None:
        with pytest.raises(BadPdu, match="longer than was agreed"):
            await PduStream(link, NodeLimits()).next()
        assert link.held <= 4096

    async def send(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(pdu.head(pdu.P_DATA_TF, 2**31))

    talk(serve, send)


@pytest.mark.parametrize(("sent", "limits"), [(b"", NodeLimits(idle_s=0.1)), (b"\4\0\0", NodeLimits(pdu_s=0.1))])
def test_silence_between_pdus_and_within_one_is_not_waited_for(sent: bytes, limits: NodeLimits) -> None:
    async def serve(link: Link) -> None:
        with pytest.raises(TimeoutError):
            await PduStream(link, limits).next()

    async def send(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sent)

    talk(serve, send)
