"""Three stages at all pairs of cuts, counted at once from one joint histogram; their quantile grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.cascade import Budget
from pilotfish.plan.chains.cuts import Cuts, Rows, quantile_cuts, ranking
from pilotfish.plan.chains.point import ChainPoint, mean_cost
from pilotfish.plan.sweep import F64
from pilotfish.plan.trace import Trace, numbers

I64 = NDArray[np.int64]
I32 = NDArray[np.int32]
Gains = NDArray[Any]  # (…, M1, M2), int32 where answers are right or wrong, else float64
BINS = (100, 100)


@dataclass(frozen=True)
class ChainGrid:
    """A three-stage chain at all pairs of (G1+1) x (G2+1) thresholds.

    thresholds1, thresholds2  float64 (G1+1,) and (G2+1,), falling from +inf; repeated where ties leave fewer
    exited1                   int64 (G1+1,), samples that stage 1 answers
    exited2                   int32 (G1+1, G2+1), samples that stage 2 answers
    gain                      (G1+1, G2+1), what the chain is better by than its last stage, summed
    cost                      float64 (G1+1, G2+1), mean per sample
    """

    thresholds1: F64
    thresholds2: F64
    exited1: I64
    exited2: I32
    gain: Gains
    cost: F64
    n: int

    def point(self, row: int, column: int) -> ChainPoint:
        """One policy of the grid."""
        one, two = int(self.exited1[row]), int(self.exited2[row, column])
        return ChainPoint(
            thresholds=(float(self.thresholds1[row]), float(self.thresholds2[column])),
            exits=(one, two, self.n - one - two),
            cost=float(self.cost[row, column]),
            gain=self.gain[row, column].item(),
        )

    def best(self, budget: Budget) -> ChainPoint:
        """The best policy of the grid; the least violation where none keeps to the budget."""
        return self.point(*divmod(budget.best(self.gain, self.cost, self.n), len(self.thresholds2)))


def grid_screen(trace: Trace, bins: tuple[int, int] = BINS) -> ChainGrid:
    """Count a chain of three stages at the quantiles of its scores."""
    one, two = (quantile_cuts(ranking(score), b) for score, b in zip(trace.values, bins, strict=True))
    return screen(trace, one, two)


def screen(trace: Trace, cuts1: Cuts, cuts2: Cuts) -> ChainGrid:
    """:func:`grid_screen` at cuts that are known already."""
    gains = make_gains(trace)
    start = nobody_in_first(gains, cuts2.first, len(cuts2))
    exited2, gain = taking(gains, cuts1.first, cuts2.first, start, len(cuts1))
    cost = lattice_cost(trace, cuts1.exited, exited2)
    return ChainGrid(cuts1.thresholds, cuts2.thresholds, cuts1.exited, exited2, gain, cost, len(trace))


def frontier_three(trace: Trace, bins: tuple[int, int] = BINS) -> F64:
    """The grid's policies that no other beats in both cost and drop: thresholds float64 (P, 2).

    The first row is (+inf, +inf), exit nobody; then cost falls, to the cheapest.
    """
    grid = grid_screen(trace, bins)
    cost, lost = grid.cost.ravel(), -grid.gain.ravel()
    order = np.lexsort((lost, cost))
    least = np.minimum.accumulate(np.concatenate([[np.inf], lost[order]]))[:-1]
    rows, columns = np.divmod(order[lost[order] < least][::-1], len(grid.thresholds2))
    thresholds = np.stack([grid.thresholds1[rows], grid.thresholds2[columns]], axis=1)
    nobody = np.full((1, 2), np.inf)
    return np.concatenate([nobody, thresholds[~np.isposinf(thresholds).all(axis=1)]])


def make_gains(trace: Trace) -> NDArray[Any]:
    """(2, N), what each sample gains against the last of three stages when stage 1 answers it, and when stage 2 does:
    int8 -1, 0 or 1 of right and wrong, else float64."""
    good = numbers(trace.quality)
    return np.asarray(good[:2] - good[2])


def nobody_in_first(gains: NDArray[Any], first2: Rows, cuts2: int) -> tuple[I32, Gains]:
    """exited2 and gain (M2,) at each cut of stage 2 when nobody exits at stage 1."""
    exited = np.cumsum(np.bincount(first2, minlength=cuts2 + 1))[:cuts2]
    gain = np.cumsum(np.bincount(first2, gains[1], cuts2 + 1))[:cuts2]
    return exited.astype(np.int32), gain.astype(_summed(gains))


def taking(gains: NDArray[Any], first1: Rows, first2: Rows, start: tuple[I32, Gains], cuts1: int) -> tuple[I32, Gains]:
    """exited2 and gain, (M1, M2), as stage 1 takes samples away from the state *start*.

    gains   (2, S) of these samples, see :func:`make_gains`
    first1  intp (S,), the first row at which a sample exits at stage 1, M1 where none
    first2  intp (S,), the first column at which it would exit at stage 2, M2 where none
    start   exited2 and gain (M2,) before stage 1 takes any of these samples
    """
    width = len(start[0]) + 1
    place, shape = first1 * width + first2, (cuts1 + 1, width)
    taken = _cumulated(np.bincount(place, minlength=shape[0] * width), shape, np.dtype(np.int32))
    lost = _cumulated(np.bincount(place, gains[1], shape[0] * width), shape, _summed(gains))
    won = np.cumsum(np.bincount(first1, gains[0], shape[0]))[:cuts1].astype(_summed(gains))
    return start[0] - taken, start[1] + won[:, None] - lost


def lattice_cost(trace: Trace, exited1: I64, exited2: I32) -> F64:
    """Mean cost float64 (M1, M2) where stage 1 answers exited1 (M1,) samples and stage 2 exited2 (M1, M2)."""
    reach2 = len(trace) - exited1[:, None]
    return mean_cost(trace, [np.full((1, 1), len(trace)), reach2, reach2 - exited2])


def _summed(gains: NDArray[Any]) -> np.dtype[Any]:
    """The type of sums of *gains*: int32 of whole numbers, else float64."""
    return np.result_type(gains.dtype, np.int32)


def _cumulated(histogram: NDArray[Any], shape: tuple[int, int], kind: np.dtype[Any]) -> NDArray[Any]:
    """Sums over all lower rows and columns; the last row and column (never) are left out."""
    table = histogram.reshape(shape)[:-1, :-1].astype(kind)
    np.cumsum(table, axis=1, out=table)
    np.cumsum(table, axis=0, out=table)
    return table
