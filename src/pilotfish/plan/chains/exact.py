"""The exact best thresholds of three stages, by branch and bound over stage 1's cuts.

1. Moving a threshold down over samples that lose no answer never costs more and never loses, so only cuts just
   before a loss can be best: M1 of stage 1, M2 of stage 2, a fraction of N each.
2. About 128 of stage 1's cuts, the edges, are counted exactly against all M2 cuts by one joint histogram: the best of
   them is the incumbent.
3. Between two edges, at one cut of stage 2, the gain is at most the lower edge's plus every answer won on the way,
   and the cost at least the upper edge's, since letting more samples exit never costs more.
4. Pairs of cuts whose bound does not beat the incumbent are out; blocks are opened best bound first, and in each the
   cuts that are left are counted exactly, by a histogram of the block's samples alone.
5. When no block's bound beats the incumbent, it is the optimum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pilotfish.plan.chains.cuts import Cuts, Ranking, Rows, cuts_before_losses, ranking
from pilotfish.plan.chains.goal import F64, Goal, make_goal
from pilotfish.plan.chains.lattice import I32, Gains, lattice_cost, make_gains, nobody_in_first, taking
from pilotfish.plan.chains.point import Chain, ChainPoint, make_chain, measure_chain, required

EDGES = 128


def best_three(
    v1: ArrayLike,
    v2: ArrayLike,
    right: ArrayLike,
    costs: Sequence[float],
    max_drop: float | None = None,
    max_cost: float | None = None,
) -> ChainPoint:
    """The best of all pairs of distinct thresholds, ±inf among them.

    v1, v2    float64 (N,), scores of stages 1 and 2; NaN never exits
    right     bool (3, N)
    costs     three marginal costs
    max_drop  least cost with drop <= max_drop; of equal costs the smallest drop
    max_cost  smallest drop with mean cost <= max_cost; of equal drops the least cost

    BudgetError, with the best that can be reached, when no pair of thresholds meets the budget.
    """
    chain = make_chain([np.asarray(v1, np.float64), np.asarray(v2, np.float64)], right, costs)
    goal = make_goal(chain.n, max_drop, max_cost)
    return required(exact_three(chain, goal, [ranking(score) for score in chain.scores]), goal)


def exact_three(chain: Chain, goal: Goal, ranked: Sequence[Ranking]) -> ChainPoint:
    """:func:`best_three` of checked arrays and sorted scores; the least violation where the goal cannot be met."""
    first, second, last = chain.right
    problem = _Problem(
        chain,
        goal,
        cuts_before_losses(ranked[0], ~first & (second | last)),
        cuts_before_losses(ranked[1], ~second & last),
        make_gains(chain.right),
        ranked[0].order,
    )
    best = _search(problem)
    return measure_chain(chain, (problem.cuts1.thresholds[best.cut1], problem.cuts2.thresholds[best.cut2]))


@dataclass(frozen=True)
class _Problem:
    """``order``: samples as stage 1 takes them; those up to ``cuts1.exited[c]`` exit at its cut c."""

    chain: Chain
    goal: Goal
    cuts1: Cuts
    cuts2: Cuts
    gains: Gains
    order: Rows


@dataclass(frozen=True)
class _Edges:
    """Some of stage 1's cuts, counted against all cuts of stage 2.

    at             intp (E,), indices among stage 1's cuts, the first and the last included
    exited2, gain  int32 (E, M2); cost float64 (E, M2)
    most_gain      int32 (E-1, M2), the most gain strictly between edges e and e+1
    """

    at: Rows
    exited2: I32
    gain: I32
    cost: F64
    most_gain: I32

    def bounds(self, block: int) -> tuple[I32, F64]:
        """Most gain and least cost (M2,) strictly between edges *block* and *block* + 1."""
        return self.most_gain[block], self.cost[block + 1]


@dataclass(frozen=True)
class _Best:
    rank: tuple[float, float, float]
    cut1: int
    cut2: int


def _search(problem: _Problem) -> _Best:
    edges = _count_edges(problem)
    best = _pick(problem.goal, edges.gain, edges.cost, edges.at, np.arange(len(problem.cuts2)))
    promising = []
    for block in np.flatnonzero(np.diff(edges.at) > 1).tolist():
        gain, cost = edges.bounds(block)
        bound = _rank_at(problem.goal, gain, cost, problem.goal.best(gain, cost))
        if bound < best.rank:
            promising.append((bound, block))
    for bound, block in sorted(promising):
        if bound < best.rank:
            best = _open(problem, edges, block, best)
    return best


def _count_edges(problem: _Problem) -> _Edges:
    cuts1, cuts2 = problem.cuts1, problem.cuts2
    step = -(-len(cuts1) // EDGES)
    at = np.unique(np.append(np.arange(0, len(cuts1), step), len(cuts1) - 1))
    rows = problem.order[: cuts1.exited[-1]]
    gains, first1, first2 = problem.gains.take(rows), cuts1.first[rows], cuts2.first[rows]
    row = np.searchsorted(at, first1)
    start = nobody_in_first(problem.gains, cuts2.first, len(cuts2))
    exited2, gain = taking(gains, row, first2, start, len(at))
    between = at[row] != first1
    most = _most_won(gains.take(between), row[between] - 1, first2[between], (len(at) - 1, len(cuts2)))
    cost = lattice_cost(problem.chain, cuts1.exited[at], exited2)
    return _Edges(at, exited2, gain, cost, gain[:-1] + most)


def _most_won(gains: Gains, block: Rows, first2: Rows, shape: tuple[int, int]) -> I32:
    """int32 (blocks, M2): answers won as stage 1 takes a block's samples, the lost ones not counted."""
    from_last = gains.first == 1  # where stage 2 would have passed the sample on
    from_second = gains.first - gains.second == 1  # where stage 2 would have answered

    def won(which: NDArray[np.bool_]) -> I32:
        table = np.bincount(block[which] * (shape[1] + 1) + first2[which], minlength=shape[0] * (shape[1] + 1))
        return np.cumsum(table.reshape(shape[0], shape[1] + 1)[:, :-1], axis=1, dtype=np.int32)

    all_from_last = np.bincount(block[from_last], minlength=shape[0]).astype(np.int32)
    return all_from_last[:, None] - won(from_last) + won(from_second)


def _open(problem: _Problem, edges: _Edges, block: int, best: _Best) -> _Best:
    """The better of *best* and what lies strictly inside *block*, counted where its bound is better."""
    low, high = int(edges.at[block]), int(edges.at[block + 1])
    columns = np.flatnonzero(_may_beat(problem.goal, *edges.bounds(block), best.rank))
    samples = problem.order[problem.cuts1.exited[low] : problem.cuts1.exited[high - 1]]
    exited2, gain = taking(
        problem.gains.take(samples),
        problem.cuts1.first[samples] - low - 1,
        np.searchsorted(columns, problem.cuts2.first[samples]),
        (edges.exited2[block, columns], edges.gain[block, columns]),
        high - low - 1,
    )
    cost = lattice_cost(problem.chain, problem.cuts1.exited[low + 1 : high], exited2)
    found = _pick(problem.goal, gain, cost, np.arange(low + 1, high), columns)
    return found if found.rank < best.rank else best


def _may_beat(goal: Goal, gain: I32, cost: F64, rank: tuple[float, float, float]) -> NDArray[np.bool_]:
    keys = (goal.violation(gain, cost), *goal.keys(gain, cost))
    beats = keys[2] < rank[2]
    for key, mine in ((keys[1], rank[1]), (keys[0], rank[0])):
        beats = (key < mine) | ((key == mine) & beats)
    return np.asarray(beats)


def _pick(goal: Goal, gain: I32, cost: F64, cuts1: Rows, cuts2: Rows) -> _Best:
    flat = goal.best(gain, cost)
    row, column = divmod(flat, len(cuts2))
    return _Best(_rank_at(goal, gain, cost, flat), int(cuts1[row]), int(cuts2[column]))


def _rank_at(goal: Goal, gain: I32, cost: F64, flat: int) -> tuple[float, float, float]:
    return goal.rank(int(gain.ravel()[flat]), float(cost.ravel()[flat]))
