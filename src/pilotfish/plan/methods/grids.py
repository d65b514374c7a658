"""Paths that are laid out beforehand, or by counting alone.

grid50           Little-Big: T = k/50, k = 0 … 49
first_violation  TinySaver's released code: t = 1.000, 0.999, … with score > t, stopped at the first t that breaks the
                 budget, and that t is used. On small sets it is a noisy event of the tail
msdnet           MSDNet's budgeted thresholds (Huang et al., ICLR 2018): with q_k proportional to z^k, k = 1 … K, the
                 n_k = floor(q_k n) most confident of the samples still there leave at exit k (n of all of them;
                 released code: z = p / 20, p = 1 … 39). The path runs over z from late exits to early ones
patience         how many times in a row the prediction must have stayed the same (PABEE)
agreement        the share of the savers that must give one answer
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pilotfish.cascade import Budget, just_above, leaves
from pilotfish.cascade.budget import SLACK
from pilotfish.errors import UsageError
from pilotfish.plan.evaluate import measure
from pilotfish.plan.methods.options import NoOptions
from pilotfish.plan.path import PolicyPath, threshold_path
from pilotfish.plan.trace import Trace
from pilotfish.scores import from_shown, to_shown

F64 = NDArray[np.float64]
RATIOS = np.unique(np.concatenate([np.arange(1, 40) / 20, np.geomspace(1e-3, 1e3, 121)]))[::-1]


def grid50_path(trace: Trace, budget: Budget, options: NoOptions) -> PolicyPath:
    """T = k/50: 0.98, 0.96, … 0. UsageError for scores that are no probabilities."""
    _check_shares(trace, "grid50")
    return threshold_path(from_shown(trace.scales[0], np.arange(49, -1, -1) / 50)[:, None])


def first_violation_path(trace: Trace, budget: Budget, options: NoOptions) -> PolicyPath:
    """The scan down to and including the first threshold that loses more than the budget's drop, 0 without one.
    UsageError for scores that are no probabilities."""
    _check_shares(trace, "first_violation")
    drop = budget.value if budget.kind == "max_drop" else 0.0
    grid = from_shown(trace.scales[0], np.arange(1000, 0, -1) / 1000)
    path = threshold_path(just_above(grid)[:, None])  # score > t
    broken = np.flatnonzero(measure(trace, path).drop > drop + SLACK)
    return path.take(np.arange(int(broken[0]) + 1)) if len(broken) else path


def _check_shares(trace: Trace, method: str) -> None:
    """UsageError where the scores, as people read them, are not from 0 to 1: the grid then cuts nothing."""
    shown = to_shown(trace.scales[0], trace.values[0][~np.isnan(trace.values[0])])
    if len(shown) and (shown.min() < 0 or shown.max() > 1):
        whose = f" of {trace.names[0]}" if trace.names else ""
        raise UsageError(
            f"method {method} tries thresholds from 0 to 1, and the scores{whose} are no probabilities: they go from "
            f"{shown.min():.4g} to {shown.max():.4g}; use method sweep, which tries every score"
        )


def msdnet_path(trace: Trace, budget: Budget, options: NoOptions) -> PolicyPath:
    """One policy per ratio z, falling."""
    thresholds = np.array([geometric_thresholds(trace, float(z)) for z in RATIOS])
    _, first = np.unique(thresholds, axis=0, return_index=True)
    rows = np.sort(first)
    return threshold_path(thresholds[rows], "q", RATIOS[rows])


def geometric_thresholds(trace: Trace, z: float) -> F64:
    """float64 (K-1,): the thresholds for one ratio z."""
    n, stages = len(trace), trace.stages
    log_q = np.arange(1, stages + 1) * np.log(z)
    q = np.exp(log_q - np.logaddexp.reduce(log_q))
    thresholds = np.full(stages - 1, np.inf)
    left = np.ones(n, bool)
    for k in range(stages - 1):
        wanted = int(np.floor(q[k] * n))
        values = trace.values[k][left]
        values = np.sort(values[~np.isnan(values)])
        if 0 < wanted <= len(values):
            thresholds[k] = values[-wanted]
        elif wanted and len(values):
            thresholds[k] = values[0]
        left &= ~leaves(trace.values[k], thresholds[k : k + 1])
    return thresholds


def patience_path(trace: Trace, budget: Budget, options: NoOptions) -> PolicyPath:
    """Patience K-2, …, 1, 0."""
    if trace.stages < 3:
        raise UsageError("patience counts predictions that agree in a row; it needs at least three stages, found two")
    patience = np.arange(trace.stages - 2, -1, -1, dtype=np.float64)
    return threshold_path(np.repeat(patience[:, None], trace.stages - 1, axis=1), "patience", patience)


def agreement_path(trace: Trace, budget: Budget, options: NoOptions) -> PolicyPath:
    """Shares m/m, …, 2/m of the m savers; then 1/m: the plurality, always."""
    savers = trace.stages - 1
    if savers < 2:
        raise UsageError("agreement is a vote of savers before the base; it needs at least two savers, found one")
    share = np.arange(savers, 0, -1) / savers
    thresholds = np.full((savers, savers), np.inf)
    thresholds[:, -1] = share
    return threshold_path(thresholds, "votes", share)
