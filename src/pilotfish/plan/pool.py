"""Every saver of a pool against every base at once: r_match of all pairs (TinySaver 3.3, Eq. 7 and 10).

One sort per saver serves all its bases. In that order the running gain of a base, #saver right - #base right, moves by
at most 1 per sample, so sums over blocks of samples bound it inside each block: only the blocks where it may still be
within the limit are looked into, from the last backwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pilotfish.cascade import make_budget
from pilotfish.errors import UsageError
from pilotfish.plan.sweep import F64, I64, Mask

I8 = NDArray[np.int8]
BLOCK = 126  # sums of fewer than 128 zeros and ones fit int8
LOOK = 64  # blocks looked into at a time


@dataclass(frozen=True)
class PoolMatch:
    """r_match of all pairs of M models on N samples; rows are savers, columns bases.

    pair        bool (M, M), whether the saver costs less than the base; elsewhere nothing exits
    exited      int64 (M, M), the most samples that can exit within the drop
    thresholds  float64 (M, M), where they do: a score of the data, +inf nobody, -inf everybody
    """

    pair: Mask
    exited: I64
    thresholds: F64
    n: int

    @property
    def exit_ratio(self) -> F64:
        """float64 (M, M): r_match, NaN where there is no pair."""
        return np.where(self.pair, self.exited / self.n, np.nan)


def pool_r_match(
    scores: Sequence[ArrayLike] | NDArray[np.floating[Any]],
    right: ArrayLike,
    costs: ArrayLike,
    max_drop: float = 0.0,
    threads: int = 2,
) -> PoolMatch:
    """The largest share of the samples that each saver can answer for each base within *max_drop*.

    scores  float32 or float64 (M, N), larger exits first; a sample with NaN never exits, a model of NaN saves nothing
    right   bool (M, N)
    costs   float (M,); a saver costs less than its base

    Each pair equals ``sweep(score, right_saver, right_base).last_feasible(max_drop)``.
    """
    make_budget(max_drop=max_drop)  # refuses what is no drop
    values, correct, prices = np.asarray(scores), np.asarray(right, np.bool_), np.asarray(costs, np.float64)
    if values.ndim != 2 or values.shape != correct.shape or prices.shape != values.shape[:1] or not values.size:
        raise UsageError(
            f"a pool needs scores (M, N), right (M, N) and costs (M,); "
            f"found {values.shape}, {correct.shape} and {prices.shape}"
        )
    if not np.isfinite(prices).all():
        raise UsageError("a cost is not a finite number; leave models without a cost out of the pool")
    m, n = values.shape
    if values.dtype.kind != "f" or values.dtype.itemsize > 8:
        values = values.astype(np.float64)
    pair = prices[:, None] < prices[None, :]
    exited, thresholds = np.zeros((m, m), np.int64), np.full((m, m), np.inf)
    least_gain = -(max_drop + 1e-12) * n
    signed = np.ascontiguousarray(correct).view(np.int8)

    def one_saver(saver: int) -> None:
        bases = np.flatnonzero(pair[saver])
        if len(bases):
            exited[saver, bases], thresholds[saver, bases] = _match(values[saver], signed, saver, bases, least_gain)

    with ThreadPoolExecutor(max(1, threads)) as workers:
        list(workers.map(one_saver, range(m)))
    return PoolMatch(pair, exited, thresholds, n)


def _match(
    values: NDArray[np.floating[Any]], right: I8, saver: int, bases: NDArray[np.intp], least_gain: float
) -> tuple[I64, F64]:
    """exited and thresholds (B,) of one saver for its bases."""
    n = len(values)
    order = np.argsort(-values)[: n - np.count_nonzero(np.isnan(values))]  # ties in any order: cuts are at their ends
    falling = values[order]
    ends = np.ones(len(order), np.bool_)
    np.not_equal(falling[1:], falling[:-1], out=ends[:-1])
    mine = right[saver].take(order)
    exited = np.array([_last_feasible(mine, right[base].take(order), ends, least_gain) for base in bases], np.int64)
    thresholds = np.full(len(bases), np.inf)
    thresholds[exited > 0] = falling[exited[exited > 0] - 1]
    thresholds[exited == n] = -np.inf
    return exited, thresholds


def _last_feasible(saver: I8, base: I8, ends: Mask, least_gain: float) -> int:
    """The most samples that can exit: the last end of a group of ties where the running gain is at least the limit.

    saver, base  int8 (k,), 1 where right, in the order of exit; ends bool (k,)
    """
    k = len(saver)
    change = saver - base
    starts = np.arange(0, k, BLOCK)
    after = np.cumsum(np.add.reduceat(change, starts, dtype=np.int8) if k else change, dtype=np.int64)
    before = np.concatenate([[0], after[:-1]]).astype(np.int64)
    highest = (before + after + np.minimum(BLOCK, k - starts)) / 2  # steps of at most 1 from before to after
    hopeful = np.flatnonzero(highest >= least_gain)[::-1]
    for at in range(0, len(hopeful), LOOK):
        blocks = hopeful[at : at + LOOK]
        places = starts[blocks][:, None] + np.arange(BLOCK)
        inside = np.minimum(places, k - 1)
        gain = before[blocks][:, None] + np.cumsum(change[inside], axis=1, dtype=np.int64)
        feasible = ends[inside] & (places < k) & (gain >= least_gain)
        rows = np.flatnonzero(feasible.any(axis=1))
        if len(rows):
            row = int(rows[0])
            return int(places[row][feasible[row]][-1]) + 1
    return 0
