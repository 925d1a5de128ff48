"""The PDUs of one association as they come: checked by their heads, each within its time.

What has come already is taken without waiting and without a timer.
"""

from __future__ import annotations

import asyncio
from typing import Final

from hounsfield.network import pdu
from hounsfield.network.limits import NodeLimits
from hounsfield.network.link import Link
from hounsfield.network.pdu import BadPdu

_HEAD: Final = 6


class PduStream:
    """Reads PDUs after the association was accepted.

    Parameters
    ----------
    link
        The connection.
    limits
        How long a PDU may be, how long it may take, and how long the peer may say nothing.
    """

    def __init__(self, link: Link, limits: NodeLimits) -> None:
        self._link = link
        self._limits = limits

    async def next(self) -> tuple[int, memoryview]:
        """One PDU: its type, and what follows the six bytes of its head; the view holds until the next one.

        Raises
        ------
        BadPdu
            If its type is unknown, or it is longer than was agreed; its body is not read then.
        TimeoutError
            If the peer is silent, or takes too long over one PDU.
        asyncio.IncompleteReadError
            If the connection ends.
        """
        link = self._link
        if not link.held:
            async with asyncio.timeout(self._limits.idle_s):
                await link.fill(1)
        if link.held < _HEAD or link.held < _HEAD + self._head()[1]:
            async with asyncio.timeout(self._limits.pdu_s):
                await link.fill(_HEAD)
                await link.fill(_HEAD + self._head()[1])
        kind, length = self._head()
        link.take(_HEAD)
        return kind, link.take(length)

    def _head(self) -> tuple[int, int]:
        kind, length = pdu.parse_head(self._link.peek(_HEAD))
        most = self._limits.pdu_bytes + 12 if kind == pdu.P_DATA_TF else 4
        if kind not in range(1, 8) or length > most:
            raise BadPdu("a PDU of an unknown type, or longer than was agreed")
        return kind, length
