"""An exact test that the gap of paired outcomes is below a limit.

The hypothesis is p10 - p01 >= eps, with n10 samples that only the base has right and n01 that only the cascade has.
Samples are ordered by the score statistic of Tango (1998), and its critical value is the smallest whose chance of
rejection is at most delta for every p01 on the edge p10 = p01 + eps (Hsueh, Liu and Chen, Biometrics 2001: by Barnard
convexity the edge is the worst case). Paired Clopper-Pearson spends delta / 2 on each count; this spends delta once,
and so allows more losses for the same promise.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
NUISANCE = 160  # values of p01 that are tried; between them the chance moves by less than SAFETY
SAFETY = 1e-4
SPREAD = 9.0  # standard deviations beyond which a binomial is taken as 0: 1e-18


def rejects(lost: ArrayLike, won: ArrayLike, n: int, drop: float, delta: float) -> NDArray[np.bool_]:
    """bool, by policy: whether "the gap is at least *drop*" is rejected at level delta. lost, won int (P,)."""
    if not 0 < drop < 1:
        return np.full(np.shape(lost), drop >= 1)
    return np.asarray(statistic(lost, won, n, drop) >= critical_value(n, drop, delta))


def statistic(lost: ArrayLike, won: ArrayLike, n: int, drop: float) -> F64:
    """Tango's score statistic of the hypothesis gap = drop; larger speaks for a smaller gap."""
    b, c = np.asarray(lost, np.float64), np.asarray(won, np.float64)
    rest = n - b - c
    # maximum likelihood of p01 on the edge: the root of a quadratic
    a2 = -2.0 * n
    a1 = (b + c) * (1 - drop) - 2 * c * drop - 2 * rest * drop
    a0 = c * drop * (1 - drop)
    q = (-a1 - np.sqrt(np.maximum(a1 * a1 - 4 * a2 * a0, 0.0))) / (2 * a2)
    q = np.clip(q, 0.0, (1 - drop) / 2)
    return np.asarray((c - b + n * drop) / np.sqrt(n * (2 * q + drop - drop * drop)))


@lru_cache(maxsize=256)
def critical_value(n: int, drop: float, delta: float) -> float:
    """The smallest critical value of the statistic with a size of at most delta, to three digits (upwards)."""
    low, high = 0.0, 12.0
    if size(n, drop, low) <= delta - SAFETY:
        return low
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (low, middle) if size(n, drop, middle) <= delta - SAFETY else (middle, high)
    return high


def size(n: int, drop: float, critical: float) -> float:
    """The largest chance of rejection where the gap equals *drop*, over the nuisance p01."""
    from scipy.special import bdtr, gammaln

    everything = np.arange(n + 1)
    most = _most_lost(everything, n, drop, critical)
    log_ways = gammaln(n + 1) - gammaln(everything + 1) - gammaln(n - everything + 1)
    largest = 0.0
    for p01 in np.concatenate([[0.0], np.geomspace(1e-3 / n, (1 - drop) / 2, NUISANCE)]).tolist():
        differ = 2 * p01 + drop  # chance that the two answers differ
        middle, spread = n * differ, SPREAD * np.sqrt(n * differ * (1 - differ)) + SPREAD
        m = np.arange(max(0, int(middle - spread)), min(n, int(middle + spread)) + 1)
        m = m[most[m] >= 0]
        tail = bdtr(most[m].astype(np.float64), m, min((p01 + drop) / differ, 1.0))
        chance = np.exp(log_ways[m] + m * np.log(differ) + (n - m) * np.log1p(-differ)) if differ < 1 else m == n
        largest = max(largest, float(chance @ tail))
    return largest


def upper_bound(lost: int, won: int, n: int, delta: float) -> float:
    """The smallest gap that is rejected, to four digits (upwards): an upper confidence bound at 1 - delta."""
    low, high = max((lost - won) / n, 0.0), 1.0
    while high - low > max(1e-5, 5e-3 * high):
        middle = (low + high) / 2
        value = float(statistic(lost, won, n, middle))
        low, high = (low, middle) if size(n, middle, value) <= delta - SAFETY else (middle, high)
    return high


def _most_lost(m: I64, n: int, drop: float, critical: float) -> I64:
    """For m differing samples, the most that may be lost while the statistic is at least *critical*; -1 for none."""
    low, high = np.full(len(m), -1), m.copy()
    while (low < high).any():
        middle = (low + high + 1) // 2
        fine = statistic(middle, m - middle, n, drop) >= critical
        low, high = np.where(fine, middle, low), np.where(fine, high, middle - 1)
    return low
