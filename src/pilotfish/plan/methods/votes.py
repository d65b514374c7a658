"""Paths of rules that compare counts: patience (PABEE) and agreement (a vote of savers)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pilotfish.cascade import Budget
from pilotfish.errors import UsageError
from pilotfish.plan.path import PolicyPath, threshold_path
from pilotfish.plan.trace import Trace


@dataclass(frozen=True)
class NoOptions:
    """It has none."""


def patience_path(trace: Trace, budget: Budget, options: NoOptions) -> PolicyPath:
    """Patience K-2, …, 1, 0: how many times in a row the prediction must have stayed the same."""
    if trace.stages < 3:
        raise UsageError("patience counts predictions that agree in a row; it needs at least three stages, found two")
    patience = np.arange(trace.stages - 2, -1, -1, dtype=np.float64)
    return threshold_path(np.repeat(patience[:, None], trace.stages - 1, axis=1), "patience", patience)


def agreement_path(trace: Trace, budget: Budget, options: NoOptions) -> PolicyPath:
    """Shares m/m, …, 2/m of the m savers that must give one answer; then 1/m: the plurality, always."""
    savers = trace.stages - 1
    if savers < 2:
        raise UsageError("agreement is a vote of savers before the base; it needs at least two savers, found one")
    share = np.arange(savers, 0, -1) / savers
    thresholds = np.full((savers, savers), np.inf)
    thresholds[:, -1] = share
    return threshold_path(thresholds, "votes", share)
