"""How much of the node one peer, or all together, may take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class NodeLimits:
    """Bounds on the network's side.

    Parameters
    ----------
    pdu_bytes
        Longest P-DATA-TF that is taken, and told to peers.
    associate_bytes
        Longest A-ASSOCIATE-RQ.
    command_bytes, message_bytes
        Longest command set, and longest data set that is held in memory (never an image).
    instance_bytes
        Longest data set of one instance.
    associations, associations_per_host
        Most at one time; the next ones are rejected as a passing shortage.
    connections
        Most sockets that have not yet asked for an association.
    silent_s
        How long a new connection may say nothing.
    pdu_s
        How long one PDU may take from its first to its last byte.
    idle_s
        How long an association may say nothing.
    reserve_bytes
        Free space that receiving leaves on the disk, for the database and the results.
    """

    pdu_bytes: int = 131072
    associate_bytes: int = 65536
    command_bytes: int = 16384
    message_bytes: int = 4 * 2**20
    instance_bytes: int = 8 * 2**30
    associations: int = 100
    associations_per_host: int = 100
    connections: int = 512
    silent_s: float = 5.0
    pdu_s: float = 30.0
    idle_s: float = 60.0
    reserve_bytes: int = 256 * 2**20
