"""Confidence bounds on whole counts: Clopper-Pearson, and its pair for the gap between cascade and base.

All hold for every n and every distribution of independent samples; scipy does the special functions.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

F64 = NDArray[np.float64]


def upper(k: ArrayLike, n: int, delta: float) -> F64:
    """Clopper-Pearson: the chance behind k of n events is below this with confidence 1 - delta; 1 where k = n."""
    from scipy.special import betaincinv

    k = np.asarray(k, np.float64)
    inside = np.minimum(k, n - 1.0)
    return np.where(k >= n, 1.0, betaincinv(inside + 1.0, n - inside, 1.0 - delta))


def lower(k: ArrayLike, n: int, delta: float) -> F64:
    """Clopper-Pearson: the chance behind k of n events is above this with confidence 1 - delta; 0 where k = 0."""
    from scipy.special import betaincinv

    k = np.asarray(k, np.float64)
    inside = np.maximum(k, 1.0)
    return np.where(k <= 0, 0.0, betaincinv(inside, n - inside + 1.0, delta))


def paired_upper(lost: ArrayLike, won: ArrayLike, n: int, delta: float) -> F64:
    """Upper bound of the gap (lost - won) / n: each count bounded at delta / 2 (methods of paired Clopper-Pearson)."""
    return np.asarray(upper(lost, n, delta / 2) - lower(won, n, delta / 2))


def fewest_samples(drop: float, delta: float, test: str) -> int:
    """The smallest n that can certify *drop* at all, with no sample lost and none won.

    binomial, exact  ln(delta) / ln(1 - drop); paired_cp the same at delta / 2; wsr by its largest bets
    """
    if drop <= 0:
        return 2**62
    if drop >= 1:
        return 1
    if test == "wsr":
        from pilotfish.plan.certificate.wsr import fewest

        return fewest(0.5, (drop + 1) / 2, delta)
    level = delta / 2 if test == "paired_cp" else delta
    n = math.ceil(math.log(level) / math.log1p(-drop))
    if test == "exact":
        from pilotfish.plan.certificate.exact import rejects

        while not rejects(0, 0, n, drop, delta):  # a sample or two more where the level is just missed
            n += 1
    return n
