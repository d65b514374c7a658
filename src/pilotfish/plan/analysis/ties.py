"""Orders with ties: midranks, means over tie groups, Spearman's rank correlation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pilotfish.plan.sweep import F64

FEWEST = 3  # two points always agree or disagree in full


def nan_lowest(score: F64) -> F64:
    """*score* with NaN as -inf: what never exits stands behind all the rest."""
    return np.where(np.isnan(score), -np.inf, score)


def groups(score: F64) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """(group of each sample (N,), samples per group (G,)); group 0 has the smallest score, NaN as -inf."""
    _, inverse, counts = np.unique(nan_lowest(score), return_inverse=True, return_counts=True)
    return inverse.reshape(-1), counts


def midranks(values: F64) -> F64:
    """Ranks from 1, float64 (N,); equal values share the mean of theirs."""
    inverse, counts = groups(values)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[inverse])


def falling_means(score: F64, values: F64) -> F64:
    """*values* by falling score, each replaced by the mean of its tie group: what a random order of ties expects."""
    inverse, counts = groups(score)
    means = np.bincount(inverse, weights=values, minlength=len(counts)) / counts
    return np.asarray(np.repeat(means[::-1], counts[::-1]))


def spearman(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Spearman's rank correlation, by midranks; None for fewer than 3 points, or where all of one side are equal."""
    if len(a) < FEWEST:
        return None
    x, y = (midranks(np.asarray(v, np.float64)) for v in (a, b))
    x, y = x - x.mean(), y - y.mean()
    spread = float(np.sqrt((x @ x) * (y @ y)))
    return float(np.clip((x @ y) / spread, -1.0, 1.0)) if spread else None
