"""What a chain is tuned for, judged on whole counts of samples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import UsageError

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Counts = NDArray[np.signedinteger]
COST_SLACK = 1e-12  # relative: as budgets are judged everywhere


@dataclass(frozen=True)
class Goal:
    """One aim on n samples. Ties of the first aim go to the second.

    kind   ``max_drop``: least cost, then smallest drop, with drop <= value;
           ``max_cost``: smallest drop, then least cost, with mean cost <= value;
           ``price``: least cost + value x drop, then least cost, without a limit
    """

    kind: Literal["max_drop", "max_cost", "price"]
    value: float
    n: int

    @property
    def least_gain(self) -> int:
        """The fewest net answers won against the last stage that ``max_drop`` allows."""
        return -math.floor(self.value * self.n + 1e-9)

    def violation(self, gain: Counts, cost: F64) -> F64:
        """How far each policy is from what the goal allows; 0 where it is met."""
        if self.kind == "max_drop":
            return np.maximum(0, self.least_gain - gain).astype(np.float64)
        if self.kind == "max_cost":
            limit = self.value * (1 + COST_SLACK)
            return np.where(cost <= limit, 0.0, cost - self.value)
        return np.zeros(np.shape(gain))

    def keys(self, gain: Counts, cost: F64) -> tuple[F64, F64]:
        """First and second aim of each policy; smaller is better."""
        lost = np.asarray(-gain, np.float64)
        if self.kind == "max_drop":
            return cost, lost
        if self.kind == "max_cost":
            return lost, cost
        return cost + self.value * lost / self.n, cost

    def rank(self, gain: int, cost: float) -> tuple[float, float, float]:
        """A policy's place: (violation, first aim, second aim), compared as a tuple."""
        one, its_cost = np.array([gain]), np.array([cost])
        first, second = self.keys(one, its_cost)
        return float(self.violation(one, its_cost)[0]), float(first[0]), float(second[0])

    def best(self, gain: Counts, cost: F64) -> int:
        """Flat index of the best policy, the first of equals; the least violation where none is allowed."""
        gain, cost = gain.ravel(), cost.ravel()
        broken = self.violation(gain, cost)
        rows = np.flatnonzero(broken == broken.min())
        first, second = self.keys(gain[rows], cost[rows])
        least = np.flatnonzero(first == first.min())
        return int(rows[least[np.argmin(second[least])]])


def make_goal(n: int, max_drop: float | None = None, max_cost: float | None = None) -> Goal:
    """The one aim that was given, for n samples. UsageError when none or both were."""
    if (max_drop is None) == (max_cost is None):
        raise UsageError("exactly one of max_drop and max_cost is needed")
    if max_drop is not None:
        if not -1 <= max_drop <= 1:
            raise UsageError(f"max_drop is a fraction between -1 and 1 (0.005 is half a point), found {max_drop}")
        return Goal("max_drop", float(max_drop), n)
    assert max_cost is not None
    if not (np.isfinite(max_cost) and max_cost >= 0):
        raise UsageError(f"max_cost is a finite number of at least 0, found {max_cost}")
    return Goal("max_cost", float(max_cost), n)
