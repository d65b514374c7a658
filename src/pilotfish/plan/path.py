"""Policy paths: ordered families of policies from "exit nobody" on, and what they do to samples.

Every method of tuning makes one; measuring, choosing and certifying work on paths and do not know which method it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pilotfish.cascade import ExitSets, Frontier, leaves
from pilotfish.plan.trace import Trace

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


@dataclass(frozen=True)
class PolicyPath:
    """P policies of K stages, the first of them "exit nobody".

    thresholds  float64 (P, K-1), in the scores' own units
    exit_sets   P exit sets where policies are no thresholds (``thresholds`` then holds their lowest bounds), else None
    parameter   what runs along the path (``threshold``, ``delta``, ``lambda``, ``q``, ``votes``, ``patience``)
    at          float64 (P,), its value at each policy; NaN for "exit nobody" where it has none
    """

    thresholds: F64
    exit_sets: tuple[ExitSets, ...] | None = None
    parameter: str = "threshold"
    at: F64 | None = None

    def __len__(self) -> int:
        return len(self.thresholds)

    def take(self, rows: NDArray[np.intp]) -> PolicyPath:
        """Some of the policies, in the order given."""
        sets = None if self.exit_sets is None else tuple(self.exit_sets[i] for i in rows.tolist())
        return PolicyPath(self.thresholds[rows], sets, self.parameter, None if self.at is None else self.at[rows])

    def policy(self, i: int) -> ExitSets:
        """The exit sets of policy i."""
        if self.exit_sets is not None:
            return self.exit_sets[i]
        return tuple((float(t),) for t in self.thresholds[i])


def threshold_path(thresholds: F64, parameter: str = "threshold", at: F64 | None = None) -> PolicyPath:
    """A path of threshold vectors (P, K-1), with "exit nobody" put before them unless it is there."""
    nobody = np.full((1, thresholds.shape[1]), np.inf)
    if len(thresholds) and np.isposinf(thresholds[0]).all():
        return PolicyPath(thresholds, None, parameter, at)
    at = None if at is None else np.concatenate([[np.nan], at])
    return PolicyPath(np.concatenate([nobody, thresholds]), None, parameter, at)


def sets_path(sets: Sequence[ExitSets], stages: int, parameter: str, at: F64) -> PolicyPath:
    """A path of exit sets, with "exit nobody" put before them; thresholds where every set is one."""
    nobody: ExitSets = ((np.inf,),) * (stages - 1)
    everything = (nobody, *sets)
    thresholds = np.array([[bounds[0] for bounds in policy] for policy in everything], np.float64)
    plain = all(len(bounds) == 1 for policy in everything for bounds in policy)
    return PolicyPath(thresholds, None if plain else everything, parameter, np.concatenate([[np.nan], at]))


def route(trace: Trace, policy: ExitSets) -> I64:
    """int64 (N,): the stage that answers each sample, the first whose exit set holds its value, else the last."""
    answered_by = np.full(len(trace), trace.stages - 1, np.int64)
    for k in range(trace.stages - 2, -1, -1):
        answered_by[leaves(trace.values[k], policy[k])] = k
    return answered_by


def outcomes(trace: Trace, policy: ExitSets) -> tuple[I64, NDArray[np.int8]]:
    """(stage per sample, gap per sample): gap is 1 where only the base is right, -1 where only the cascade is."""
    answered_by = route(trace, policy)
    right = trace.quality[answered_by, np.arange(len(trace))]
    return answered_by, trace.base_quality.astype(np.int8) - right.astype(np.int8)


@dataclass(frozen=True)
class Counts:
    """Whole counts of P policies on n samples: answered (P, K), lost (P,) only the base right, won (P,) only the
    cascade right."""

    answered: I64
    lost: I64
    won: I64
    n: int


def count(trace: Trace, path: PolicyPath) -> Counts:
    """What each policy of a path does. Exact in whole counts; a pair's thresholds in one sort."""
    n, last = len(trace), trace.stages - 1
    if trace.stages == 2 and path.exit_sets is None:
        v, falling = trace.values[0], path.thresholds[:, 0]
        mixed = trace.quality[1].astype(np.int8)  # what answers those that stay
        base = trace.base_quality
        lost0, won0 = int((base & ~trace.quality[1]).sum()), int((trace.quality[1] & ~base).sum())
        lost = _steps(v, (base & ~trace.quality[0]).astype(np.int8) - (base & (mixed == 0)), falling)
        won = _steps(v, (trace.quality[0] & ~base).astype(np.int8) - ((mixed == 1) & ~base), falling)
        exited = _steps(v, np.ones(n, np.int8), falling)
        return Counts(np.stack([exited, n - exited], axis=1), lost0 + lost, won0 + won, n)
    answered = np.empty((len(path), last + 1), np.int64)
    lost, won = np.empty(len(path), np.int64), np.empty(len(path), np.int64)
    for i in range(len(path)):
        answered_by, gap = outcomes(trace, path.policy(i))
        answered[i] = np.bincount(answered_by, minlength=last + 1)
        lost[i], won[i] = (gap > 0).sum(), (gap < 0).sum()
    return Counts(answered, lost, won, n)


def measure(trace: Trace, path: PolicyPath) -> Frontier:
    """Accuracy, drop, cost and exit ratios of each policy of a path."""
    counts = count(trace, path)
    n = counts.n
    gap = counts.lost - counts.won
    return Frontier(
        thresholds=path.thresholds,
        exit_ratio=counts.answered / n,
        value=(int(trace.base_quality.sum()) - gap) / n,
        drop=gap / n,
        cost=None if trace.costs is None else counts.answered @ trace.through / n,
        exit_sets=path.exit_sets,
    )


def _steps(values: F64, change: NDArray[np.integer], thresholds: F64) -> I64:
    """int64 (P,): the sum of *change* over the samples with value >= each threshold."""
    order = np.argsort(values, kind="stable")
    known = len(values) - int(np.count_nonzero(np.isnan(values)))
    above = np.concatenate([[0], np.cumsum(change[order[:known]].astype(np.int64))])
    first = np.searchsorted(values[order[:known]], thresholds, side="left")
    return np.asarray(above[-1] - above[first], np.int64)
