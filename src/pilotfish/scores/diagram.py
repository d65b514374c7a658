"""Reliability diagrams: the accuracy that a score's value stands for, as a step function of the score.

PCEE (arXiv 2412.19325) exits where the diagram's height at the sample's confidence is at least delta. Only its abstract
is public: bins, smoothing and what happens to sparse bins are our choices, named here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pilotfish.scores.score_kind import Scale, from_shown, to_shown

F64 = NDArray[np.float64]
Mask = NDArray[np.bool_]
Smoothing = Literal["none", "neighbours", "kernel", "isotonic"]
Binning = Literal["width", "mass"]
STEPS = 400  # steps of a smoothed diagram
FEWEST = 5  # samples that a bin needs; a sparser one never exits


@dataclass(frozen=True)
class Diagram:
    """edges float64 (B-1,) rising, in the score's own unit; accuracy float64 (B,), -inf where nothing is known; count
    float64 (B,), samples per bin."""

    edges: F64
    accuracy: F64
    count: F64

    def at(self, values: F64) -> F64:
        """float64 (N,): the height at each value; NaN for NaN."""
        height = self.accuracy[np.searchsorted(self.edges, values, side="right")]
        return np.where(np.isnan(values), np.nan, height)

    def at_least(self, delta: float) -> Mask:
        """bool (B,): bins whose height is at least *delta*."""
        return self.accuracy >= delta

    def at_least_on_average(self, delta: float) -> Mask:
        """bool (B,): the highest bins, as many as keep the mean height of their samples at *delta* or more."""
        order = np.argsort(-self.accuracy, kind="stable")
        order = order[np.isfinite(self.accuracy[order])]
        total = np.cumsum(self.count[order])
        mean = np.cumsum(self.accuracy[order] * self.count[order]) / np.maximum(total, 1.0)
        taken = np.zeros(len(self.accuracy), bool)
        kept = np.flatnonzero(mean >= delta - 1e-12)
        if len(kept):
            taken[order[: kept[-1] + 1]] = True
        return taken


NOTHING = Diagram(np.empty(0), np.full(1, -np.inf), np.zeros(1))


def binned(values: F64, right: Mask, scale: Scale, bins: int, binning: Binning, bound: float | None) -> Diagram:
    """Share of right answers per bin, of equal width in the unit people read or of equal mass.

    bound  confidence of a lower bound (Clopper-Pearson) to use instead of the share; None for the share
    """
    known = ~np.isnan(values)
    v, hit = values[known], right[known].astype(np.float64)
    if not len(v):
        return NOTHING
    edges = _edges(v, scale, bins, binning)
    where = np.searchsorted(edges, v, side="right")
    n = np.bincount(where, minlength=len(edges) + 1) * 1.0
    k = np.bincount(where, weights=hit, minlength=len(edges) + 1)
    count = np.asarray(n, np.float64)
    return Diagram(edges, np.where(count >= FEWEST, _height(k, count, bound), -np.inf), count)


def smoothed(
    values: F64, right: Mask, scale: Scale, smoothing: Smoothing, neighbours: int, width: float, bound: float | None
) -> Diagram:
    """A diagram in up to 400 steps of equal mass.

    neighbours  share of right answers among so many nearest values on each side of a step, and the step itself
    kernel      Nadaraya-Watson with a Gaussian of *width*, in the unit people read
    isotonic    the best rising step function (pool adjacent violators)
    bound       as for :func:`binned`; for neighbours only
    """
    known = ~np.isnan(values)
    order = np.argsort(values[known], kind="stable")
    v, hit = values[known][order], right[known][order].astype(np.float64)
    if not len(v):
        return NOTHING
    starts = np.unique(np.searchsorted(v, v[np.unique(np.arange(STEPS) * len(v) // STEPS)], side="left"))
    ends = np.append(starts[1:], len(v))
    sums = np.concatenate([[0.0], np.cumsum(hit)])
    k, n = sums[ends] - sums[starts], (ends - starts).astype(np.float64)
    if smoothing == "neighbours":
        low, high = np.maximum(starts - neighbours, 0), np.minimum(ends + neighbours, len(v))
        height = _height(sums[high] - sums[low], (high - low).astype(np.float64), bound)
    elif smoothing == "kernel":
        centre = to_shown(scale, v[(starts + ends - 1) // 2])
        weight = np.exp(-0.5 * ((centre[:, None] - centre[None, :]) / width) ** 2)
        height = weight @ k / (weight @ n)
    else:
        from scipy.optimize import isotonic_regression

        height = np.asarray(isotonic_regression(k / n, weights=n).x)
    return Diagram(v[starts[1:]], height, n)


def _height(k: Any, n: Any, bound: float | None) -> F64:
    if bound is None:
        return np.asarray(k / np.maximum(n, 1.0))
    from scipy.special import betaincinv

    return np.asarray(np.where(k > 0, betaincinv(np.maximum(k, 1.0), n - np.maximum(k, 1.0) + 1.0, 1.0 - bound), 0.0))


def _edges(v: F64, scale: Scale, bins: int, binning: Binning) -> F64:
    if binning == "mass":
        at = np.unique(np.sort(v)[np.arange(1, bins) * len(v) // bins])
        return np.asarray(at[at > v.min()])
    shown = to_shown(scale, v)
    if shown.min() >= 0 and shown.max() <= 1:
        low, high = 0.0, 1.0
    else:
        low, high = float(shown.min()), float(shown.max())
    if low == high:
        return np.empty(0)
    return np.unique(from_shown(scale, low + (high - low) * np.arange(1, bins) / bins))
