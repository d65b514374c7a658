"""The last inputs, for display: how many exited, and where their scores lie among the usual ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from pilotfish.serve.watch.bands import SIDES, place_of

WINDOW = 1000
BINS = 10
LEAST = 1e-4  # counts as the share of an empty bin, so that the index is finite


class Recent:
    """Exits and scores of the last 1,000 inputs, at a few operations per input. Not thread-safe: see :class:`Drift`.

    usual  the usual share of scores in each of ten bins; a tenth each if no scores are shared
    """

    def __init__(self, quantiles: Sequence[float]) -> None:
        self.usual = [0.0] * BINS if quantiles else []
        for a, b in pairwise(quantiles):
            middle = a / 2 + b / 2
            self.usual[_bin(place_of(quantiles, a if math.isnan(middle) else middle))] += 1 / (len(quantiles) - 1)
        self._exits, self._places = bytearray(WINDOW), bytearray(WINDOW)
        self._clear()

    def _clear(self) -> None:
        self.n = self._next = self._exited = self._sum = 0
        self._counts = [0] * BINS

    def add(self, exits: bool, place: int) -> None:
        """Add an input. place: of its score, from :func:`place_of`."""
        i = self._next
        if self.n == WINDOW:
            old = self._places[i]
            self._exited -= self._exits[i]
            self._sum -= old
            self._counts[_bin(old)] -= 1
        else:
            self.n += 1
        self._exits[i], self._places[i] = exits, place
        self._exited += exits
        self._sum += place
        self._counts[_bin(place)] += 1
        self._next = (i + 1) % WINDOW

    def last(self, n: int) -> tuple[float, float]:
        """(share that exited, mean of F(score)) of the last *n* inputs; there must be that many."""
        at = [(self._next - 1 - i) % WINDOW for i in range(n)]
        return sum(self._exits[i] for i in at) / n, sum(self._places[i] for i in at) / n / SIDES

    @property
    def exit_ratio(self) -> float | None:
        """Share of inputs that exited; None before the first."""
        return self._exited / self.n if self.n else None

    @property
    def place(self) -> float | None:
        """The mean of F(score); .5 is usual."""
        return self._sum / self.n / SIDES if self.n and self.usual else None

    @property
    def histogram(self) -> list[float]:
        """Share of inputs in each bin; see ``usual``. Empty if nothing is known."""
        return [count / self.n for count in self._counts] if self.n and self.usual else []

    @property
    def psi(self) -> float | None:
        """The population stability index, sum of (p - q) ln(p / q) over the bins. Its error rate is unknown."""
        if not (found := self.histogram):
            return None
        pairs = [(max(p, LEAST), max(q, LEAST)) for p, q in zip(found, self.usual, strict=True)]
        return sum((p - q) * math.log(p / q) for p, q in pairs)

    def to_state(self) -> dict[str, Any]:
        """From the oldest to the newest, as JSON."""
        order = [(self._next - self.n + i) % WINDOW for i in range(self.n)]
        return {
            "exits": "".join("1" if self._exits[i] else "0" for i in order),
            "places": bytes(self._places[i] for i in order).hex(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Restore :meth:`to_state`. Raises ValueError for any other data."""
        places, exits = bytes.fromhex(state["places"]), state["exits"]
        if len(exits) != len(places) or set(exits) - {"0", "1"} or max(places, default=0) > SIDES:
            raise ValueError("invalid record of the last inputs")
        self._clear()
        for leaves, place in zip(exits, places, strict=True):
            self.add(leaves == "1", place)


def _bin(place: int) -> int:
    return min(place * BINS // SIDES, BINS - 1)
