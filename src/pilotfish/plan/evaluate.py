"""What a vector of thresholds does to samples whose records are known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pilotfish.cascade.performance import Performance, paired_interval
from pilotfish.records import Table

F64 = NDArray[np.float64]
Rows = NDArray[np.intp]


def route(scores: Sequence[F64], thresholds: Sequence[float]) -> NDArray[np.int64]:
    """int64 (N,): the stage that answers each sample, the first whose score >= its threshold, else the last.

    scores  K-1 arrays (N,), one per stage but the last
    """
    passes = np.stack([s >= t for s, t in zip(scores, thresholds, strict=True)])
    return np.where(passes.any(axis=0), passes.argmax(axis=0), len(passes)).astype(np.int64)


def evaluate(
    table: Table,
    stages: Sequence[str],
    answered_by: NDArray[np.int64],
    rows: Rows,
    cost_key: str | None,
) -> Performance:
    """Accuracy, drop with its interval, cost and exit ratios of a routing on some rows of a table.

    answered_by  int64 (len(rows),), the stage index per row
    """
    n = len(rows)
    right = np.stack([table.correct(name)[rows] for name in stages])
    cascade_right, base_right = right[answered_by, np.arange(n)], right[-1]
    lost = int((base_right & ~cascade_right).sum())
    won = int((cascade_right & ~base_right).sum())
    share = np.bincount(answered_by, minlength=len(stages)) / n
    costs = stage_costs(table, stages, cost_key)
    reached = 1.0 - np.concatenate([[0.0], np.cumsum(share)[:-1]])
    return Performance(
        n=n,
        accuracy=float(cascade_right.mean()),
        base_accuracy=float(base_right.mean()),
        drop=(lost - won) / n,
        drop_interval=paired_interval(lost, won, n),
        cost=None if costs is None else float(reached @ np.array(costs)),
        base_cost=None if costs is None else costs[-1],
        exit_ratio=tuple(share.tolist()),
    )


def stage_costs(table: Table, stages: Sequence[str], cost_key: str | None) -> list[float] | None:
    """Cost of each stage by *cost_key*, or None when a stage does not have it."""
    if cost_key is None:
        return None
    found = [table.meta[name].costs.get(cost_key) for name in stages]
    known = [cost for cost in found if cost is not None]
    return known if len(known) == len(stages) else None
