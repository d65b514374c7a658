"""Three stages on a grid of quantile thresholds: every pair counted at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from pilotfish.plan.chains.cuts import Cuts, quantile_cuts, ranking
from pilotfish.plan.chains.goal import F64, I64, Goal
from pilotfish.plan.chains.lattice import I32, Gains, lattice_cost, make_gains, nobody_in_first, taking
from pilotfish.plan.chains.point import Chain, ChainPoint, make_chain

BINS = (100, 100)


@dataclass(frozen=True)
class ChainGrid:
    """A three-stage chain at all pairs of (G1+1) x (G2+1) thresholds.

    thresholds1, thresholds2  float64 (G1+1,) and (G2+1,), falling from +inf; repeated where ties leave fewer
    exited1                   int64 (G1+1,), samples that stage 1 answers
    exited2                   int32 (G1+1, G2+1), samples that stage 2 answers
    gain                      int32 (G1+1, G2+1), #chain right - #last stage right
    cost                      float64 (G1+1, G2+1), mean per sample
    """

    thresholds1: F64
    thresholds2: F64
    exited1: I64
    exited2: I32
    gain: I32
    cost: F64
    n: int

    def point(self, row: int, column: int) -> ChainPoint:
        """One policy of the grid."""
        one, two = int(self.exited1[row]), int(self.exited2[row, column])
        return ChainPoint(
            thresholds=(float(self.thresholds1[row]), float(self.thresholds2[column])),
            exits=(one, two, self.n - one - two),
            cost=float(self.cost[row, column]),
            drop=-int(self.gain[row, column]) / self.n,
        )

    def best(self, goal: Goal) -> ChainPoint:
        """The best policy of the grid; the least violation where none keeps to the goal's limit."""
        return self.point(*divmod(goal.best(self.gain, self.cost), len(self.thresholds2)))


def grid_screen(
    v1: ArrayLike,
    v2: ArrayLike,
    right: ArrayLike,
    costs: Sequence[float],
    bins: tuple[int, int] = BINS,
) -> ChainGrid:
    """Count a chain at the quantiles of its scores v1, v2 (N,); right bool (3, N), three marginal costs."""
    chain = make_chain([np.asarray(v1, np.float64), np.asarray(v2, np.float64)], right, costs)
    one, two = (quantile_cuts(ranking(s), b) for s, b in zip(chain.scores, bins, strict=True))
    return screen(chain, one, two, make_gains(chain.right))


def screen(chain: Chain, cuts1: Cuts, cuts2: Cuts, gains: Gains) -> ChainGrid:
    """:func:`grid_screen` of checked arrays and cuts that are known already."""
    start = nobody_in_first(gains, cuts2.first, len(cuts2))
    exited2, gain = taking(gains, cuts1.first, cuts2.first, start, len(cuts1))
    cost = lattice_cost(chain, cuts1.exited, exited2)
    return ChainGrid(cuts1.thresholds, cuts2.thresholds, cuts1.exited, exited2, gain, cost, chain.n)


def frontier_three(
    v1: ArrayLike,
    v2: ArrayLike,
    right: ArrayLike,
    costs: Sequence[float],
    bins: tuple[int, int] = BINS,
) -> F64:
    """The grid's policies that no other beats in both cost and drop: thresholds float64 (P, 2).

    The first row is (+inf, +inf), exit nobody; then cost falls, to the cheapest.
    """
    grid = grid_screen(v1, v2, right, costs, bins)
    cost, lost = grid.cost.ravel(), -grid.gain.ravel()
    order = np.lexsort((lost, cost))
    least = np.minimum.accumulate(np.concatenate([[np.iinfo(np.int32).max], lost[order]]))[:-1]
    rows, columns = np.divmod(order[lost[order] < least][::-1], len(grid.thresholds2))
    thresholds = np.stack([grid.thresholds1[rows], grid.thresholds2[columns]], axis=1)
    nobody = np.full((1, 2), np.inf)
    return np.concatenate([nobody, thresholds[~np.isposinf(thresholds).all(axis=1)]])
