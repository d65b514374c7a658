"""Audits: a random few of the exits go to the base as well, and bound how often the cascade differs from it."""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping
from typing import Any

from pilotfish.serve.watch.betting import MeanSequence

MOST = 256  # audits on their way; with more the base is so far behind that they would hold up its own inputs
SAYS = (
    "bound is an upper bound of the mean disagreement of exits with the base; drop_bound, of that of all answers of "
    "this operating point so far: exits at the bound, governed and base_failed ones as if they all differed. Each "
    "holds at every time at once with the stated confidence, as the coin alone decides who is audited"
)


class Audit:
    """The audits of one operating point.

    share       chance of each input to be audited if it exits
    confidence  of the bounds, at every time at once
    seed        of the coin; None: of the system, so that no client can tell what will be audited
    most        audits that may be on their way to the base; an audit beyond them is dropped

    The coin is thrown before anything is known of the input. x of an audit is its disagreement in [0, 1], and 1 of one
    that is dropped, whatever kept it: a full queue, a base that failed, the end of the process.
    """

    def __init__(self, share: float, confidence: float = 0.95, seed: int | None = None, most: int = MOST) -> None:
        if not 0 <= share <= 1:
            raise ValueError(f"the share of audits is a number from 0 to 1, found {share}")
        self.share, self.confidence, self.most = share, confidence, most
        self.on_their_way = self.lost = 0
        self.exits = self.base = self.forced = 0
        self._sequence, self._lock = MeanSequence(), threading.Lock()
        self._coin = random.SystemRandom() if seed is None else random.Random(seed)
        self._known: tuple[int, float, tuple[float, float]] | None = None

    def drawn(self) -> bool:
        """Whether the input that comes now is audited if it exits."""
        return self.share > 0 and self._coin.random() < self.share

    def began(self) -> bool:
        """An exit that was drawn goes to the base. False where as many as may be are on their way: it is dropped."""
        with self._lock:
            if self.on_their_way >= self.most:
                self._lose(1)
                return False
            self.on_their_way += 1
            return True

    def add(self, x: float) -> None:
        """An audit has come back: how far the two answers differ, in [0, 1]."""
        with self._lock:
            self._sequence.add(x)
            self.on_their_way -= 1

    def dropped(self) -> None:
        """An audit that was on its way will not come back: it counts as a disagreement."""
        with self._lock:
            self._lose(1)
            self.on_their_way -= 1

    def _lose(self, n: int) -> None:
        self._sequence.add(1.0, n)
        self.lost += n

    def answered(self, by_base: bool, forced: bool = False) -> None:
        """Count an answer to an input. forced: the saver's, though the rule wanted the base (governed, base_failed)."""
        with self._lock:
            self.base += by_base
            self.forced += forced
            self.exits += not (by_base or forced)

    @property
    def n(self) -> int:
        """Audits so far, dropped ones included."""
        return self._sequence.n

    @property
    def disagreement(self) -> float | None:
        """Mean of x; None before the first audit."""
        return self._sequence.mean

    @property
    def bound(self) -> float:
        """Upper bound of the disagreement of exits with the base."""
        return self._bounds()[0]

    @property
    def interval(self) -> tuple[float, float]:
        """Both bounds of it at once."""
        return self._bounds()[1]

    def _bounds(self) -> tuple[float, tuple[float, float]]:
        with self._lock:
            if self._known is None or self._known[0] != self.n:
                alpha = 1 - self.confidence
                self._known = self.n, self._sequence.upper(alpha), self._sequence.interval(alpha)
            return self._known[1:]

    @property
    def exit_ratio(self) -> float | None:
        """Share of the answers at this point that were exits by the rule; None before the first."""
        seen = self.exits + self.base + self.forced
        return self.exits / seen if seen else None

    @property
    def drop_bound(self) -> float:
        """Upper bound of the disagreement of all answers of this point so far, and so of what they lose against the
        base."""
        seen = self.exits + self.base + self.forced
        return min(1.0, (self.bound * self.exits + self.forced) / seen) if seen else 1.0

    @property
    def notes(self) -> list[str]:
        """What is odd, a line each."""
        found = []
        if self.lost:
            found.append(
                f"{self.lost} of {self.n} audits were dropped and count as disagreements: the base was behind, failed "
                "or was stopped; a smaller --audit or a faster base mends it"
            )
        if self.forced:
            found.append(f"{self.forced} answers were the saver's against the rule and count as disagreements")
        if self.exits and not self.n:
            found.append("no exit was audited yet, so nothing is bounded")
        return found

    def to_json(self) -> dict[str, Any]:
        """``GET /v2/models/M/audit``."""
        return {
            "n": self.n,
            "disagreement": self.disagreement,
            "bound": self.bound,
            "confidence": self.confidence,
            "interval": list(self.interval),
            "exit_ratio": self.exit_ratio,
            "drop_bound": self.drop_bound,
            "dropped": self.lost,
            "on_their_way": self.on_their_way,
            "share": self.share,
            "bounds": SAYS,
            "notes": self.notes,
        }

    def to_state(self) -> dict[str, Any]:
        """As plain JSON."""
        with self._lock:
            counts = {name: getattr(self, name) for name in ("exits", "base", "forced", "lost", "on_their_way")}
            return {"sequence": self._sequence.to_state(), **counts}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`to_state`. What was on its way then is dropped. ValueError for anything else."""
        sequence = MeanSequence.of_state(state["sequence"])
        counts = {name: state[name] for name in ("exits", "base", "forced", "lost", "on_their_way")}
        if any(type(count) is not int or count < 0 for count in counts.values()):
            raise ValueError(f"counts of audits that are none: {str(counts)[:80]}")
        with self._lock:
            self._sequence, on_their_way = sequence, counts.pop("on_their_way")
            vars(self).update(counts)
            self.on_their_way = 0
            if on_their_way:
                self._lose(on_their_way)
