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
from pilotfish.plan.chains.point import total
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
    if trace.stages == 3:
        found = frontier_three(trace)
    else:
        found = dyce_path(trace, budget, DyceOptions()).thresholds
    best = _best(trace, budget)
    if best is not None:
        found = np.concatenate([found, best[None]])
    path = threshold_path(found)
    effort = measure(trace, path).effort
    return path.take(np.concatenate([[0], 1 + np.argsort(-effort[1:], kind="stable")]))


def _best(trace: Trace, budget: Budget) -> F64 | None:
    """The thresholds that serve the budget best; None when none meets it (the frontier's error then says so)."""
    if budget.kind != "max_cost":
        base, last = total(trace.base_quality), total(trace.quality[-1])  # the last answer may not be the base's
        drop = budget.value if budget.kind == "max_drop" else base / len(trace) - budget.value
        budget = Budget("max_drop", float(np.clip(drop + (last - base) / len(trace), -1, 1)))
    try:
        return np.array(best_chain(trace, budget).thresholds)
    except BudgetError:
        return None
