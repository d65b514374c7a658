"""Betting on the mean of a bounded variable (Waudby-Smith and Ramdas 2024, as in methods of risk control).

Under the hypothesis mean >= m the wealth of a bettor against it is a supermartingale, so it passes 1 / delta with
chance delta at most. The bets adapt to the variance seen so far, and need the order of samples fixed beforehand.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
LARGEST_BET = 0.9  # c: share of the wealth that a bet may lose


def rejects(x: F64, mean: float, delta: float) -> bool:
    """Whether "the mean of x is at least *mean*" is rejected at level delta. x float64 (n,) in [0, 1]."""
    return bool(log_wealth(x, mean, delta).max(initial=-np.inf) >= math.log(1 / delta))


def log_wealth(x: F64, mean: float, delta: float) -> F64:
    """float64 (n,): log K_t, K_t = prod_i (1 - nu_i (x_i - mean)); methods 5.1 has nu_i."""
    if not 0 < mean < 1:
        return np.zeros(len(x)) if mean >= 1 else np.full(len(x), -np.inf)
    return np.asarray(np.cumsum(np.log1p(-bets(x, mean, delta) * (x - mean))))


def bets(x: F64, mean: float, delta: float) -> F64:
    """float64 (n,): nu_i, which know only what came before them. 0 < mean < 1."""
    n = len(x)
    i = np.arange(1, n + 1)
    mu = (0.5 + np.cumsum(x)) / (i + 1)
    variance = (0.25 + np.cumsum((x - mu) ** 2)) / (i + 1)
    before = np.concatenate([[0.25], variance[:-1]])
    return np.minimum(np.sqrt(2 * math.log(1 / delta) / (n * before)), LARGEST_BET / (1 - mean))


def upper_bound(x: F64, delta: float, digits: int = 20) -> float:
    """The smallest mean that is rejected, by bisection: an upper confidence bound at 1 - delta."""
    low, high = float(x.mean()), 1.0
    for _ in range(digits):
        middle = (low + high) / 2
        low, high = (low, middle) if rejects(x, middle, delta) else (middle, high)
    return high


def fewest(x: float, mean: float, delta: float) -> int:
    """The fewest samples of value *x* throughout that reject *mean*."""
    low, high = 0, 1
    while not rejects(np.full(high, x), mean, delta):
        low, high = high, 2 * high
        if high > 2**26:
            return 2**62
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if rejects(np.full(middle, x), mean, delta) else (middle, high)
    return high
