"""A threshold tuned on one split and kept on another (Little-Big Tables 2 and 8), and what its cost says of the shift.

At a fixed threshold the share that exits needs no labels. If inputs become harder, fewer exit and the cost rises: the
change of cost from one split to the other measures their distance as the saver sees it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pilotfish.cascade.performance import grouped_interval, paired_interval
from pilotfish.documents import as_document
from pilotfish.plan.analysis.pair import Pair, check_drop
from pilotfish.plan.sweep import PairPath, at_thresholds, sweep


@dataclass(frozen=True)
class Transfer:
    """A threshold from split ``tuned_on``, judged on split ``judged_on``.

    threshold          as people read it
    tuned_exit_ratio   on the split that it was tuned on
    exit_ratio, drop   on the other one; drop_interval at 95 %
    delta_cost         C_S / C_B - exit_ratio; None without costs
    own_exit_ratio     what the other split would have chosen for itself at the same drop
    cost_shift         cost at the threshold there minus here, as a share of C_B: tuned_exit_ratio - exit_ratio
    z, p_value         of the two exit ratios being one (pooled, two-sided, samples independent). The threshold was
                       chosen on the first split, so p is a little too small; for an alarm, not for a proof
    """

    tuned_on: str
    judged_on: str
    n: int
    threshold: float
    tuned_exit_ratio: float
    exit_ratio: float
    drop: float
    drop_interval: tuple[float, float]
    delta_cost: float | None
    own_exit_ratio: float
    cost_shift: float
    z: float
    p_value: float

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return dict(as_document(self))


def transfers(pairs: Mapping[str, Pair], max_drop: float = 0.0) -> tuple[Transfer, ...]:
    """All ordered pairs of splits: the same saver and base, by the name of the split."""
    check_drop(max_drop)
    paths = {split: sweep(p.score, p.saver_correct, p.base_correct) for split, p in pairs.items()}
    points = {split: path.last_feasible(max_drop) for split, path in paths.items()}
    return tuple(
        _transfer(a, b, pairs[b], paths[a], points[a], float(paths[b].exited[points[b]] / paths[b].n))
        for a in pairs
        for b in pairs
        if a != b
    )


def _transfer(a: str, b: str, judged: Pair, path: PairPath, point: int, own: float) -> Transfer:
    threshold = path.thresholds[point : point + 1]
    there = at_thresholds(judged.score, judged.saver_correct, judged.base_correct, threshold)
    here, exited = int(path.exited[point]), int(there.exited[1])
    exits = judged.score >= threshold[0]
    lost = int((exits & judged.base_correct & ~judged.saver_correct).sum())
    interval = paired_interval(lost, lost + int(there.gain[1]), there.n)
    if judged.groups is not None:
        gap = (exits & judged.base_correct).astype(np.int8) - (exits & judged.saver_correct).astype(np.int8)
        interval = grouped_interval(gap, judged.groups)
    r_here, r = here / path.n, exited / there.n
    z, p = two_sample(here, path.n, exited, there.n)
    return Transfer(
        tuned_on=a,
        judged_on=b,
        n=there.n,
        threshold=judged.shown(float(threshold[0])),
        tuned_exit_ratio=r_here,
        exit_ratio=r,
        drop=float(-there.gain[1] / there.n),
        drop_interval=interval,
        delta_cost=None if judged.cost_ratio is None else judged.cost_ratio - r,
        own_exit_ratio=own,
        cost_shift=r_here - r,
        z=z,
        p_value=p,
    )


def two_sample(k_a: int, n_a: int, k_b: int, n_b: int) -> tuple[float, float]:
    """(z, two-sided p) of k_a of n_a and k_b of n_b having one probability; z > 0 where the second share is smaller."""
    pooled = (k_a + k_b) / (n_a + n_b)
    variance = pooled * (1 - pooled) * (1 / n_a + 1 / n_b)
    z = (k_a / n_a - k_b / n_b) / math.sqrt(variance) if variance > 0 else 0.0
    return z, math.erfc(abs(z) / math.sqrt(2))
