"""Audits: a random share of exits also goes to the base, which bounds how often the cascade differs from it."""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping
from typing import Any

from pilotfish.serve.watch.betting import MeanSequence

MOST = 256  # audits under way; with more, the base is so far behind that they would delay its own inputs
SAYS = (
    "bound is an upper bound on the mean disagreement of exits with the base. drop_bound is an upper bound on that of "
    "all answers at this operating point so far, with exits at the bound, and governed and base_failed answers counted "
    "as disagreements. Each holds at all times simultaneously with the stated confidence, as audits are drawn at random"
)


class Audit:
    """The audits of one operating point.

    share       probability that an exit is audited
    confidence  of the bounds, at all times simultaneously
    seed        of the random draws; None: the system's randomness, so that no client can predict audits
    most        audits under way at once; any more are dropped

    An input is drawn before anything is known about it. The value x of an audit is the disagreement in [0, 1]. It is 1
    for an audit that is dropped for any reason: a full queue, a base that failed, the end of the process.
    """

    def __init__(self, share: float, confidence: float = 0.95, seed: int | None = None, most: int = MOST) -> None:
        if not 0 <= share <= 1:
            raise ValueError(f"the share of audits must be a number from 0 to 1; found {share}")
        self.share, self.confidence, self.most = share, confidence, most
        self.on_their_way = self.lost = 0
        self.exits = self.base = self.forced = 0
        self._sequence, self._lock = MeanSequence(), threading.Lock()
        self._coin = random.SystemRandom() if seed is None else random.Random(seed)
        self._known: tuple[int, float, tuple[float, float]] | None = None

    def drawn(self) -> bool:
        """Whether to audit the next input if it exits; drawn at random."""
        return self.share > 0 and self._coin.random() < self.share

    def began(self) -> bool:
        """Start the audit of an exit. False if too many are under way; then it is dropped."""
        with self._lock:
            if self.on_their_way >= self.most:
                self._lose(1)
                return False
            self.on_their_way += 1
            return True

    def add(self, x: float) -> None:
        """Count a finished audit. x: how much the two answers differ, in [0, 1]."""
        with self._lock:
            self._sequence.add(x)
            self.on_their_way -= 1

    def dropped(self) -> None:
        """Count an audit that was under way and failed, as a disagreement."""
        with self._lock:
            self._lose(1)
            self.on_their_way -= 1

    def _lose(self, n: int) -> None:
        self._sequence.add(1.0, n)
        self.lost += n

    def answered(self, by_base: bool, forced: bool = False) -> None:
        """Count an answer. forced: the saver's, although the rule chose the base (governed, base_failed)."""
        with self._lock:
            self.base += by_base
            self.forced += forced
            self.exits += not (by_base or forced)

    @property
    def n(self) -> int:
        """Audits so far, including dropped ones."""
        return self._sequence.n

    @property
    def disagreement(self) -> float | None:
        """The mean of x; None before the first audit."""
        return self._sequence.mean

    @property
    def bound(self) -> float:
        """Upper bound on the disagreement of exits with the base."""
        return self._bounds()[0]

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper bound on it, both at once."""
        return self._bounds()[1]

    def _bounds(self) -> tuple[float, tuple[float, float]]:
        with self._lock:
            if self._known is None or self._known[0] != self.n:
                alpha = 1 - self.confidence
                self._known = self.n, self._sequence.upper(alpha), self._sequence.interval(alpha)
            return self._known[1:]

    @property
    def exit_ratio(self) -> float | None:
        """Share of answers at this point that were exits by the rule; None before the first."""
        seen = self.exits + self.base + self.forced
        return self.exits / seen if seen else None

    @property
    def drop_bound(self) -> float:
        """Upper bound on the disagreement of all answers at this point so far, and so on their drop against the
        base."""
        seen = self.exits + self.base + self.forced
        return min(1.0, (self.bound * self.exits + self.forced) / seen) if seen else 1.0

    @property
    def notes(self) -> list[str]:
        """Warnings, one line each."""
        found = []
        if self.lost:
            found.append(
                f"{self.lost} of {self.n} audits were dropped and count as disagreements: the base was behind, failed "
                "or was stopped; lower --audit or use a faster base"
            )
        if self.forced:
            found.append(f"{self.forced} answers came from the saver against the rule, and count as disagreements")
        if self.exits and not self.n:
            found.append("no exit has been audited yet, so there is no bound")
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
        """Restore :meth:`to_state`. Audits under way at that time are dropped. Raises ValueError for any other data."""
        sequence = MeanSequence.of_state(state["sequence"])
        counts = {name: state[name] for name in ("exits", "base", "forced", "lost", "on_their_way")}
        if any(type(count) is not int or count < 0 for count in counts.values()):
            raise ValueError(f"invalid counts of audits: {str(counts)[:80]}")
        with self._lock:
            self._sequence, on_their_way = sequence, counts.pop("on_their_way")
            vars(self).update(counts)
            self.on_their_way = 0
            if on_their_way:
                self._lose(on_their_way)
