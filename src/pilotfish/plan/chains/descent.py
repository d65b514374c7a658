"""Thresholds of K stages by coordinate descent: one threshold at a time, each step exact."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pilotfish.cascade import Budget, decide_at
from pilotfish.plan.chains.cuts import Ranking, ranking
from pilotfish.plan.chains.exact import exact_three
from pilotfish.plan.chains.point import ChainPoint, mean_cost, measure, required, total
from pilotfish.plan.sweep import Mask
from pilotfish.plan.trace import Trace, numbers

ROUNDS = 50
PRICES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)  # of a lost answer, in costs of the last stage
SHARES = (0.2, 0.4, 0.6, 0.8)  # of the samples that reach a stage and leave there

Start = Sequence[float]


def best_chain(trace: Trace, budget: Budget, starts: Sequence[Start] = ()) -> ChainPoint:
    """The best thresholds that were found for a chain of K stages; for K = 2 and 3 the best of all.

    budget  a drop or a cost, against the last stage
    starts  further thresholds (K-1) to start from, of a shorter chain with +inf for the new stage, say: the result
            is at least as good as each of them

    BudgetError, with the best that was found, when none keeps to the budget.
    """
    return required(solve(trace, budget, [ranking(score) for score in trace.values], starts), budget)


def solve(trace: Trace, budget: Budget, ranked: Sequence[Ranking], starts: Sequence[Start] = ()) -> ChainPoint:
    """:func:`best_chain` of sorted scores; the least violation where the budget cannot be met."""
    nobody = (np.inf,) * (trace.stages - 1)
    if trace.stages == 2:
        return descend(trace, budget, nobody, ranked)
    if trace.stages == 3:
        return exact_three(trace, budget, ranked)
    tried = [nobody, *starts, *_geometric(trace, ranked), *_priced(trace, ranked)]
    found = (descend(trace, budget, start, ranked) for start in dict.fromkeys(map(tuple, tried)))
    return min(found, key=lambda point: point.place(budget))


def descend(trace: Trace, budget: Budget, start: Start, ranked: Sequence[Ranking] | None = None) -> ChainPoint:
    """From the thresholds *start*, set one threshold at a time to its best given the others, until none changes.

    Never worse than *start*. The budget may also be a price per lost answer; *ranked*: the scores where they are
    sorted already.
    """
    ranked = [ranking(score) for score in trace.values] if ranked is None else ranked
    thresholds = np.array(start, np.float64)
    passes = trace.values >= decide_at(thresholds)[:, None]
    rank, unchanged, stage = measure(trace, start).place(budget), 0, 0
    for _ in range(ROUNDS * len(thresholds)):
        cut, gain, cost = _best_cut(trace, budget, ranked[stage], passes, stage)
        found = budget.rank(gain, cost, len(trace))
        unchanged += 1
        if found < rank:
            rank, unchanged = found, 0
            thresholds[stage] = ranked[stage].thresholds[cut]
            passes[stage] = trace.values[stage] >= decide_at(thresholds[stage])
        if unchanged >= len(thresholds):
            break
        stage = (stage + 1) % len(thresholds)
    return measure(trace, thresholds.tolist())


def _best_cut(trace: Trace, budget: Budget, ranked: Ranking, passes: Mask, stage: int) -> tuple[int, float, float]:
    """Index of the best of a stage's distinct thresholds, the others fixed, with its gain and mean cost."""
    last, n = trace.stages - 1, len(trace)
    earlier, later = passes[:stage], passes[stage + 1 :]
    reaching: Mask = np.asarray(~earlier.any(axis=0))
    after = np.full(n, last, np.int8)  # who answers what reaches this stage and is not answered here
    for offset in range(len(later) - 1, -1, -1):
        after[later[offset]] = stage + 1 + offset
    rows = ranked.order[reaching[ranked.order]]
    ends = np.concatenate([[0], np.cumsum(reaching[ranked.order])])[ranked.ends]
    after_it = trace.quality[after, np.arange(n)]
    change = numbers(trace.quality[stage]) - numbers(after_it)
    gain = _running(change[rows])[ends] + _fixed_gain(trace, earlier, reaching, after_it)
    reached: list[ArrayLike] = [n - int(np.count_nonzero(earlier[:k].any(axis=0))) for k in range(stage + 1)]
    for k in range(stage + 1, trace.stages):
        goes_on = after >= k
        reached.append(int(np.count_nonzero(goes_on & reaching)) - _running(goes_on[rows])[ends])
    cost = np.broadcast_to(mean_cost(trace, reached), gain.shape)
    at = budget.best(gain, cost, n)
    return at, gain[at].item(), float(cost[at])


def _running(values: NDArray[Any]) -> NDArray[Any]:
    """Sums of the first 0, 1, … values: int64 of whole numbers, else float64."""
    summed = np.zeros(len(values) + 1, np.result_type(values.dtype, np.int64))
    np.cumsum(values, out=summed[1:])
    return summed


def _fixed_gain(trace: Trace, earlier: Mask, reaching: Mask, after_it: NDArray[Any]) -> float:
    """What the chain is better by than its last stage when this stage answers nobody."""
    gain = total(after_it, reaching) - total(trace.quality[-1])
    left = np.ones(len(trace), np.bool_)
    for stage, passed in enumerate(earlier):
        gain += total(trace.quality[stage], passed & left)
        left &= ~passed
    return gain


def _geometric(trace: Trace, ranked: Sequence[Ranking]) -> Iterator[tuple[float, ...]]:
    """Each stage answers the same share of what reaches it (MSDNet's geometric budget)."""
    for share in SHARES:
        left = np.ones(len(trace), np.bool_)
        thresholds = []
        for score, rank in zip(trace.values, ranked, strict=True):
            rows = rank.order[left[rank.order]]
            wanted = int(share * np.count_nonzero(left))
            t = float(score[rows[wanted - 1]]) if 0 < wanted <= len(rows) else np.inf
            thresholds.append(t)
            left &= ~(score >= decide_at(t))
        yield tuple(thresholds)


def _priced(trace: Trace, ranked: Sequence[Ranking]) -> Iterator[tuple[float, ...]]:
    """Without a limit, at several prices of a lost answer: the stages share the loss as pays best."""
    start: tuple[float, ...] = (np.inf,) * (trace.stages - 1)
    for price in PRICES[::-1]:
        start = descend(trace, Budget("price", price * trace.added[-1]), start, ranked).thresholds
        yield start
