"""Policy paths: ordered families of policies from "exit nobody" on, and what they do to samples.

Every method of tuning makes one; measuring, choosing and certifying work on paths and do not know which method it was.
Who answers a sample is decided here alone, by :func:`parted`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pilotfish.cascade import ExitSets, decide_at, leaves
from pilotfish.plan.trace import Trace

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
STEP = 0.005  # share of the samples by which a threshold of a densified path moves at most
MOST = 400  # policies of a densified path; each costs a pass over the samples


@dataclass(frozen=True)
class PolicyPath:
    """P policies of K stages, the first of them "exit nobody".

    thresholds  float64 (P, K-1), in the scores' own units
    exit_sets   P exit sets where policies are no thresholds (``thresholds`` then holds their lowest bounds), else None
    parameter   what runs along the path (``threshold``, ``delta``, ``lambda``, ``q``, ``votes``, ``patience``)
    at          float64 (P,), its value at each policy; NaN for "exit nobody" where it has none
    begin       the policy that a certificate tests first after one that is certain
    """

    thresholds: F64
    exit_sets: tuple[ExitSets, ...] | None = None
    parameter: str = "threshold"
    at: F64 | None = None
    begin: int = 0

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


def parted(trace: Trace, policy: ExitSets) -> list[NDArray[np.bool_]]:
    """K masks bool (N,): whom each stage answers, those in its exit set that no stage before it has answered; the last
    stage answers the others."""
    left, parts = np.ones(len(trace), np.bool_), []
    for values, bounds in zip(trace.values, policy, strict=True):
        parts.append(left & leaves(values, bounds))
        left = left & ~parts[-1]
    return [*parts, left]


def route(trace: Trace, policy: ExitSets) -> I64:
    """int64 (N,): the stage that answers each sample."""
    answered_by = np.zeros(len(trace), np.int64)
    for k, part in enumerate(parted(trace, policy)):
        answered_by[part] = k
    return answered_by


def densify(path: PolicyPath, trace: Trace) -> PolicyPath:
    """*path* with policies put between distant neighbours, each stage's threshold moving evenly in rank.

    Fixed-sequence testing goes as far as the first policy that fails. Between two policies that are far apart it would
    stop at the nearer one; steps between them, fixed on the same samples as the path, let it go on.

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
    return np.asarray(len(values) - np.searchsorted(values, decide_at(thresholds), side="left"), np.float64)


def _value(values: F64, exits: F64) -> F64:
    """The threshold at which about so many exit; +inf for none."""
    count = np.floor(exits).astype(int)
    if not len(values):
        return np.full(len(count), np.inf)
    return np.where(count <= 0, np.inf, values[np.clip(len(values) - count, 0, len(values) - 1)])
