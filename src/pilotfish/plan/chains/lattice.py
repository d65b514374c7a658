"""Counts of a three-stage chain at all pairs of cuts, from one joint histogram."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.plan.chains.cuts import Rows
from pilotfish.plan.chains.goal import F64, I64
from pilotfish.plan.chains.point import Chain, mean_cost

I32 = NDArray[np.int32]


@dataclass(frozen=True)
class Gains:
    """What each sample changes in the count of right answers against the last stage: -1, 0 or 1.

    first   int8 (N,), when stage 1 answers it
    second  int8 (N,), when stage 2 does
    """

    first: NDArray[np.int8]
    second: NDArray[np.int8]

    def take(self, rows: Rows | NDArray[np.bool_]) -> Gains:
        """The gains of some samples."""
        return Gains(self.first[rows], self.second[rows])


def make_gains(right: NDArray[np.bool_]) -> Gains:
    """Gains of three stages from right bool (3, N)."""
    signed = right.view(np.int8)
    return Gains(signed[0] - signed[2], signed[1] - signed[2])


def nobody_in_first(gains: Gains, first2: Rows, cuts2: int) -> tuple[I32, I32]:
    """exited2 and gain, int32 (M2,), at each cut of stage 2 when nobody exits at stage 1."""
    exited = np.cumsum(np.bincount(first2, minlength=cuts2 + 1))[:cuts2]
    gain = np.cumsum(np.bincount(first2, gains.second, cuts2 + 1))[:cuts2]
    return exited.astype(np.int32), gain.astype(np.int32)


def taking(gains: Gains, first1: Rows, first2: Rows, start: tuple[I32, I32], cuts1: int) -> tuple[I32, I32]:
    """exited2 and gain, int32 (M1, M2), as stage 1 takes samples away from the state *start*.

    first1  intp (S,), the first row at which a sample exits at stage 1, M1 where none
    first2  intp (S,), the first column at which it would exit at stage 2, M2 where none
    start   exited2 and gain (M2,) before stage 1 takes any of these samples
    """
    width = len(start[0]) + 1
    place, shape = first1 * width + first2, (cuts1 + 1, width)
    taken = _cumulated(np.bincount(place, minlength=shape[0] * width), shape)
    lost = _cumulated(np.bincount(place, gains.second, shape[0] * width), shape)
    won = np.cumsum(np.bincount(first1, gains.first, shape[0]))[:cuts1].astype(np.int32)
    return start[0] - taken, start[1] + won[:, None] - lost


def _cumulated(histogram: NDArray[Any], shape: tuple[int, int]) -> I32:
    """Sums over all lower rows and columns; the last row and column (never) are left out."""
    table: I32 = histogram.reshape(shape)[:-1, :-1].astype(np.int32)
    np.cumsum(table, axis=1, out=table)
    np.cumsum(table, axis=0, out=table)
    return table


def lattice_cost(chain: Chain, exited1: I64, exited2: I32) -> F64:
    """Mean cost float64 (M1, M2) where stage 1 answers exited1 (M1,) samples and stage 2 exited2 (M1, M2)."""
    reach2 = chain.n - exited1[:, None]
    return mean_cost(chain.costs, [np.full((1, 1), chain.n), reach2, reach2 - exited2], chain.n)
