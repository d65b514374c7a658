"""The exact sweep: every distinct threshold of a pair; of three stages the best pair of thresholds; beyond, descent.

For a pair this is TinySaver's Eq. 6-7 and Little-Big's T*. For more stages the path is the frontier of a 100 x 100
quantile grid (three) or of coordinate descent at many prices (four and more), and the best thresholds for the budget
that was asked for, exact for three stages.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.cascade import Budget
from pilotfish.errors import BudgetError
from pilotfish.plan.chains import best_chain, frontier_three
from pilotfish.plan.evaluate import measure
from pilotfish.plan.methods.dyce import DyceOptions, dyce_path
from pilotfish.plan.path import PolicyPath, threshold_path
from pilotfish.plan.sweep import sweep
from pilotfish.plan.trace import Trace

F64 = NDArray[np.float64]


def sweep_path(trace: Trace, budget: Budget, options: Any) -> PolicyPath:
    """From "exit nobody" on, in falling cost."""
    if trace.stages == 2:
        pair = sweep(trace.values[0], trace.quality[0], trace.quality[1])
        return threshold_path(pair.thresholds[:, None])
    costs = _added(trace)
    if trace.stages == 3:
        found = frontier_three(trace.values[0], trace.values[1], trace.quality, costs)
    else:
        found = dyce_path(trace, budget, DyceOptions()).thresholds
    best = _best(trace, costs, budget)
    if best is not None:
        found = np.concatenate([found, best[None]])
    path = threshold_path(found)
    effort = measure(trace, path).effort
    return path.take(np.concatenate([[0], 1 + np.argsort(-effort[1:], kind="stable")]))


def _best(trace: Trace, costs: tuple[float, ...], budget: Budget) -> F64 | None:
    """The thresholds that serve the budget best; None when none meets it (the frontier's error then says so)."""
    try:
        if budget.kind == "max_cost":
            return np.array(best_chain(trace.values, trace.quality, costs, max_cost=budget.value).thresholds)
        base = int(trace.base_quality.sum())
        drop = budget.value if budget.kind == "max_drop" else base / len(trace) - budget.value
        mixed = (int(trace.quality[-1].sum()) - base) / len(trace)  # the last stage's answer may not be the base's
        allowed = float(np.clip(drop + mixed, -1, 1))
        return np.array(best_chain(trace.values, trace.quality, costs, max_drop=allowed).thresholds)
    except BudgetError:
        return None


def _added(trace: Trace) -> tuple[float, ...]:
    return trace.costs if trace.costs is not None else (*(0.0,) * (trace.stages - 1), 1.0)
