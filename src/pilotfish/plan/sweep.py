"""The exact sweep of a pair: every distinct threshold, in O(M log M).

Symbols follow TinySaver 3.3: of M samples, a threshold t lets E_t = {m: score_m >= t} exit. The cascade's
accuracy minus the base's is (#S right - #B right on E_t) / M, so Eq. 7's condition, "S is at least as good as B on
E_t", says that the cascade is at least as good as the base: Little-Big's T* with no drop is the same threshold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pilotfish.cascade.budget import SLACK
from pilotfish.cascade.exits import decide_at
from pilotfish.tasks.task import Quality

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class PairPath:
    """Thresholds of a pair from "exit nobody" on, and what each does to M samples.

    thresholds  float64 (P,), falling, the first +inf; a threshold is a score of the data, never between two,
                and the last is -inf where everybody exits
    exited      int64 (P,), |E_t|
    gain        (P,), #S right - #B right on E_t in int64, or the sum of what S is better by in float64
    n           M
    """

    thresholds: F64
    exited: I64
    gain: NDArray[Any]
    n: int

    def last_feasible(self, max_drop: float = 0.0) -> int:
        """Index of the largest E_t whose loss is at most ``max_drop`` x M; 0, exit nobody, when none is."""
        feasible = np.flatnonzero(self.gain >= -(max_drop + SLACK) * self.n)
        return int(feasible[-1]) if len(feasible) else 0


def advantage(saver: Quality, base: Quality) -> NDArray[Any]:
    """(M,), what each sample gains where *saver* answers it and not *base*: int64 -1, 0 or 1 of right and wrong, else
    float64."""
    kind = np.int64 if saver.dtype == np.bool_ else np.float64
    return np.asarray(saver.astype(kind) - base.astype(kind))


def sweep(score: F64, saver: Quality, base: Quality) -> PairPath:
    """Every distinct threshold of *score*.

    score        float64 (M,); NaN never exits
    saver, base  the quality of their answers, bool (M,) or float64 (M,) in [0, 1]

    Samples of equal score exit together: a cut is made at the end of a group of ties only.
    """
    order, distinct = sorted_groups(score)
    gain = np.cumsum(advantage(saver, base)[order])
    exited = np.flatnonzero(distinct) + 1
    thresholds = score[order][exited - 1]
    if len(exited) and exited[-1] == len(score):
        thresholds[-1] = -np.inf
    return PairPath(
        thresholds=np.concatenate([[np.inf], thresholds]),
        exited=np.concatenate([[0], exited]).astype(np.int64),
        gain=np.concatenate([[0], gain[exited - 1]]).astype(gain.dtype),
        n=len(score),
    )


def r_match(score: ArrayLike, saver: ArrayLike, base: ArrayLike) -> tuple[float, float]:
    """(r_match, t) of TinySaver Eq. 7: the largest share that can exit with the saver at least as good as the base.

    score (M,), larger exits first; saver and base: the quality of their answers (M,). t = +inf with r = 0 when there is
    none, -inf with r = 1 when all can exit.
    """
    path = sweep(np.asarray(score, np.float64), np.asarray(saver), np.asarray(base))
    point = path.last_feasible()
    return float(path.exited[point] / path.n), float(path.thresholds[point])


def sorted_groups(score: F64) -> tuple[NDArray[np.intp], Mask]:
    """Order of the samples by falling score, NaN left out, and whether each ends a group of ties: of samples that no
    threshold at one of them parts."""
    order = np.argsort(-score, kind="stable")[: np.count_nonzero(~np.isnan(score))]
    falling = score[order]
    last = np.ones(len(order), bool)
    last[:-1] = falling[1:] < decide_at(falling[:-1])
    return order, last
