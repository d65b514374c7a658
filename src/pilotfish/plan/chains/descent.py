"""Thresholds of K stages by coordinate descent: one threshold at a time, each step exact."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pilotfish.plan.chains.cuts import Ranking, ranking
from pilotfish.plan.chains.exact import exact_three
from pilotfish.plan.chains.goal import F64, I64, Goal, make_goal
from pilotfish.plan.chains.point import Chain, ChainPoint, Mask, make_chain, mean_cost, measure_chain, required

ROUNDS = 50
PRICES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)  # of a lost answer, in costs of the last stage
SHARES = (0.2, 0.4, 0.6, 0.8)  # of the samples that reach a stage and leave there

Start = Sequence[float]


def best_chain(
    scores: Sequence[ArrayLike] | F64,
    right: ArrayLike,
    costs: Sequence[float],
    max_drop: float | None = None,
    max_cost: float | None = None,
    starts: Sequence[Start] = (),
) -> ChainPoint:
    """The best thresholds that were found for a chain of K stages; for K = 2 and 3 the best of all.

    scores    float64 (K-1, N); right bool (K, N); costs K marginal costs
    max_drop  least cost with drop <= max_drop; or max_cost: smallest drop with mean cost <= max_cost
    starts    further thresholds (K-1) to start from, of a shorter chain with +inf for the new stage, say: the result
              is at least as good as each of them

    BudgetError, with the best that was found, when none keeps to the budget.
    """
    chain = make_chain(scores, right, costs)
    goal = make_goal(chain.n, max_drop, max_cost)
    return required(solve(chain, goal, [ranking(score) for score in chain.scores], starts), goal)


def solve(chain: Chain, goal: Goal, ranked: Sequence[Ranking], starts: Sequence[Start] = ()) -> ChainPoint:
    """:func:`best_chain` of checked arrays and sorted scores; the least violation where the goal cannot be met."""
    nobody = (np.inf,) * (chain.stages - 1)
    if chain.stages == 2:
        return descend_from(chain, goal, ranked, nobody)
    if chain.stages == 3:
        return exact_three(chain, goal, ranked)
    tried = [nobody, *starts, *_geometric(chain, ranked), *_priced(chain, ranked)]
    found = (descend_from(chain, goal, ranked, start) for start in dict.fromkeys(map(tuple, tried)))
    return min(found, key=lambda point: goal.rank(point.gain, point.cost))


def descend(
    scores: Sequence[ArrayLike] | F64,
    right: ArrayLike,
    costs: Sequence[float],
    goal: Goal,
    start: Start,
) -> ChainPoint:
    """From the thresholds *start*, set one threshold at a time to its best given the others, until none changes.

    Never worse than *start*. Arrays as in :func:`best_chain`; *goal* may also be a price per lost answer.
    """
    chain = make_chain(scores, right, costs)
    return descend_from(chain, goal, [ranking(score) for score in chain.scores], start)


def descend_from(chain: Chain, goal: Goal, ranked: Sequence[Ranking], start: Start) -> ChainPoint:
    """:func:`descend` with checked arrays and sorted scores."""
    thresholds = np.array(start, np.float64)
    passes = chain.scores >= thresholds[:, None]
    point = measure_chain(chain, start)
    rank, unchanged, stage = goal.rank(point.gain, point.cost), 0, 0
    for _ in range(ROUNDS * len(thresholds)):
        cut, gain, cost = _best_cut(chain, goal, ranked[stage], passes, stage)
        found = goal.rank(gain, cost)
        unchanged += 1
        if found < rank:
            rank, unchanged = found, 0
            thresholds[stage] = ranked[stage].thresholds[cut]
            passes[stage] = chain.scores[stage] >= thresholds[stage]
        if unchanged >= len(thresholds):
            break
        stage = (stage + 1) % len(thresholds)
    return measure_chain(chain, thresholds.tolist())


def _best_cut(chain: Chain, goal: Goal, ranked: Ranking, passes: Mask, stage: int) -> tuple[int, int, float]:
    """Index of the best of a stage's distinct thresholds, the others fixed, with its gain and mean cost."""
    last, n = chain.stages - 1, chain.n
    earlier, later = passes[:stage], passes[stage + 1 :]
    reaching: Mask = np.asarray(~earlier.any(axis=0))
    after = np.full(n, last, np.int8)  # who answers what reaches this stage and is not answered here
    for offset in range(len(later) - 1, -1, -1):
        after[later[offset]] = stage + 1 + offset
    rows = ranked.order[reaching[ranked.order]]
    ends = np.concatenate([[0], np.cumsum(reaching[ranked.order])])[ranked.ends]
    right_after = chain.right[after, np.arange(n)]
    signed = chain.right[stage].view(np.int8) - right_after.view(np.int8)
    gain = _running(signed[rows])[ends] + _fixed_gain(chain, earlier, reaching, right_after)
    reached: list[ArrayLike] = [n - int(np.count_nonzero(earlier[:k].any(axis=0))) for k in range(stage + 1)]
    for k in range(stage + 1, chain.stages):
        goes_on = after >= k
        reached.append(int(np.count_nonzero(goes_on & reaching)) - _running(goes_on[rows])[ends])
    cost = np.broadcast_to(mean_cost(chain.costs, reached, n), gain.shape)
    at = goal.best(gain, cost)
    return at, int(gain[at]), float(cost[at])


def _running(values: NDArray[Any]) -> I64:
    """Sums of the first 0, 1, … values."""
    total = np.zeros(len(values) + 1, np.int64)
    np.cumsum(values, out=total[1:])
    return total


def _fixed_gain(chain: Chain, earlier: Mask, reaching: Mask, right_after: Mask) -> int:
    """#chain right - #last right when this stage answers nobody."""
    total = int(np.count_nonzero(right_after & reaching)) - int(np.count_nonzero(chain.right[-1]))
    left = np.ones(chain.n, np.bool_)
    for stage, passed in enumerate(earlier):
        total += int(np.count_nonzero(chain.right[stage] & passed & left))
        left &= ~passed
    return total


def _geometric(chain: Chain, ranked: Sequence[Ranking]) -> Iterator[tuple[float, ...]]:
    """Each stage answers the same share of what reaches it (MSDNet's geometric budget)."""
    for share in SHARES:
        left = np.ones(chain.n, np.bool_)
        thresholds = []
        for score, rank in zip(chain.scores, ranked, strict=True):
            rows = rank.order[left[rank.order]]
            wanted = int(share * np.count_nonzero(left))
            t = float(score[rows[wanted - 1]]) if 0 < wanted <= len(rows) else np.inf
            thresholds.append(t)
            left &= ~(score >= t)
        yield tuple(thresholds)


def _priced(chain: Chain, ranked: Sequence[Ranking]) -> Iterator[tuple[float, ...]]:
    """Without a limit, at several prices of a lost answer: the stages share the loss as pays best."""
    start: Start = (np.inf,) * (chain.stages - 1)
    for price in PRICES[::-1]:
        priced = Goal("price", price * chain.costs[-1], chain.n)
        point = descend_from(chain, priced, ranked, start)
        start = point.thresholds
        yield point.thresholds
