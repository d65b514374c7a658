"""Limits how many inputs go on to the base, with token buckets for all clients together and for each.

Inputs can be crafted so that all of them escalate (Hong et al., "A Panda? No, It's a Sloth", arXiv 2010.02432). A
bucket holds at most b tokens and gains ρ per second; an escalation takes one. So at most b + ρT get through in any T
seconds. A bucket is stored as the time when it will be full again (the generic cell rate algorithm), in whole
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
from pilotfish.text import quantity

SECOND = 10**9
NEVER = 10**30  # ns between two tokens at a rate of 0
LONGEST = 3600.0  # seconds; the longest wait that is reported
CLIENTS = 4096


@dataclass(frozen=True)
class Bucket:
    """A bucket's size and rate, in nanoseconds. gap: between two tokens; depth: a token is available while the bucket
    will be full within this time."""

    gap: int
    depth: int

    @classmethod
    def of(cls, rate: float, burst: float) -> Bucket:
        """A bucket of *burst* tokens that gains *rate* per second. Rounding to nanoseconds never gives more."""
        if not (0 <= rate < math.inf and 1 <= burst < math.inf):
            raise UsageError(f"a rate must be at least 0 per second and a burst at least 1; found {rate} and {burst}")
        gap = math.ceil(SECOND / Fraction(rate)) if rate > 0 else NEVER
        return cls(gap, math.floor((Fraction(burst) - 1) * gap))

    def tokens(self, ahead: int) -> float:
        """The number of tokens if the bucket will be full *ahead* ns from now."""
        return max(0.0, (self.depth - max(ahead, 0)) / self.gap + 1)


def governor_of(options: ServeOptions) -> Governor | None:
    """The governor of these options; None if escalations are not limited."""
    rate, burst = options.escalation_rate, options.escalation_burst
    if rate is None:
        return None
    own, own_burst = options.client_escalation_rate, options.client_escalation_burst
    return Governor(rate, max(1.0, rate) if burst is None else burst, own, own_burst)


class Governor:
    """Takes a token for every escalation, from the shared bucket and from the client's own.

    rate, burst                tokens per second and at once, for all clients together
    client_rate, client_burst  for each client; None: no limit per client
    clients                    rows in the table of clients
    clock                      seconds, monotonic; if it goes back, it counts as standing still

    The table cannot be flushed. A client has a row only while its bucket is not full, so removing a full one loses
    nothing. Only escalations that got through make rows, so there are never more than
    b + (ρ / client_rate) client_burst of them. Clients beyond *clients* rows share one bucket.
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
            raise UsageError(
                f"clients must be at least 1, and a client's burst needs its rate; found {clients} clients"
            )
        self.rate, self.burst = rate, burst
        self._all = Bucket.of(rate, burst)
        self._each = None
        self.client_rate, self.client_burst = client_rate, client_burst
        if client_rate is not None:
            self.client_burst = max(1.0, client_rate) if client_burst is None else client_burst
            self._each = Bucket.of(client_rate, self.client_burst)
        self.clients, self._clock, self._lock = clients, clock, threading.Lock()
        self._last = self._full = self._now()
        self._rows: dict[str, int] = {}  # when each client's bucket is full, in the order of their last tokens
        self.granted = self.denied = 0

    def take(self, client: str) -> bool:
        """Take the tokens for one escalation by *client*. False if there are none."""
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
        """Seconds until *client* may escalate again if nobody else does first, at most an hour."""
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
        """What the operator should know about these limits, one line each."""
        found = []
        if self.rate == 0:
            most = quantity(math.floor(self.burst), "input")
            found.append(f"--escalation-rate 0 lets {most} go on to the base in all; leave it out for no limit")
        own, own_burst = self.client_rate, self.client_burst
        if own is not None and own_burst is not None and own >= self.rate and own_burst >= self.burst:
            found.append(
                f"the limit of each client ({own:g} a second, {own_burst:g} at once) has no effect, as it is not below "
                f"that of all together ({self.rate:g} a second, {self.burst:g} at once); lower "
                "--client-escalation-rate or --client-escalation-burst"
            )
        return found

    @property
    def tokens(self) -> float:
        """Tokens left in the shared bucket."""
        with self._lock:
            return self._all.tokens(self._full - self._now())

    def __len__(self) -> int:
        """The number of clients whose bucket is not full."""
        with self._lock:
            self._sweep(self._now(), len(self._rows))
            return len(self._rows)

    def _now(self) -> int:
        self._last = max(getattr(self, "_last", 0), int(self._clock() * SECOND))
        return self._last

    def _row(self, key: str, now: int) -> tuple[str, int]:
        """The key of a client's row, and when its bucket is full."""
        self._sweep(now, 2)
        if key not in self._rows and len(self._rows) >= self.clients:
            key = ""  # the bucket shared by clients without a row
        return key, max(self._rows.get(key, now), now)

    def _sweep(self, now: int, most: int) -> None:
        """Remove rows of full buckets, those with the oldest last token first. A row that blocks others is full at the
        latest after the time a bucket takes to fill."""
        for _ in range(most):
            first = next(iter(self._rows), None)
            if first is None or self._rows[first] > now:
                return
            del self._rows[first]

    def to_state(self) -> dict[str, Any]:
        """How far each bucket is from full, in nanoseconds, as JSON."""
        with self._lock:
            now = self._now()
            rows = {client: full - now for client, full in self._rows.items() if full > now}
            return {"all": max(self._full - now, 0), "clients": rows}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore :meth:`to_state`; the time in between refills nothing. Raises ValueError for any other data, and then
        changes nothing."""
        try:
            owed, rows = int(state["all"]), {str(c): int(ns) for c, ns in state["clients"].items()}
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise ValueError(f"not the state of a governor: {error!r}"[:200]) from error
        if owed < 0 or any(ns < 0 for ns in rows.values()):
            raise ValueError("not the state of a governor: it has times below 0")
        with self._lock:
            now = self._now()
            self._full = now + min(owed, self._all.depth + self._all.gap)
            self._rows = {}
            if self._each is not None:
                most = self._each.depth + self._each.gap
                kept = sorted(rows.items(), key=lambda row: row[1])[-self.clients :]
                self._rows = {client: now + min(ns, most) for client, ns in kept}
