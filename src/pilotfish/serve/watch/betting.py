"""A confidence sequence for the mean of values in [0, 1], by betting: it holds at every time at once.

Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting" (JRSS B 2024, arXiv 2010.09686). A
bettor of fixed stakes g in (0, 1) has, against the hypothesis that the mean is m, the wealth

    K_t(m) = sum_g w_g prod_{i <= t} (1 - g x_i) / (1 - g m)^t

which grows with m, and passes 1 / alpha at any time with chance alpha at most where m is the mean or less. So all m
from the first with K_t(m) >= 1 / alpha on are rejected. Stakes do not depend on m or on what was seen; hence

- the state is one number per stake, or two counts where x is 0 or 1, and an observation costs a few microseconds;
- the order of what was seen does not matter;
- the mean may move. By the inequality of means prod (1 - g m_i) <= (1 - g mean(m_i))^t: what is bounded is the average
  of the conditional means so far, whatever they are.

For x of 0 and 1 this is a mixture of likelihood ratios: with chances p the stake g is best against m for the p with
(1 - g) = odds(p) / odds(m). Stakes are weighted so that rates of .1 to 3 % are found in some thousands of audits;
``benchmarks/serve_audit.py`` compares them with the predictable and hedged bets of the paper.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
LOGIT = np.linspace(-6.0, 6.0, 24)  # a state of other stakes is of another store.VERSION
STAKES: F64 = 1 / (1 + np.exp(-LOGIT))
_PRIOR = np.exp(-0.5 * LOGIT**2) + 0.02  # the .02: every stake has a say in the end
LOG_WEIGHTS: F64 = np.log(_PRIOR / _PRIOR.sum())
STEPS = 30  # of a bisection


class MeanSequence:
    """Bounds of the mean of what was added so far. Not safe for threads by itself.

    >>> sequence = MeanSequence()
    >>> for x in [0.0] * 198 + [1.0] * 2:
    ...     sequence.add(x)
    >>> sequence.mean, round(sequence.upper(0.05), 3)
    (0.01, 0.043)
    """

    def __init__(self) -> None:
        self.n, self.sum = 0, 0.0
        self.ones = self.zeros = 0
        self.logs = np.zeros((2, len(STAKES)))  # of the others: log prod (1 - g x_i), and of 1 - x_i

    def add(self, x: float, times: int = 1) -> None:
        """One more value, or several equal ones. ValueError outside [0, 1]."""
        if x == 1:
            self.ones += times
        elif x == 0:
            self.zeros += times
        elif 0 < x < 1:
            self.logs += times * np.log1p(-STAKES * np.array([[x], [1 - x]]))
        else:
            raise ValueError(f"a value in [0, 1] is needed, found {x}")
        self.n += times
        self.sum += times * x

    @property
    def mean(self) -> float | None:
        """Of what was added; None of nothing."""
        return self.sum / self.n if self.n else None

    def upper(self, alpha: float) -> float:
        """The mean is below this at every time at once with confidence 1 - alpha; 1 while nothing is known."""
        return self._first_rejected(0, alpha)

    def lower(self, alpha: float) -> float:
        """The mean is above this at every time at once with confidence 1 - alpha."""
        return 1 - self._first_rejected(1, alpha)

    def interval(self, alpha: float) -> tuple[float, float]:
        """Both bounds at once, at alpha / 2 each."""
        return self.lower(alpha / 2), self.upper(alpha / 2)

    def is_above(self, mean: float, alpha: float) -> bool:
        """Whether ``lower(alpha)`` is *mean* or more."""
        return self._rejects(self._held(1), 1 - mean, alpha)

    def _held(self, side: int) -> F64:
        """log w_g prod (1 - g x_i) by stake; side 1: of 1 - x_i."""
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
        """Of *n* values of which the sum alone is known: exact where they are 0 and 1, else with wider bounds, as
        (1 - g)^x <= 1 - g x."""
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
        """What :meth:`to_state` gave. ValueError for anything else."""
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
