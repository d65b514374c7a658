"""Exit sets: which scores leave at a stage. Mostly "at or above a threshold", for PCEE a union of intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]


def leaves(values: F64, bounds: Sequence[float] | F64) -> NDArray[np.bool_]:
    """bool (N,): values in [b0, b1) or [b2, b3) or … of the rising *bounds*; a single bound is value >= b0.

    No bounds, or one of +inf, exits nobody; -inf everybody whose value is not NaN.
    """
    if len(bounds) == 1:
        return np.asarray(values >= bounds[0]) & ~np.isnan(values)
    inside = np.searchsorted(np.asarray(bounds, np.float64), values, side="right") % 2 == 1
    return np.asarray(inside & ~np.isnan(values))


def from_bins(edges: F64, accepted: NDArray[np.bool_]) -> F64:
    """Bounds of the bins that are accepted. edges (B-1,) rising inner edges; accepted bool (B,).

    The last bin has no upper end, the first no lower.
    """
    padded = np.concatenate([[False], accepted, [False]])
    changes = np.flatnonzero(padded[1:] != padded[:-1])
    ends = np.concatenate([[-np.inf], edges, [np.inf]])
    bounds = ends[changes]
    if len(bounds) and np.isposinf(bounds[-1]):
        bounds = bounds[:-1]  # open above
    return bounds if len(bounds) else np.array([np.inf])
