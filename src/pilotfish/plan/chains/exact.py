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
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.cascade import Budget
from pilotfish.plan.chains.cuts import Cuts, Ranking, Rows, cuts_before_losses
from pilotfish.plan.chains.grid import I32, Gains, lattice_cost, make_gains, nobody_in_first, taking
from pilotfish.plan.chains.point import ChainPoint, Place, measure
from pilotfish.plan.sweep import F64
from pilotfish.plan.trace import Trace

EDGES = 128
Best = tuple[Place, int, int]  # of a pair of cuts, and their indices


def exact_three(trace: Trace, budget: Budget, ranked: Sequence[Ranking]) -> ChainPoint:
    """The best of all pairs of distinct thresholds of three stages, ±inf among them; the least violation where the
    budget cannot be met. ranked: the sorted scores of the first two stages."""
    first, second, last = trace.quality
    problem = _Problem(
        trace,
        budget,
        cuts_before_losses(ranked[0], first < np.maximum(second, last)),
        cuts_before_losses(ranked[1], second < last),
        make_gains(trace),
        ranked[0].order,
    )
    _, cut1, cut2 = _search(problem)
    return measure(trace, (problem.cuts1.thresholds[cut1], problem.cuts2.thresholds[cut2]))


@dataclass(frozen=True)
class _Problem:
    """``order``: samples as stage 1 takes them; those up to ``cuts1.exited[c]`` exit at its cut c."""

    trace: Trace
    budget: Budget
    cuts1: Cuts
    cuts2: Cuts
    gains: NDArray[Any]
    order: Rows


@dataclass(frozen=True)
class _Edges:
    """Some of stage 1's cuts, counted against all cuts of stage 2.

    at         intp (E,), indices among stage 1's cuts, the first and the last included
    exited2    int32 (E, M2); gain (E, M2); cost float64 (E, M2)
    most_gain  (E-1, M2), the most gain strictly between edges e and e+1
    """

    at: Rows
    exited2: I32
    gain: Gains
    cost: F64
    most_gain: Gains

    def bounds(self, block: int) -> tuple[Gains, F64]:
        """Most gain and least cost (M2,) strictly between edges *block* and *block* + 1."""
        return self.most_gain[block], self.cost[block + 1]


def _search(problem: _Problem) -> Best:
    edges = _count_edges(problem)
    best = _pick(problem, edges.gain, edges.cost, edges.at, np.arange(len(problem.cuts2)))
    promising = []
    for block in np.flatnonzero(np.diff(edges.at) > 1).tolist():
        bound, *_ = _pick(problem, *edges.bounds(block), np.zeros(1, np.intp), np.arange(len(problem.cuts2)))
        if bound < best[0]:
            promising.append((bound, block))
    for bound, block in sorted(promising):
        if bound < best[0]:
            best = _open(problem, edges, block, best)
    return best


def _count_edges(problem: _Problem) -> _Edges:
    cuts1, cuts2 = problem.cuts1, problem.cuts2
    step = -(-len(cuts1) // EDGES)
    at = np.unique(np.append(np.arange(0, len(cuts1), step), len(cuts1) - 1))
    rows = problem.order[: cuts1.exited[-1]]
    gains, first1, first2 = problem.gains[:, rows], cuts1.first[rows], cuts2.first[rows]
    row = np.searchsorted(at, first1)
    start = nobody_in_first(problem.gains, cuts2.first, len(cuts2))
    exited2, gain = taking(gains, row, first2, start, len(at))
    between = at[row] != first1
    most = _most_won(gains[:, between], row[between] - 1, first2[between], (len(at) - 1, len(cuts2)))
    cost = lattice_cost(problem.trace, cuts1.exited[at], exited2)
    return _Edges(at, exited2, gain, cost, gain[:-1] + most.astype(gain.dtype))


def _most_won(gains: NDArray[Any], block: Rows, first2: Rows, shape: tuple[int, int]) -> F64:
    """(blocks, M2): what is won as stage 1 takes a block's samples, what is lost not counted."""
    from_last = np.maximum(gains[0], 0)  # where stage 2 would have passed the sample on
    from_second = np.maximum(gains[0] - gains[1], 0)  # where stage 2 would have answered
    change = from_second - from_last
    place = block * (shape[1] + 1) + first2
    won = np.bincount(place, change, shape[0] * (shape[1] + 1)).reshape(shape[0], shape[1] + 1)[:, :-1]
    return np.asarray(np.bincount(block, from_last, shape[0])[:, None] + np.cumsum(won, axis=1), np.float64)


def _open(problem: _Problem, edges: _Edges, block: int, best: Best) -> Best:
    """The better of *best* and what lies strictly inside *block*, counted where its bound is better."""
    low, high = int(edges.at[block]), int(edges.at[block + 1])
    columns = np.flatnonzero(_may_beat(problem, *edges.bounds(block), best[0]))
    samples = problem.order[problem.cuts1.exited[low] : problem.cuts1.exited[high - 1]]
    exited2, gain = taking(
        problem.gains[:, samples],
        problem.cuts1.first[samples] - low - 1,
        np.searchsorted(columns, problem.cuts2.first[samples]),
        (edges.exited2[block, columns], edges.gain[block, columns]),
        high - low - 1,
    )
    cost = lattice_cost(problem.trace, problem.cuts1.exited[low + 1 : high], exited2)
    found = _pick(problem, gain, cost, np.arange(low + 1, high), columns)
    return found if found[0] < best[0] else best


def _may_beat(problem: _Problem, gain: Gains, cost: F64, rank: Place) -> NDArray[np.bool_]:
    budget, n = problem.budget, len(problem.trace)
    keys = (budget.violation(gain, cost, n), *budget.keys(gain, cost, n))
    beats = keys[2] < rank[2]
    for key, mine in ((keys[1], rank[1]), (keys[0], rank[0])):
        beats = (key < mine) | ((key == mine) & beats)
    return np.asarray(beats)


def _pick(problem: _Problem, gain: Gains, cost: F64, cuts1: Rows, cuts2: Rows) -> Best:
    """The best of some cuts of both stages."""
    flat = problem.budget.best(gain, cost, len(problem.trace))
    row, column = divmod(flat, len(cuts2))
    place = problem.budget.rank(gain.ravel()[flat].item(), float(cost.ravel()[flat]), len(problem.trace))
    return place, int(cuts1[row]), int(cuts2[column])
