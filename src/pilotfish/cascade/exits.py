"""Exit sets: which scores exit at a stage. Usually "at or above a threshold", for PCEE a union of intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

F64 = NDArray[np.float64]
DENSE = 2.0**-10  # below it float32 numbers are denser than the rounding of sums in float64
STEP = 2.0**-23  # from 1 to the next float32
LAST = float(np.nextafter(np.finfo(np.float32).max, np.float32(0)))  # the last but one of float32


def decide_at(thresholds: ArrayLike) -> F64:
    """What scores are compared with: the next float32 below each threshold, in the scores' own unit. ±inf stay.

    A threshold is usually some sample's own score, and from the same logits numpy, torch and ONNX Runtime compute
    numbers that differ in their last digits: by at most 1e-12 on 10^5 rows, a hundredth of the step. One step below,
    that sample is decided the same way in all of them. Near 0 the step stays what it is at 2**-10: the rounding does
    not shrink there.
    """
    t = np.asarray(thresholds, np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        below = np.nextafter(t.astype(np.float32), np.float32(-np.inf)).astype(np.float64)
        within = (np.abs(t) < np.finfo(np.float32).max) & np.isfinite(below)
        beyond = t - np.abs(t) * STEP
        beyond = np.where(t > 0, np.maximum(beyond, LAST), beyond)
        below = np.where(within, below, beyond)
        return np.where(np.isinf(t), t, np.minimum(below, t - DENSE * STEP))


def just_above(thresholds: ArrayLike) -> F64:
    """Thresholds for "score > t" instead of "score >= t": with them a score of exactly t does not exit."""
    t = np.asarray(thresholds, np.float64)
    up = np.float32(np.inf)
    with np.errstate(over="ignore"):
        return np.maximum(np.nextafter(np.nextafter(t.astype(np.float32), up), up), t + 2 * DENSE * STEP)


def leaves(values: F64, bounds: ArrayLike) -> NDArray[np.bool_]:
    """bool (N,): which samples exit by *bounds*, thresholds as they were chosen. All exit decisions use it.

    No bounds, or one of +inf, exits nobody; -inf exits all whose value is not NaN.
    """
    return inside(values, decide_at(bounds))


def inside(values: F64, bounds: Sequence[float] | F64) -> NDArray[np.bool_]:
    """bool (N,): values in [b0, b1) or [b2, b3) or … of the rising *bounds*; a single bound is value >= b0."""
    if len(bounds) == 1:
        return np.asarray(values >= bounds[0]) & ~np.isnan(values)
    within = np.searchsorted(np.asarray(bounds, np.float64), values, side="right") % 2 == 1
    return np.asarray(within & ~np.isnan(values))


def from_bins(edges: F64, accepted: NDArray[np.bool_]) -> F64:
    """Bounds of the accepted bins. edges (B-1,) rising inner edges; accepted bool (B,).

    The last bin has no upper end, the first no lower end.
    """
    padded = np.concatenate([[False], accepted, [False]])
    changes = np.flatnonzero(padded[1:] != padded[:-1])
    ends = np.concatenate([[-np.inf], edges, [np.inf]])
    bounds = ends[changes]
    if len(bounds) and np.isposinf(bounds[-1]):
        bounds = bounds[:-1]  # open above
    return bounds if len(bounds) else np.array([np.inf])
