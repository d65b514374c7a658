"""A confidence sequence for the mean of values in [0, 1], by betting. It holds at all times simultaneously.

Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting" (JRSS B 2024, arXiv 2010.09686). A
bettor with fixed stakes g in (0, 1) has, against the hypothesis that the mean is m, the wealth

    K_t(m) = sum_g w_g prod_{i <= t} (1 - g x_i) / (1 - g m)^t

which grows with m. If the mean is m or more, it ever exceeds 1 / alpha with probability at most alpha. So all m from
the first with K_t(m) >= 1 / alpha are rejected. Stakes depend neither on m nor on the data; hence

- the state is one number per stake, or two counts if x is 0 or 1, and an observation costs a few microseconds;
- the order of the data does not matter;
- the mean may change over time. As prod (1 - g m_i) <= (1 - g mean(m_i))^t, the bound is on the average of the
  conditional means so far.

For x of 0 and 1 this is a mixture of likelihood ratios: the stake g is optimal against m for the rate p with
(1 - g) = odds(p) / odds(m). Stakes are weighted so that rates of .1 to 3 % are found within some thousands of audits;
``benchmarks/serve_audit.py`` compares them with the predictable and hedged bets of the paper.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
LOGIT = np.linspace(-6.0, 6.0, 24)  # changing the stakes needs a new store.VERSION
STAKES: F64 = 1 / (1 + np.exp(-LOGIT))
_PRIOR = np.exp(-0.5 * LOGIT**2) + 0.02  # the .02 keeps every stake relevant
LOG_WEIGHTS: F64 = np.log(_PRIOR / _PRIOR.sum())
STEPS = 30  # of a bisection


class MeanSequence:
    """Bounds on the mean of the values added so far. Not thread-safe.

    >>> sequence = MeanSequence()
    >>> for x in [0.0] * 198 + [1.0] * 2:
    ...     sequence.add(x)
    >>> sequence.mean, round(sequence.upper(0.05), 3)
    (0.01, 0.043)
    """

    def __init__(self) -> None:
        self.n, self.sum = 0, 0.0
        self.ones = self.zeros = 0
        self.logs = np.zeros((2, len(STAKES)))  # of all other x: log prod (1 - g x_i), and the same of 1 - x_i

    def add(self, x: float, times: int = 1) -> None:
        """Add a value, or several equal ones. Raises ValueError outside [0, 1]."""
        if x == 1:
            self.ones += times
        elif x == 0:
            self.zeros += times
        elif 0 < x < 1:
            self.logs += times * np.log1p(-STAKES * np.array([[x], [1 - x]]))
        else:
            raise ValueError(f"a value must be in [0, 1]; found {x}")
        self.n += times
        self.sum += times * x

    @property
    def mean(self) -> float | None:
        """The mean of all values; None if there are none."""
        return self.sum / self.n if self.n else None

    def upper(self, alpha: float) -> float:
        """Upper bound on the mean, at all times simultaneously with confidence 1 - alpha; 1 if nothing is known."""
        return self._first_rejected(0, alpha)

    def lower(self, alpha: float) -> float:
        """Lower bound on the mean, at all times simultaneously with confidence 1 - alpha."""
        return 1 - self._first_rejected(1, alpha)

    def interval(self, alpha: float) -> tuple[float, float]:
        """Both bounds at once, at alpha / 2 each."""
        return self.lower(alpha / 2), self.upper(alpha / 2)

    def is_above(self, mean: float, alpha: float) -> bool:
        """Whether ``lower(alpha)`` is at least *mean*."""
        return self._rejects(self._held(1), 1 - mean, alpha)

    def _held(self, side: int) -> F64:
        """log w_g prod (1 - g x_i) per stake; side 1: of 1 - x_i."""
        return np.asarray(LOG_WEIGHTS + self.logs[side] + (self.ones, self.zeros)[side] * np.log1p(-STAKES))

    def _rejects(self, held: F64, mean: float, alpha: float) -> bool:
        log_wealth = np.logaddexp.reduce(held - self.n * np.log1p(-STAKES * mean))
        return float(log_wealth) >= math.log(1 / alpha)

    def _first_rejected(self, side: int, alpha: float) -> float:
        low, high, held = 0.0, 1.0, self._held(side)
        for _ in range(STEPS):
            middle = (low + high) / 2
            low, high = (low, middle) if self._rejects(held, middle, alpha) else (middle, high)
        return high

    @classmethod
    def of_counts(cls, n: int, total: float) -> MeanSequence:
        """A sequence of *n* values of which only the sum is known. Exact for values of 0 and 1, else with wider bounds,
        as (1 - g)^x <= 1 - g x."""
        found = cls()
        found.n, found.sum = n, total
        found.logs = np.array([[total], [n - total]]) * np.log1p(-STAKES)
        return found

    def to_state(self) -> dict[str, Any]:
        """As plain JSON."""
        logs = self.logs.tolist() if self.logs.any() else None
        return {"n": self.n, "sum": self.sum, "ones": self.ones, "zeros": self.zeros, "logs": logs}

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> MeanSequence:
        """Restore :meth:`to_state`. Raises ValueError for any other data."""
        found = cls()
        counts = [state[name] for name in ("n", "ones", "zeros")]
        n, ones, zeros = counts
        logs = found.logs if state["logs"] is None else np.array(state["logs"], np.float64)
        total = float(state["sum"])
        if logs.shape != found.logs.shape or not np.isfinite(logs).all() or (logs > 0).any():
            raise ValueError(f"bets of shape {logs.shape}, expected {found.logs.shape} finite logarithms")
        if any(type(count) is not int or count < 0 for count in counts) or ones + zeros > n or not ones <= total <= n:
            raise ValueError(f"a sum of {total} over {n} values in [0, 1], {ones} of them 1 and {zeros} of them 0")
        found.n, found.ones, found.zeros, found.sum, found.logs = n, ones, zeros, total, logs
        return found
