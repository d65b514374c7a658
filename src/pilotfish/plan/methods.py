"""Ways to choose the threshold of a pair, by name.

sweep            every distinct threshold; the one that saves most within the budget (TinySaver Eq. 6-7,
                 Little-Big's T*). The default.
first_violation  TinySaver's released code: t = 1.000, 0.999, … with score > t, stopped at the first t that breaks
                 the budget, and that t is used. On small sets it is a noisy event of the tail.
grid50           Little-Big: T = k/50, k = 0 … 49 and "exit nobody"; the smallest T within the budget.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pilotfish.errors import UsageError, nearest
from pilotfish.plan.sweep import F64, Mask, PairPath, at_thresholds, sweep
from pilotfish.scores import Scored, from_shown


def sweep_path(scored: Scored, saver_correct: Mask, base_correct: Mask, max_drop: float) -> PairPath:
    """All distinct thresholds."""
    return sweep(scored.values, saver_correct, base_correct)


def grid50_path(scored: Scored, saver_correct: Mask, base_correct: Mask, max_drop: float) -> PairPath:
    """T = k/50: 0.98, 0.96, … 0."""
    return at_thresholds(
        scored.values, saver_correct, base_correct, from_shown(scored.scale, np.arange(49, -1, -1) / 50)
    )


def first_violation_path(scored: Scored, saver_correct: Mask, base_correct: Mask, max_drop: float) -> PairPath:
    """The scan down to and including the first threshold that loses more than *max_drop*."""
    grid = from_shown(scored.scale, np.arange(1000, 0, -1) / 1000)
    path = at_thresholds(scored.values, saver_correct, base_correct, _strictly_above(scored.values, grid))
    broken = np.flatnonzero(path.gain < -(max_drop + 1e-12) * path.n)
    end = int(broken[0]) + 1 if len(broken) else len(path.gain)
    return PairPath(path.thresholds[:end], path.exited[:end], path.gain[:end], path.n)


PathMethod = Callable[[Scored, Mask, Mask, float], PairPath]
METHODS: dict[str, PathMethod] = {
    "sweep": sweep_path,
    "first_violation": first_violation_path,
    "grid50": grid50_path,
}
TAKES_LAST = frozenset({"first_violation"})  # the rule picks the point where its scan stopped


def path_method(name: str) -> PathMethod:
    """The method called *name*; UsageError lists the names."""
    if name not in METHODS:
        raise UsageError(f"unknown method {name!r}; {nearest(name, METHODS)}")
    return METHODS[name]


def chosen_saver_point(name: str, path: PairPath, max_drop: float) -> int:
    """Index of the point of *path* that method *name* takes at *max_drop*."""
    return len(path.gain) - 1 if name in TAKES_LAST else path.last_feasible(max_drop)


def _strictly_above(score: F64, grid: F64) -> F64:
    """For each t the threshold u with {score >= u} = {score > t}: the next larger score of the data."""
    rising = np.concatenate([np.unique(score[~np.isnan(score)]), [np.inf]])
    return np.asarray(rising[np.searchsorted(rising, grid, side="right").clip(max=len(rising) - 1)])
