"""Shadow mode: the base answers every input, and what the cascade would have done is counted."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from pilotfish.serve.watch.betting import MeanSequence

SAYS = (
    "drop_bound bounds how often the cascade would have answered differently from the base, over all requests so far, "
    "and so what it would have lost; bound is the same for exits only; saved is the share of the base's cost that it "
    "would have saved. Each bound holds at all times simultaneously with the stated confidence"
)


class Shadow:
    """What the cascade would have done at one operating point.

    costs       of a sample that exits at each stage, including earlier stages; None if unknown
    base_cost   of the base alone
    confidence  of each bound, at all times simultaneously
    """

    def __init__(
        self, costs: tuple[float, ...] | None = None, base_cost: float | None = None, confidence: float = 0.95
    ) -> None:
        self.confidence = confidence
        known = bool(costs and base_cost)
        self.costs, self.base_cost = costs if known else None, base_cost if known else None
        self._of = {name: MeanSequence() for name in ("exits", "disagreement", "drop", "spent")}
        self._lock = threading.Lock()
        self._known: dict[str, Any] | None = None  # cached figures, until the next input

    def add(self, left_at: int | None, x: float = 0.0) -> None:
        """Count an input.

        left_at  the stage where the rule would have let it exit; None: it would have reached the base
        x        how much the answer there differs from the base's, in [0, 1]
        """
        exits = left_at is not None
        with self._lock:
            self._known = None
            self._of["exits"].add(float(exits))
            self._of["drop"].add(x if exits else 0.0)
            if exits:
                self._of["disagreement"].add(x)
            if self.costs is not None:
                least, most = min(self.costs), max(self.costs)
                spent = self.costs[-1 if left_at is None else left_at]
                self._of["spent"].add((spent - least) / ((most - least) or 1.0))

    @property
    def n(self) -> int:
        """Inputs so far."""
        return self._of["drop"].n

    def to_json(self) -> dict[str, Any]:
        """``shadow`` of ``GET /v2/models/M/audit``. None means unknown."""
        with self._lock:
            if self._known is None:
                self._known = self._figures()
            return dict(self._known)

    def _figures(self) -> dict[str, Any]:
        alpha = 1 - self.confidence
        exits, disagreement, drop, spent = self._of.values()
        found = {
            "n": drop.n,
            "exit_ratio": exits.mean,
            "exit_ratio_interval": list(exits.interval(alpha)),
            "disagreement": disagreement.mean,
            "bound": disagreement.upper(alpha),
            "drop": drop.mean,
            "drop_bound": drop.upper(alpha),
            "saved": None,
            "saved_interval": None,
            "confidence": self.confidence,
            "bounds": SAYS,
        }
        if self.costs is not None and self.base_cost is not None and spent.mean is not None:
            ends = np.array([spent.mean, *reversed(spent.interval(alpha))])
            costs = min(self.costs) + ends * (max(self.costs) - min(self.costs))
            saved, *interval = (1 - costs / self.base_cost).tolist()
            found |= {"saved": saved, "saved_interval": interval}
        return found

    def to_state(self) -> dict[str, Any]:
        """As plain JSON."""
        with self._lock:
            return {name: sequence.to_state() for name, sequence in self._of.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore :meth:`to_state`. Raises ValueError for any other data."""
        found = {name: MeanSequence.of_state(state[name]) for name in self._of}
        with self._lock:
            self._of, self._known = found, None
