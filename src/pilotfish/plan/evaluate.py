"""What a policy does to samples whose records are known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pilotfish.cascade import ExitSets
from pilotfish.cascade.performance import Performance, grouped_interval, paired_interval
from pilotfish.plan.path import outcomes
from pilotfish.plan.trace import Trace

F64 = NDArray[np.float64]
Rows = NDArray[np.intp]


def route(scores: Sequence[F64], thresholds: Sequence[float]) -> NDArray[np.int64]:
    """int64 (N,): the stage that answers each sample, the first whose score >= its threshold, else the last.

    scores  K-1 arrays (N,), one per stage but the last
    """
    passes = np.stack([s >= t for s, t in zip(scores, thresholds, strict=True)])
    return np.where(passes.any(axis=0), passes.argmax(axis=0), len(passes)).astype(np.int64)


def evaluate(trace: Trace, policy: ExitSets) -> Performance:
    """Accuracy, drop with its interval (by groups where there are some), cost and exit ratios of one policy."""
    n = len(trace)
    answered_by, gap = outcomes(trace, policy)
    lost, won = int((gap > 0).sum()), int((gap < 0).sum())
    share = np.bincount(answered_by, minlength=trace.stages) / n
    base = int(trace.base_quality.sum())
    return Performance(
        n=n,
        value=(base - lost + won) / n,
        base_value=base / n,
        drop=(lost - won) / n,
        drop_interval=paired_interval(lost, won, n) if trace.groups is None else grouped_interval(gap, trace.groups),
        cost=None if trace.costs is None else float(share @ trace.through),
        base_cost=trace.base_cost if trace.costs is not None else None,
        exit_ratio=tuple(share.tolist()),
        groups=None if trace.groups is None else len(np.unique(trace.groups)),
    )
