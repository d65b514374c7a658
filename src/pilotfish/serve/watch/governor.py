"""How many inputs may go on to the base: token buckets, for all clients and for each.

Inputs can be made so that every one of them escalates (Hong et al., "A Panda? No, It's a Sloth", arXiv 2010.02432).
A bucket holds b tokens at most and gets ρ of them a second; an escalation takes one. In any T seconds at most b + ρT
get through. It is kept as the moment at which it will be full again (the generic cell rate algorithm), in whole
nanoseconds, so that the bound is exact.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from pilotfish.errors import UsageError
from pilotfish.serve.options import ServeOptions

SECOND = 10**9
NEVER = 10**30  # ns between two tokens at a rate of 0
LONGEST = 3600.0  # seconds that are told to wait at most
CLIENTS = 4096


@dataclass(frozen=True)
class Bucket:
    """A bucket's size and pace, in nanoseconds. gap: between two tokens; depth: how far ahead of the clock the moment
    at which it is full may be for a token to be there."""

    gap: int
    depth: int

    @classmethod
    def of(cls, rate: float, burst: float) -> Bucket:
        """*rate* tokens a second, *burst* at most. Where nanoseconds are too coarse it gives less rather than more."""
        if not (0 <= rate < math.inf and 1 <= burst < math.inf):
            raise UsageError(
                f"a rate of 0 or more a second and a burst of 1 or more are needed; found {rate} and {burst}"
            )
        gap = math.ceil(SECOND / Fraction(rate)) if rate > 0 else NEVER
        return cls(gap, math.floor((Fraction(burst) - 1) * gap))

    def tokens(self, ahead: int) -> float:
        """How many there are where it is full *ahead* ns from now."""
        return max(0.0, (self.depth - max(ahead, 0)) / self.gap + 1)


def governor_of(options: ServeOptions) -> Governor | None:
    """The governor that a server was asked for; None: it has none."""
    rate, burst = options.escalation_rate, options.escalation_burst
    if rate is None:
        return None
    own, own_burst = options.client_escalation_rate, options.client_escalation_burst
    return Governor(rate, max(1.0, rate) if burst is None else burst, own, own_burst)


class Governor:
    """Takes a token for every escalation, from the bucket of all and from the client's own.

    rate, burst                tokens a second, and at most at once, of all clients together
    client_rate, client_burst  of each client; None: a client may have all of them
    clients                    rows of the table of clients
    clock                      seconds, monotonic; one that goes back is taken to stand still

    The table cannot be flushed. A client has a row only while its bucket is not full, so a row that goes says nothing
    that is not so without it; only escalations that got through make rows, and b + (ρ / client_rate) client_burst of
    them are never exceeded. If that is more than *clients*, those who find no room share one bucket.
    """

    def __init__(
        self,
        rate: float,
        burst: float,
        client_rate: float | None = None,
        client_burst: float | None = None,
        clients: int = CLIENTS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if clients < 1 or (client_burst is not None and client_rate is None):
            raise UsageError(f"clients is 1 or more, found {clients}; a client's burst goes with its rate")
        self.rate, self.burst = rate, burst
        self._all = Bucket.of(rate, burst)
        self._each = None
        self.client_rate, self.client_burst = client_rate, client_burst
        if client_rate is not None:
            self.client_burst = max(1.0, client_rate) if client_burst is None else client_burst
            self._each = Bucket.of(client_rate, self.client_burst)
        self.clients, self._clock, self._lock = clients, clock, threading.Lock()
        self._last = self._full = self._now()
        self._rows: dict[str, int] = {}  # when the bucket of a client is full; the last one to get a token is last
        self.granted = self.denied = 0

    def take(self, client: str) -> bool:
        """Whether *client* may escalate one input now; then its tokens are gone."""
        key = client
        with self._lock:
            now = self._now()
            if self._full - now > self._all.depth:
                self.denied += 1
                return False
            if self._each is not None:
                key, full = self._row(key, now)
                if full - now > self._each.depth:
                    self.denied += 1
                    return False
                self._rows.pop(key, None)
                self._rows[key] = full + self._each.gap
            self._full = max(self._full, now) + self._all.gap
            self.granted += 1
            return True

    def wait(self, client: str) -> float:
        """Seconds until *client* may escalate again, if nobody else does before; an hour at most."""
        with self._lock:
            now = self._now()
            left = self._full - now - self._all.depth
            if self._each is not None:
                left = max(left, self._row(client, now)[1] - now - self._each.depth)
        return min(max(left, 0) / SECOND, LONGEST)

    @property
    def of_clients(self) -> bool:
        """Whether each client has a bucket of its own."""
        return self._each is not None

    @property
    def notes(self) -> list[str]:
        """What an operator should know of these limits, a line each."""
        if self.client_rate is None or self.client_burst is None:
            return []
        if self.client_rate < self.rate or self.client_burst < self.burst:
            return []
        found = (
            f"the limit of each client ({self.client_rate:g} a second, {self.client_burst:g} at once) has no effect, "
            f"as it is not below that of all together ({self.rate:g} a second, {self.burst:g} at once); lower "
            "--client-escalation-rate or --client-escalation-burst"
        )
        return [found]

    @property
    def tokens(self) -> float:
        """How many are left in the bucket of all."""
        with self._lock:
            return self._all.tokens(self._full - self._now())

    def __len__(self) -> int:
        """Clients whose bucket is not full."""
        with self._lock:
            self._sweep(self._now(), len(self._rows))
            return len(self._rows)

    def _now(self) -> int:
        self._last = max(getattr(self, "_last", 0), int(self._clock() * SECOND))
        return self._last

    def _row(self, key: str, now: int) -> tuple[str, int]:
        """The row that stands for a client, and when its bucket is full."""
        self._sweep(now, 2)
        if key not in self._rows and len(self._rows) >= self.clients:
            key = ""  # the bucket that those without a row share
        return key, max(self._rows.get(key, now), now)

    def _sweep(self, now: int, most: int) -> None:
        """Let go of rows of full buckets, of those that have not got a token for longest. One in the way is full at the
        latest when as long has passed as a bucket takes to fill."""
        for _ in range(most):
            first = next(iter(self._rows), None)
            if first is None or self._rows[first] > now:
                return
            del self._rows[first]

    def to_state(self) -> dict[str, Any]:
        """What is owed, in nanoseconds, as JSON."""
        with self._lock:
            now = self._now()
            rows = {client: full - now for client, full in self._rows.items() if full > now}
            return {"all": max(self._full - now, 0), "clients": rows}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`to_state`: what was owed then is owed now, however long ago that was. ValueError for what
        is no such state; then nothing has changed."""
        try:
            owed, rows = int(state["all"]), {str(c): int(ns) for c, ns in state["clients"].items()}
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise ValueError(f"no state of a governor: {error!r}"[:200]) from error
        if owed < 0 or any(ns < 0 for ns in rows.values()):
            raise ValueError("no state of a governor: what is owed is below 0")
        with self._lock:
            now = self._now()
            self._full = now + min(owed, self._all.depth + self._all.gap)
            self._rows = {}
            if self._each is not None:
                most = self._each.depth + self._each.gap
                kept = sorted(rows.items(), key=lambda row: row[1])[-self.clients :]
                self._rows = {client: now + min(ns, most) for client, ns in kept}
