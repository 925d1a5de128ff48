"""The DICOM node: receive what peers send, until told to stop."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from hounsfield.audit import AuditEvent
from hounsfield.errors import SettingsError
from hounsfield.network.acceptor import Acceptor
from hounsfield.network.limits import NodeLimits
from hounsfield.network.received import Answer, AssociationRecord, Rejection
from hounsfield.network.store_scu import server_context
from hounsfield.usecases.node.answering import answer_query
from hounsfield.usecases.node.committing import take_request
from hounsfield.usecases.node.inbox import watch_inbox
from hounsfield.usecases.node.keeping import Keeper
from hounsfield.usecases.node.opening import Node, log

#: Objects between two collections; one slice makes some hundreds that die by themselves.
_COLLECT_AFTER: Final = 20_000
_CALLING = Rejection(1, 1, 3, "calling AE title or address not on the list")
_CALLED = Rejection(1, 1, 7, "called AE title is another")


@dataclass(frozen=True)
class Listening:
    """The node is ready at this address."""

    ae_title: str
    host: str
    port: int


def listen(node: Node, on_ready: Callable[[Listening], None] | None = None) -> None:
    """Receive until SIGTERM or SIGINT.

    Raises
    ------
    SettingsError
        If the port is taken or not allowed.
    """
    gc.freeze()  # what start-up made lives as long as the node: not to be looked through at every collection
    gc.set_threshold(_COLLECT_AFTER)
    keeper = Keeper(node.database, node.files)
    try:
        asyncio.run(_listen(node, keeper, on_ready))
    finally:
        keeper.close()


async def _listen(node: Node, keeper: Keeper, on_ready: Callable[[Listening], None] | None) -> None:
    config, loop, stop = node.config, asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    tls = node.tls(config.tls)

    def ended(record: AssociationRecord) -> None:
        log("association", rejected=record.rejected, ended=record.ended, statuses=_shown(record))
        loop.run_in_executor(None, node.audit, _event(record))

    async def commit(calling: str, data: bytes, syntax: str) -> int:
        return await asyncio.to_thread(take_request, node, calling, data, syntax)

    async def query(calling: str, _sop_class: str, data: bytes, syntax: str) -> tuple[Answer, Sequence[bytes]]:
        return await asyncio.to_thread(answer_query, node, calling, data, syntax)

    acceptor = Acceptor(
        keep=keeper.keep,
        incoming=node.files.incoming,
        limits=limits_of(node),
        admit=lambda calling, called, host: admit(node, calling, called, host),
        on_end=ended,
        tls=None if tls is None else server_context(tls),
        on_commitment=commit if any(peer.port for peer in config.peers) else None,
        on_find=query if config.query else None,
    )
    try:
        port = await acceptor.listen(config.host, config.port)
    except OSError as error:
        fact = f"port {config.port} cannot be listened on ({error.strerror})"
        raise SettingsError(
            fact, "choose another in node.toml, or stop what uses it", node.root / "node.toml"
        ) from error
    watcher = asyncio.create_task(watch_inbox(node, keeper)) if config.inbox else None
    log("listening", host=config.host, port=port, tls=tls is not None)
    if on_ready is not None:
        on_ready(Listening(config.ae_title, config.host, port))
    await stop.wait()
    if watcher is not None:
        watcher.cancel()
    await acceptor.close()


def limits_of(node: Node) -> NodeLimits:
    """The limits of the configuration."""
    return NodeLimits(**node.config.limits.model_dump())


def admit(node: Node, calling: str, called: str, host: str) -> Rejection | None:
    """Why a peer may have no association, by the node's list of peers and its own title."""
    if not node.config.admits(calling, host):
        return _CALLING
    if called != node.config.ae_title and not node.config.any_called_ae:
        return _CALLED
    return None


def _event(record: AssociationRecord) -> AuditEvent:
    what = {"host": record.host, "called_ae": record.called_ae}
    if record.rejected:
        return AuditEvent("security-alert", record.calling_ae, {**what, "rejected": record.rejected}, 4)
    if not record.statuses:
        return AuditEvent("network-entry", record.calling_ae, {**what, "ended": record.ended})
    failed = any(status != 0 for status in record.statuses)
    facts = {**what, "ended": record.ended, "statuses": _shown(record)}
    return AuditEvent("instances-transferred", record.calling_ae, facts, 4 if failed else 0)


def _shown(record: AssociationRecord) -> dict[str, int]:
    return {f"{status:04X}": count for status, count in sorted(record.statuses.items())}
