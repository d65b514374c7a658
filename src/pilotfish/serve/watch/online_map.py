"""The reliability of a stage's answers by score, from audits and labels."""

from __future__ import annotations

import math
import threading
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pilotfish.cascade import Artefact
from pilotfish.scores import Scale, to_shown
from pilotfish.serve.watch.betting import MeanSequence

EDGES = (*(np.arange(1, 10) / 10).tolist(), 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9998)  # probabilities lie near 1
BELIEVED = 10.0  # how many answers a stated probability counts as


class OnlineMap:
    """The reliability of one stage's answers in bins of its score, in display units. An estimate, not a bound.

    edges       B - 1 increasing scores that separate the bins
    believes    whether the score is a probability. It then counts as ten answers of its bin that were right as often
                as it says; otherwise a bin without answers says nothing
    floor       certified reliability of exits, on average over them; None without a certificate
    exits_from  the score from which the floor applies
    confidence  for rejecting the floor of a bin

    Whether an answer is right is decided by its label or, until that arrives, by the base, so a saver's reliability is
    mostly its agreement with the base. The floor of a bin applies until the bin's own answers reject it: until the
    upper end of a confidence sequence for their accuracy, at level (1 - confidence) / B and at all times
    simultaneously, is below it. From then on only the bin's answers count. A certificate covers all exits together, so
    a bin may well lie below it, and a certified drop is net: answers may differ from the base's more often than that.
    So a rejected floor breaks no guarantee by itself, and it moves no threshold.
    """

    def __init__(
        self,
        edges: Sequence[float] | None = None,
        believes: bool = True,
        floor: float | None = None,
        exits_from: float = 1.0,
        confidence: float = 0.95,
    ) -> None:
        self.edges = [float(edge) for edge in (EDGES if edges is None else edges)]
        self.believes, self.floor, self.exits_from, self.confidence = believes, floor, exits_from, confidence
        bins = len(self.edges) + 1
        self.n, self.right, self.fallen = [0] * bins, [0.0] * bins, [False] * bins
        self._lock = threading.Lock()

    def update(self, score: float, right: float, before: float | None = None) -> None:
        """Count an answer that was *right*, in [0, 1]. A NaN score is ignored.

        before  what was counted for the same answer earlier, from the base's answer; None: nothing
        """
        if not math.isfinite(score):
            return
        at = self._bin(score)
        with self._lock:
            self.n[at] += before is None
            self.right[at] = min(max(self.right[at] + right - (before or 0.0), 0.0), self.n[at])
            if self.floor is not None and score >= self.exits_from and not self.fallen[at]:
                wrong = MeanSequence.of_counts(self.n[at], self.n[at] - self.right[at])
                self.fallen[at] = wrong.is_above(1 - self.floor, (1 - self.confidence) / len(self.n))

    def reliability(self, score: float) -> float | None:
        """Estimated share of such answers that are right; None if nothing is known."""
        if not math.isfinite(score):
            return None
        at, worth = self._bin(score), BELIEVED if self.believes else 0.0
        with self._lock:
            n, right, fallen = self.n[at], self.right[at], self.fallen[at]
        stands = self.floor is not None and not fallen and score >= self.exits_from
        if not n + worth:
            return self.floor if stands else None
        found = (right + worth * min(max(score, 0.0), 1.0)) / (n + worth)
        return max(found, self.floor) if stands and self.floor is not None else found

    def _bin(self, score: float) -> int:
        return bisect_right(self.edges, score)

    def to_json(self) -> list[dict[str, Any]]:
        """One row per bin: from and to (None: open), n, right (share; None without answers), and the floor that applies
        there, or None."""
        with self._lock:
            ends = [None, *self.edges, None]
            rows = zip(ends[:-1], ends[1:], self.n, self.right, self.fallen, strict=True)
            return [
                {
                    "from": low,
                    "to": high,
                    "n": n,
                    "right": right / n if n else None,
                    "floor": self.floor if not fallen and (high is None or high > self.exits_from) else None,
                }
                for low, high, n, right, fallen in rows
            ]

    def to_state(self) -> dict[str, Any]:
        """As plain JSON."""
        with self._lock:
            return {"edges": self.edges, "n": [*self.n], "right": [*self.right], "fallen": [*self.fallen]}

    def restore(self, state: Mapping[str, Any]) -> bool:
        """Restore :meth:`to_state`. Returns False if its bins differ. Raises ValueError for any other data."""
        n, right = [int(each) for each in state["n"]], [float(each) for each in state["right"]]
        fallen = [bool(each) for each in state["fallen"]]
        if state["edges"] != self.edges:
            return False
        if not len(n) == len(right) == len(fallen) == len(self.n):
            raise ValueError("the map has another number of bins than its edges say")
        if not all(0 <= k <= count for k, count in zip(right, n, strict=True)):
            raise ValueError("more answers of a bin were right than there were")
        with self._lock:
            self.n, self.right, self.fallen = n, right, fallen
        return True


def maps_of(artefact: Artefact) -> list[OnlineMap]:
    """One map per stage, for the operating point of *artefact*.

    The floor of savers is 1 - bound / r, with *bound* the certified drop or disagreement over all samples and r the
    share of them that exit. No other kind of guarantee covers exits.
    """
    return [_map_of(artefact, k) for k in range(len(artefact.stages))]


def _map_of(artefact: Artefact, k: int) -> OnlineMap:
    last = k + 1 == len(artefact.stages)
    scale: Scale = artefact.scales[k] if not last else "log_odds" if artefact.task.classes else "identity"
    floor, profile = None, artefact.profile
    exits = 1 - artefact.calibration.exit_ratio[-1]
    promise = artefact.guarantee or {}
    if not last and exits > 0 and promise.get("kind") in ("drop", "agreement"):
        floor = max(0.0, 1 - float(promise["bound"]) / exits)
    bounds = artefact.operating_point.compared[k] if not last else (np.inf,)
    exits_from = float(to_shown(scale, np.array(bounds[:1]))[0])
    steps = profile.quantiles[k][5:-1:5] if profile is not None and not last else ()
    shown = np.unique(to_shown(scale, np.array(steps, np.float64)))
    edges = shown[np.isfinite(shown)].tolist() if steps else None
    return OnlineMap(edges, scale == "log_odds", floor, exits_from)
