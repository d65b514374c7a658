"""What policies do to samples whose records are known: who answers, and what the task's metric makes of it.

A mean (accuracy) is counted: right and wrong in whole numbers, other quality in sums. A ratio of sums is exact at every
threshold, from sums of the samples' states. A rank is asked for, policy by policy, or along the path where it can be.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.cascade import ExitSets, Frontier, Performance, decide_at, grouped_interval, paired_interval
from pilotfish.plan.path import PolicyPath, parted, route
from pilotfish.plan.trace import Trace, numbers
from pilotfish.tasks.task import Quality

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
BLOCKS = 100  # parts that a jackknife leaves out in turn


@dataclass(frozen=True)
class Counts:
    """What P policies do to n samples.

    answered  int64 (P, K), the samples that each stage answers
    lost      (P,), by how much the base is better, summed over the samples where it is; int64 of right and wrong, else
              float64
    won       (P,), the same where the cascade is better
    """

    answered: I64
    lost: NDArray[Any]
    won: NDArray[Any]
    n: int


def outcomes(trace: Trace, policy: ExitSets) -> tuple[I64, NDArray[Any]]:
    """(stage per sample, gap per sample): the base's quality minus the cascade's; of right and wrong int8, 1 where only
    the base is right, -1 where only the cascade is."""
    answered_by = route(trace, policy)
    return answered_by, _gap(trace, trace.quality[answered_by, np.arange(len(trace))])


def count(trace: Trace, path: PolicyPath) -> Counts:
    """What each policy of a path does. Exact in whole counts; a pair's thresholds in one sort."""
    n, stages = len(trace), trace.stages
    if stages == 2 and path.exit_sets is None:
        exits, stays = (_gap(trace, quality) for quality in trace.quality)
        change = np.stack([exits.clip(0) - stays.clip(0), (-exits).clip(0) - (-stays).clip(0)], axis=1)
        exited, (lost, won) = _steps(trace.values[0], change, path.thresholds[:, 0])
        lost, won = stays.clip(0).sum() + lost, (-stays).clip(0).sum() + won
        return Counts(np.stack([exited, n - exited], axis=1), lost, won, n)
    gaps = [_gap(trace, quality) for quality in trace.quality]
    losses, gains = [gap.clip(0) for gap in gaps], [(-gap).clip(0) for gap in gaps]
    answered = np.empty((len(path), stages), np.int64)
    lost, won = (np.empty(len(path), np.float64 if gaps[0].dtype.kind == "f" else np.int64) for _ in range(2))
    for i in range(len(path)):
        parts = parted(trace, path.policy(i))
        answered[i] = [np.count_nonzero(part) for part in parts]
        lost[i] = sum(_within(part, loss) for part, loss in zip(parts, losses, strict=True))
        won[i] = sum(_within(part, gain) for part, gain in zip(parts, gains, strict=True))
    return Counts(answered, lost, won, n)


def measure(trace: Trace, path: PolicyPath) -> Frontier:
    """The metric's value, the drop, cost and exit ratios of each policy of a path."""
    counts, n = count(trace, path), len(trace)
    if trace.metric.kind == "mean":
        gap = counts.lost - counts.won
        value, drop = (trace.base_quality.sum() - gap) / n, gap / n
    else:
        value = _values(trace, path)
        drop = _base_value(trace) - value
    return Frontier(
        thresholds=path.thresholds,
        exit_ratio=counts.answered / n,
        value=value,
        drop=drop,
        cost=None if trace.costs is None else counts.answered @ trace.through / n,
        exit_sets=path.exit_sets,
        metric=trace.metric.name,
    )


def evaluate(trace: Trace, policy: ExitSets) -> Performance:
    """The metric's value, the drop with its 95 % interval, cost and exit ratios of one policy.

    The interval goes by groups where there are some. Of right and wrong it is Agresti and Min's for paired outcomes, of
    other means Student's of the gaps (see :func:`pilotfish.cascade.grouped_interval`), else a jackknife's.
    """
    n = len(trace)
    answered_by, gap = outcomes(trace, policy)
    share = np.bincount(answered_by, minlength=trace.stages) / n
    if trace.metric.kind == "mean":
        lost, won, base = gap.clip(0).sum().item(), (-gap).clip(0).sum().item(), trace.base_quality.sum().item()
        value, base_value, drop = (base - lost + won) / n, base / n, (lost - won) / n
        if trace.groups is None and gap.dtype.kind != "f":
            interval = paired_interval(lost, won, n)
        else:
            interval = grouped_interval(gap, np.arange(n) if trace.groups is None else trace.groups)
    else:
        value, base_value = _value(trace, answered_by), _base_value(trace)
        drop = base_value - value
        interval = _jackknife(trace, answered_by, drop)
    return Performance(
        n=n,
        value=value,
        base_value=base_value,
        drop=drop,
        drop_interval=interval,
        cost=None if trace.costs is None else float(share @ trace.through),
        base_cost=trace.base_cost if trace.costs is not None else None,
        exit_ratio=tuple(share.tolist()),
        groups=None if trace.groups is None else len(np.unique(trace.groups)),
        metric=trace.metric.name,
        asymptotic=trace.metric.kind != "mean",
    )


def _within(part: NDArray[np.bool_], amounts: NDArray[Any]) -> float:
    """The sum of *amounts* over a part of the samples; those of right and wrong are 0 and 1."""
    if amounts.dtype == np.int8:
        return int(np.count_nonzero(part & amounts.view(np.bool_)))
    return float(amounts[part].sum())


def _gap(trace: Trace, quality: Quality) -> NDArray[Any]:
    return np.asarray(numbers(trace.base_quality) - numbers(quality))


def _steps(values: F64, change: NDArray[Any], thresholds: F64) -> tuple[I64, NDArray[Any]]:
    """(int64 (P,), how many leave by each threshold; (S, P), the sums of *change* (N, S) over them)."""
    order = np.argsort(values, kind="stable")  # NaN last, above every number
    known = len(values) - int(np.count_nonzero(np.isnan(values)))
    kind = np.float64 if change.dtype.kind == "f" else np.int64
    below = np.zeros((known + 1, change.shape[1]), kind)
    np.cumsum(change[order[:known]], axis=0, out=below[1:], dtype=kind)
    first = np.searchsorted(values[order[:known]], decide_at(thresholds), side="left")
    return known - first, (below[-1] - below[first]).T


def _values(trace: Trace, path: PolicyPath) -> F64:
    """float64 (P,): the ratio or rank of each policy."""
    if trace.metric.kind == "ratio" and trace.stages == 2 and path.exit_sets is None:
        exits, stays = trace.states
        _, moved = _steps(trace.values[0], exits - stays, path.thresholds[:, 0])
        return np.asarray(_called(trace)(stays.sum(axis=0) + moved.T), np.float64)
    routings = (route(trace, path.policy(i)) for i in range(len(path)))
    if trace.metric.along is not None:
        return np.asarray(trace.metric.along(trace.states, routings), np.float64)
    return np.array([_value(trace, answered_by) for answered_by in routings])


def _value(trace: Trace, answered_by: I64) -> float:
    """The ratio or rank where each sample is answered by one of the stages."""
    if trace.metric.kind == "ratio":
        sums = [states[answered_by == k].sum(axis=0) for k, states in enumerate(trace.states)]
        return float(_called(trace)(np.sum(sums, axis=0)))
    return float(_called(trace)(trace.states, answered_by))


def _base_value(trace: Trace) -> float:
    if trace.metric.kind == "ratio":
        return float(_called(trace)(trace.base_states.sum(axis=0)))
    return float(_called(trace)((trace.base_states,), np.zeros(len(trace), np.int64)))


def _called(trace: Trace) -> Any:
    assert trace.metric.value is not None
    return trace.metric.value


@dataclass(frozen=True)
class Blocks:
    """The parts of a trace that a jackknife leaves out in turn, groups whole.

    trace  all samples
    block  int64 (N,), the part of each
    rests  the trace without each part; a ratio needs sums alone and has none, nor has a rank that can leave samples out
    """

    trace: Trace
    block: I64
    count: int
    rests: tuple[Trace, ...] = ()

    def replicates(self, answered_by: I64 | None) -> F64:
        """float64 (count,): the ratio or rank without each part, where each sample is answered by one of the stages;
        None: by the base alone."""
        if self.trace.metric.along is not None:
            states, who = self.trace.states, answered_by
            if who is None:
                states, who = (self.trace.base_states,), np.zeros(len(self.trace), np.int64)
            routings = (np.where(self.block == part, -1, who) for part in range(self.count))
            return np.asarray(self.trace.metric.along(states, routings), np.float64)
        if self.trace.metric.kind == "rank":
            return np.array([self._rank(b, rest, answered_by) for b, rest in enumerate(self.rests)])
        states = self.trace.base_states
        if answered_by is not None:
            states = np.zeros_like(states)
            for k, own in enumerate(self.trace.states):
                states[answered_by == k] = own[answered_by == k]
        order = np.argsort(self.block, kind="stable")
        sums = np.add.reduceat(states[order], np.searchsorted(self.block[order], np.arange(self.count)), axis=0)
        return np.asarray(_called(self.trace)(sums.sum(axis=0) - sums), np.float64)

    def _rank(self, block: int, rest: Trace, answered_by: I64 | None) -> float:
        return _base_value(rest) if answered_by is None else _value(rest, answered_by[self.block != block])


def blocks_of(trace: Trace, count: int = BLOCKS) -> Blocks:
    """*count* random parts of the samples; as many as there are samples or groups where these are fewer."""
    unit = np.arange(len(trace)) if trace.groups is None else np.unique(trace.groups, return_inverse=True)[1]
    units = int(unit.max()) + 1
    count = min(count, units)
    block = np.random.default_rng(0).permutation(units)[unit] % count
    ranked = range(count if trace.metric.kind == "rank" and trace.metric.along is None else 0)
    return Blocks(trace, block, count, tuple(trace.take(np.flatnonzero(block != one)) for one in ranked))


def _jackknife(trace: Trace, answered_by: I64, drop: float) -> tuple[float, float]:
    """95 % interval of the drop, by leaving out one of 100 parts of the samples at a time, groups whole. Asymptotic."""
    from scipy.special import stdtrit

    parts = blocks_of(trace)
    if parts.count < 2:
        return -1.0, 1.0
    drops = parts.replicates(None) - parts.replicates(answered_by)
    half = float(stdtrit(parts.count - 1, 0.975)) * math.sqrt((parts.count - 1) * float(drops.var()))
    return max(-1.0, drop - half), min(1.0, drop + half)
