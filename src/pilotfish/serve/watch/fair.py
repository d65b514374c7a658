"""Fair turns between clients: a flood from one neither fills the queue nor delays the others.

Start-time fair queueing (Goyal, Vin and Cheng, 1996): the turn of an input is the later of a virtual clock, which
advances as inputs are started, and one after the client's previous input. A client with nothing under way is next,
however many inputs of others wait. A client with at most half its share of what is under way is light: its inputs
neither wait for a full batch nor share one with others.

Admission uses dynamic thresholds (Choudhury and Hahne, 1998): a client holds at most seven times as many places as are
free.
"""

from __future__ import annotations

import threading
from typing import NamedTuple

from pilotfish.errors import UsageError

MOST = 7  # places that one client may hold for each free one


class Turns(NamedTuple):
    """turns: one per input; light: whether their client has little under way compared with others."""

    turns: range
    light: bool


class Fair:
    """Places and turns of the inputs under way.

    queue  the number of places. One client alone takes at most seven eighths of them; m clients that send all they can
           leave 1 / (7m + 1) free
    """

    def __init__(self, queue: int) -> None:
        if queue < 1:
            raise UsageError(f"a queue must have at least 1 place; found {queue}")
        self.queue, self._lock = queue, threading.Lock()
        self._held: dict[str, int] = {}  # places by client, for clients with inputs under way
        self._next: dict[str, int] = {}  # the turn of its next input
        self._under_way = self._clock = 0

    def enter(self, client: str, n: int = 1) -> Turns | None:
        """Admit *n* inputs and return their turns; None if the client holds as many places as it may. A client with
        nothing under way may use all free places."""
        with self._lock:
            held = self._held.get(client, 0)
            free = self.queue - self._under_way
            if n > free or (held and held + n - 1 >= MOST * (free - n + 1)):
                return None
            if n == 0:
                return Turns(range(0), False)
            first = max(self._clock, self._next.get(client, 0))
            self._held[client], self._next[client] = held + n, first + n
            self._under_way += n
            light = 2 * (held + n) * len(self._held) <= self._under_way
            return Turns(range(first, first + n), light)

    def began(self, turn: int) -> None:
        """The input with this turn has started."""
        if turn > self._clock:
            with self._lock:
                self._clock = max(self._clock, turn)

    def left(self, client: str, n: int = 1) -> None:
        """*n* inputs of the client were answered or dropped."""
        with self._lock:
            held = self._held.get(client, 0)
            n = min(n, held)
            self._under_way -= n
            if held > n:
                self._held[client] = held - n
            elif held:
                del self._held[client], self._next[client]

    @property
    def under_way(self) -> int:
        """Inputs that hold a place."""
        return self._under_way

    @property
    def clients(self) -> int:
        """The number of clients with inputs under way."""
        return len(self._held)
