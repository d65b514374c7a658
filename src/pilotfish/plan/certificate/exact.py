"""An exact test that the gap of paired outcomes is below a limit.

The hypothesis is p10 - p01 >= eps, with n10 samples that only the base has right and n01 that only the cascade has.
Samples are ordered by the score statistic of Tango (1998), and its critical value is the smallest whose chance of
rejection is at most delta for every p01 on the edge p10 = p01 + eps (Hsueh, Liu and Chen, Biometrics 2001: by Barnard
convexity the edge is the worst case). That chance is often largest for p01 near its end, where it moves fast. Paired
Clopper-Pearson spends delta / 2 on each count; this spends delta once, and so allows more losses for the same promise.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
FINE = 4.0  # values of p01 that are tried: this x sqrt(n) per radian, half a standard deviation apart at most
COARSE = 6  # every so many of them are tried first
CLOSE = 25  # values that a p-value tries around the worst of them
SAFETY = 1e-4  # between two values the chance moves by less
CUT = 1e-7  # more than is lost beyond SPREAD; a small chance is known to a factor: about its largest it is flat
SPREAD = 6.0  # standard deviations, and counts, beyond which a binomial is taken as 0: 1e-8 at most


def rejects(lost: ArrayLike, won: ArrayLike, n: int, drop: float, delta: float) -> NDArray[np.bool_]:
    """bool, by policy: whether "the gap is at least *drop*" is rejected at level delta. lost, won int (P,)."""
    if not 0 < drop < 1:
        return np.full(np.shape(lost), drop >= 1)
    return np.asarray(statistic(lost, won, n, drop) >= critical_value(n, drop, delta))


@lru_cache(maxsize=4096)
def p_value(lost: int, won: int, n: int, drop: float) -> float:
    """The smallest level at which "the gap is at least *drop*" is rejected, at least 1e-7.

    With lost and won exchanged and the sign of *drop* changed it is that of "the gap is at most *drop*".
    """
    if not -1 < drop < 1:
        return 0.0 if drop >= 1 else 1.0
    value, p01 = float(statistic(lost, won, n, drop)), nuisances(n, drop)
    found = chances(n, drop, value, p01)
    worst = int(found.argmax())
    around = np.linspace(p01[max(worst - 1, 0)], p01[min(worst + 1, len(p01) - 1)], CLOSE)
    most = max(float(found.max()), float(chances(n, drop, value, around).max()))
    return min(1.0, most + SAFETY, 2 * most + CUT)


def statistic(lost: ArrayLike, won: ArrayLike, n: int, drop: float) -> F64:
    """Tango's score statistic of the hypothesis gap = drop; larger speaks for a smaller gap."""
    b, c = np.asarray(lost, np.float64), np.asarray(won, np.float64)
    rest = n - b - c
    # maximum likelihood of p01 on the edge: the root of a quadratic
    a2 = -2.0 * n
    a1 = (b + c) * (1 - drop) - 2 * c * drop - 2 * rest * drop
    a0 = c * drop * (1 - drop)
    q = (-a1 - np.sqrt(np.maximum(a1 * a1 - 4 * a2 * a0, 0.0))) / (2 * a2)
    q = np.clip(q, max(0.0, -drop), (1 - drop) / 2)
    spread = np.sqrt(n * (2 * q + drop - drop * drop))
    return np.asarray((c - b + n * drop) / np.where(spread > 0, spread, np.inf))  # no gap, and none is expected


@lru_cache(maxsize=256)
def critical_value(n: int, drop: float, delta: float) -> float:
    """The smallest critical value of the statistic with a size of at most delta, to three digits (upwards)."""
    p01, allowed = nuisances(n, drop), delta - SAFETY
    found = _first_within(n, drop, allowed, p01[::COARSE], 0.0)
    # no chance grows with the critical value: only those still too large matter any more
    hot = p01[chances(n, drop, found, p01) > allowed]
    return _first_within(n, drop, allowed, hot, found) if len(hot) else found


def _first_within(n: int, drop: float, allowed: float, p01: F64, low: float) -> float:
    """The smallest critical value from *low* on at which every chance is *allowed*."""
    if chances(n, drop, low, p01).max() <= allowed:
        return low
    high = 12.0
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (low, middle) if chances(n, drop, middle, p01).max() <= allowed else (middle, high)
    return high


def size(n: int, drop: float, critical: float) -> float:
    """The largest chance of rejection where the gap equals *drop*, over the nuisance p01."""
    return float(chances(n, drop, critical, nuisances(n, drop)).max())


def nuisances(n: int, drop: float) -> F64:
    """float64: p01 from 0 to (1 - drop) / 2, evenly in the arcsine of its root: even in standard deviations of the
    counts at both ends, where some differ and where all do. Below a gap of 0 it begins at -drop, where p10 is 0."""
    angle = np.linspace(0, np.pi / 2, 2 + int(FINE * np.pi / 2 * np.sqrt(n)))
    least, most = max(0.0, -drop), (1 - drop) / 2
    found = least + (most - least) * np.sin(angle) ** 2
    return np.asarray(found if drop else found[1:])  # where nothing differs, nothing is rejected


def chances(n: int, drop: float, critical: float, p01: F64) -> F64:
    """The chance of rejection where the gap equals *drop*, for each nuisance p01: float64 as p01."""
    from scipy.special import bdtr, gammaln

    everything = np.arange(n + 1)
    most = _most_lost(everything, n, drop, critical)
    log_ways = gammaln(n + 1) - gammaln(everything + 1) - gammaln(n - everything + 1)
    found = np.empty(len(p01))
    for i, q in enumerate(p01.tolist()):
        differ = min(2 * q + drop, 1.0)  # chance that the two answers differ
        middle, spread = n * differ, SPREAD * np.sqrt(n * differ * (1 - differ)) + SPREAD
        m = np.arange(max(0, int(middle - spread)), min(n, int(middle + spread)) + 1)
        m = m[most[m] >= 0]
        tail = bdtr(most[m].astype(np.float64), m, min(max((q + drop) / differ, 0.0), 1.0))
        chance = np.exp(log_ways[m] + m * np.log(differ) + (n - m) * np.log1p(-differ)) if differ < 1 else m == n
        found[i] = chance @ tail
    return found


def upper_bound(lost: int, won: int, n: int, delta: float) -> float:
    """The smallest gap that is rejected, to three digits (upwards): an upper confidence bound at 1 - delta."""
    allowed = delta - SAFETY

    def rejected(drop: float, every: int) -> bool:
        value = float(statistic(lost, won, n, drop))
        return bool(chances(n, drop, value, nuisances(n, drop)[::every]).max() <= allowed)

    low, high = max((lost - won) / n, 0.0), 1.0
    while high - low > max(1e-5, 5e-3 * high):
        middle = (low + high) / 2
        low, high = (low, middle) if rejected(middle, COARSE) else (middle, high)
    while high < 1 and not rejected(high, 1):  # a little more where a value in between was worse
        high = min(high + max(1e-5, 2e-3 * high), 1.0)
    return high


def _most_lost(m: I64, n: int, drop: float, critical: float) -> I64:
    """For m differing samples, the most that may be lost while the statistic is at least *critical*; -1 for none."""
    low, high = np.full(len(m), -1), m.copy()
    while (low < high).any():
        middle = (low + high + 1) // 2
        fine = statistic(middle, m - middle, n, drop) >= critical
        low, high = np.where(fine, middle, low), np.where(fine, high, middle - 1)
    return low
