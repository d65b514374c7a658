"""Finer steps along a path of threshold vectors, for certificates.

Fixed-sequence testing goes as far as the first policy that fails. Between two policies that are far apart it would stop
at the nearer one; steps between them, fixed on the same samples as the path, let it go on.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pilotfish.plan.path import PolicyPath, threshold_path
from pilotfish.plan.trace import Trace

F64 = NDArray[np.float64]
STEP = 0.005  # share of the samples by which a threshold moves at most from one policy to the next
MOST = 400  # policies; each costs a pass over the samples


def densify(path: PolicyPath, trace: Trace) -> PolicyPath:
    """*path* with policies put between distant neighbours, each stage's threshold moving evenly in rank.

    trace  the samples that the path was fitted on. Paths of exit sets stay as they are.
    """
    if path.exit_sets is not None or len(path) < 2:
        return path
    values = [np.sort(v[~np.isnan(v)]) for v in trace.values]
    ranks = np.stack([_rank(v, path.thresholds[:, k]) for k, v in enumerate(values)], axis=1)
    steps = np.ceil(np.abs(np.diff(ranks, axis=0)).max(axis=1) / (STEP * len(trace))).astype(int)
    steps = np.maximum(steps, 1)
    if steps.sum() > MOST:
        steps = np.maximum(1, steps * MOST // steps.sum())
    rows = [path.thresholds[:1]]
    for i, count in enumerate(steps.tolist()):
        part = np.arange(1, count)[:, None] / count
        between = ranks[i] + part * (ranks[i + 1] - ranks[i])
        rows.append(np.stack([_value(v, between[:, k]) for k, v in enumerate(values)], axis=1))
        rows.append(path.thresholds[i + 1 : i + 2])
    at = None
    if path.at is not None:
        at = np.concatenate([path.at[:1], *(np.full(c, path.at[i + 1]) for i, c in enumerate(steps.tolist()))])
    return threshold_path(np.concatenate(rows), path.parameter, at)


def _rank(values: F64, thresholds: F64) -> F64:
    """How many values exit at each threshold."""
    return np.asarray(len(values) - np.searchsorted(values, thresholds, side="left"), np.float64)


def _value(values: F64, exits: F64) -> F64:
    """The threshold at which about so many exit; +inf for none."""
    count = np.floor(exits).astype(int)
    if not len(values):
        return np.full(len(count), np.inf)
    return np.where(count <= 0, np.inf, values[np.clip(len(values) - count, 0, len(values) - 1)])
