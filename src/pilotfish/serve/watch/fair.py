"""Whose turn it is: one client's flood neither fills the queue nor stands before others.

Start-time fair queueing (Goyal, Vin and Cheng, 1996): each input has a turn, the time by a clock that moves as inputs
are begun, or one after the client's input before it, whatever is later. A client that has nothing under way is next,
however many inputs of others wait. One that has at most half of its share of what is under way is light: its inputs
neither wait for company nor share a batch with those of others.

Who may enter is decided by dynamic thresholds (Choudhury and Hahne, 1998): a client holds at most seven times as many
places as are free.
"""

from __future__ import annotations

import threading
from typing import NamedTuple

from pilotfish.errors import UsageError

MOST = 7  # of the places that one client holds, for each that is free


class Turns(NamedTuple):
    """turns: one of each input; light: whether their client has little under way beside others."""

    turns: range
    light: bool


class Fair:
    """Places and turns of the inputs under way.

    queue  places. One client alone takes seven eighths of them at most, m that send all they can leave 1 / (7m + 1)
    """

    def __init__(self, queue: int) -> None:
        if queue < 1:
            raise UsageError(f"a queue has 1 place or more; found {queue}")
        self.queue, self._lock = queue, threading.Lock()
        self._held: dict[str, int] = {}  # by client, of those who have something under way
        self._next: dict[str, int] = {}  # the turn of its next input
        self._under_way = self._clock = 0

    def enter(self, client: str, n: int = 1) -> Turns | None:
        """The turns of *n* inputs, which are now under way; None where the client holds as many places as it may. A
        client with nothing under way may send as many as there are free places."""
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
        """The input of that turn is being computed."""
        if turn > self._clock:
            with self._lock:
                self._clock = max(self._clock, turn)

    def left(self, client: str, n: int = 1) -> None:
        """So many inputs are answered or given up."""
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
        """Who has something under way."""
        return len(self._held)
