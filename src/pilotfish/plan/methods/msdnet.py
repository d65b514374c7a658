"""MSDNet's budgeted thresholds (Huang et al., ICLR 2018): a geometric share of the samples leaves at each exit.

With q_k proportional to z^k, k = 1 … K, the n_k = floor(q_k n) most confident of the samples still there leave at exit
k (n of all of them; released code: z = p / 20, p = 1 … 39). The path runs over z from late exits to early ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pilotfish.cascade import Budget
from pilotfish.plan.path import PolicyPath, threshold_path
from pilotfish.plan.trace import Trace

F64 = NDArray[np.float64]
RATIOS = np.unique(np.concatenate([np.arange(1, 40) / 20, np.geomspace(1e-3, 1e3, 121)]))[::-1]


@dataclass(frozen=True)
class MsdnetOptions:
    """It has none."""


def msdnet_path(trace: Trace, budget: Budget, options: MsdnetOptions) -> PolicyPath:
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
        left &= ~(trace.values[k] >= thresholds[k])
    return thresholds
