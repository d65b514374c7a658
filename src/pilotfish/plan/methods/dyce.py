"""DyCE's search of thresholds: for each weight lambda, minimise lambda (1 - A) + (1 - lambda) M.

A and M are accuracy and cost, each 0 at "all leave at the first exit" and 1 at the base (config_search.py of the
released code). One pass sets the thresholds front to back with later exits off; iterative applies the single best
change until none helps. The released code searches each threshold with bounded Brent, which misses optima of a step
function; here each is an exact sweep over all distinct scores. "Off" is a threshold of +inf: the stage is still paid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pilotfish.cascade import Budget, leaves
from pilotfish.plan.path import PolicyPath, threshold_path
from pilotfish.plan.sweep import sorted_groups
from pilotfish.plan.trace import Trace

F64 = NDArray[np.float64]
WEIGHTS = np.concatenate([np.arange(100) / 100, 1 - np.geomspace(0.009, 1e-4, 12), [1.0]])
MOST_ROUNDS = 1000
RELATIVE = 1e-10


@dataclass(frozen=True)
class DyceOptions:
    """search: ``one_pass`` or ``iterative``."""

    search: Literal["one_pass", "iterative"] = "iterative"


@dataclass(frozen=True)
class _Search:
    """trace; groups: order and tie ends of each stage's values, sorted once; loss (K, N): what a sample adds to the
    objective when it leaves at each stage."""

    trace: Trace
    groups: list[tuple[NDArray[np.intp], NDArray[np.bool_]]]
    loss: F64


def dyce_path(trace: Trace, budget: Budget, options: DyceOptions) -> PolicyPath:
    """One policy per lambda, those of largest cost first."""
    groups = [sorted_groups(values) for values in trace.values]
    found: dict[tuple[float, ...], float] = {}
    for weight in WEIGHTS.tolist():
        search = _Search(trace, groups, _losses(trace, weight))
        thresholds = _one_pass(search) if options.search == "one_pass" else _iterative(search)
        found.setdefault(tuple(thresholds.tolist()), weight)
    thresholds = np.array(list(found))
    costs = np.array([_spent(trace, row) for row in thresholds])
    order = np.argsort(-costs, kind="stable")
    return threshold_path(thresholds[order], "lambda", np.array(list(found.values()))[order])


def _losses(trace: Trace, weight: float) -> F64:
    """(K, N): the objective per sample and stage, lambda (1 - A) + (1 - lambda) M up to constants."""
    right, through = trace.quality.astype(np.float64), trace.through
    accuracy = max(float(right[-1].mean() - right[0].mean()), 1 / len(trace))
    spent = max(float(through[-1] - through[0]), np.finfo(float).tiny)
    return weight * (1 - right) / accuracy + (1 - weight) * (through / spent)[:, None]


def _one_pass(search: _Search) -> F64:
    thresholds = np.full(search.trace.stages - 1, np.inf)
    stays = search.loss[-1]  # later exits are off
    here = np.ones(len(search.trace), bool)
    for k in range(len(thresholds)):
        thresholds[k], _ = _best(search, k, here, stays)
        here &= ~leaves(search.trace.values[k], thresholds[k : k + 1])
    return thresholds


def _iterative(search: _Search) -> F64:
    trace = search.trace
    thresholds = np.full(trace.stages - 1, np.inf)
    for _ in range(MOST_ROUNDS):
        # loss of a sample that reaches stage k, under the thresholds from k on
        onward = np.empty((trace.stages, len(trace)))
        onward[-1] = search.loss[-1]
        for k in range(trace.stages - 2, -1, -1):
            onward[k] = np.where(leaves(trace.values[k], thresholds[k : k + 1]), search.loss[k], onward[k + 1])
        here, changes = np.ones(len(trace), bool), []
        for k in range(len(thresholds)):
            t, total = _best(search, k, here, onward[k + 1])
            changes.append((total - float(onward[k][here].sum()), k, t))
            here = here & ~leaves(trace.values[k], thresholds[k : k + 1])
        gain, k, t = min(changes)
        if gain >= -RELATIVE * abs(float(onward[0].sum())):  # what is left is rounding
            break
        thresholds[k] = t
    return thresholds


def _best(search: _Search, k: int, here: NDArray[np.bool_], stays: F64) -> tuple[float, float]:
    """(threshold of stage k, total loss of the samples that reach it) when those that stay lose *stays*."""
    order, ends = search.groups[k]
    change = np.where(here, search.loss[k] - stays, 0.0)[order]
    total = np.cumsum(change)[ends]
    off = float(stays[here].sum())
    if not len(total) or total.min() >= -1e-12:
        return np.inf, off
    i = int(total.argmin())
    return float(search.trace.values[k][order[ends][i]]), off + float(total[i])


def _spent(trace: Trace, thresholds: F64) -> float:
    reach, total = np.ones(len(trace), bool), 0.0
    for k, t in enumerate(thresholds):
        exits = reach & leaves(trace.values[k], [t])
        total += exits.sum() * trace.through[k]
        reach &= ~exits
    return float(total + reach.sum() * trace.through[-1])
