"""Limits open connections per peer and in total, and chooses which one to close when there are too many."""

from __future__ import annotations

import ipaddress
import resource
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Protocol

SPARE = 256  # descriptors kept for files and models
MOST = 8192
YOUNG = 0.1  # seconds in which a new connection is not closed for another: its request may be on its way


class Connection(Protocol):
    """A connection that can be closed to make room."""

    peer: str

    def make_room(self) -> None:
        """Close; no request on it is being answered."""


class Peers:
    """Counts connections, and closes waiting ones when a peer opens too many.

    each      connections that one peer may have open
    total     connections of all peers; by default the number of files the process may open, less some
    draining  whether the server is stopping, and every response is the last of its connection
    refused   called with the status of every request refused before the application sees it

    A peer at its limit can still open a connection: of its connections on which no request is being answered, the one
    that has waited longest for its client is closed. So neither idle connections nor slow senders keep anyone out, and
    only bursts are turned away.
    """

    def __init__(
        self,
        each: int,
        total: int | None = None,
        refused: Callable[[int], None] = lambda status: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.each, self.total = each, total or open_files()
        self.refused, self._clock = refused, clock
        self.draining = False
        self._open: dict[str, int] = {}
        self._waiting: dict[str, dict[Connection, float]] = {}  # by peer: since when, the longest waiting first
        self._n = 0

    def __len__(self) -> int:
        return self._n

    def enter(self, connection: Connection) -> bool:
        """Count a new connection, which waits for its client. False if there is no room for it."""
        peer = connection.peer
        if self._open.get(peer, 0) >= self.each and not self._make_room(peer):
            return False
        if self._n >= self.total and not self._make_room(max(self._waiting, key=self._held, default=peer)):
            return False
        self._open[peer] = self._open.get(peer, 0) + 1
        self._n += 1
        self.waits(connection)
        return True

    def waits(self, connection: Connection) -> None:
        """Note that the client is to send next."""
        waiting = self._waiting.setdefault(connection.peer, {})
        waiting.pop(connection, None)
        waiting[connection] = self._clock()

    def works(self, connection: Connection) -> None:
        """Note that the server is to answer next."""
        waiting = self._waiting.get(connection.peer)
        if waiting is not None:
            waiting.pop(connection, None)
            if not waiting:
                del self._waiting[connection.peer]

    def leave(self, connection: Connection) -> None:
        """Note that a counted connection was closed."""
        self.works(connection)
        left = self._open[connection.peer] - 1
        self._n -= 1
        if left:
            self._open[connection.peer] = left
        else:
            del self._open[connection.peer]

    def _held(self, peer: str) -> int:
        return self._open[peer]

    def _make_room(self, peer: str) -> bool:
        waiting = self._waiting.get(peer)
        if not waiting:
            return False
        oldest, since = next(iter(waiting.items()))
        if self._clock() < since + YOUNG:
            return False
        oldest.make_room()
        return True


def open_files() -> int:
    """How many connections the process may have open beside its files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = MOST if soft == resource.RLIM_INFINITY else soft
    return max(16, min(MOST, limit - min(SPARE, limit // 4)))


@lru_cache(4096)
def peer_name(address: str) -> str:
    """The peer that an address stands for: for IPv6 its network of 64 bits, in which a single client can have any
    number of addresses. Anything else stands for itself."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    if found.is_loopback:
        return str(found)
    return f"{ipaddress.ip_address(int(found) >> 64 << 64)}/64"
