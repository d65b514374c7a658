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
from pilotfish.scores import Scale, Scored, from_shown


def sweep_path(scored: Scored, saver_correct: Mask, base_correct: Mask, max_drop: float) -> PairPath:
    """All distinct thresholds."""
    return sweep(scored.values, saver_correct, base_correct)


def grid50_path(scored: Scored, saver_correct: Mask, base_correct: Mask, max_drop: float) -> PairPath:
    """T = k/50: 0.98, 0.96, … 0."""
    grid = _at_least(scored.scale, np.arange(49, -1, -1) / 50)
    return at_thresholds(scored.values, saver_correct, base_correct, grid)


def first_violation_path(scored: Scored, saver_correct: Mask, base_correct: Mask, max_drop: float) -> PairPath:
    """The scan down to and including the first threshold that loses more than *max_drop*."""
    grid = _strictly_above(scored.scale, np.arange(1000, 0, -1) / 1000)
    path = at_thresholds(scored.values, saver_correct, base_correct, grid)
    broken = np.flatnonzero(path.gain < -(max_drop + 1e-12) * path.n)
    end = int(broken[0]) + 1 if len(broken) else len(path.gain)
    return PairPath(path.thresholds[:end], path.exited[:end], path.gain[:end], path.n)


PathMethod = Callable[[Scored, Mask, Mask, float], PairPath]
PAIR_METHODS: dict[str, PathMethod] = {
    "sweep": sweep_path,
    "first_violation": first_violation_path,
    "grid50": grid50_path,
}
TAKES_LAST = frozenset({"first_violation"})  # the rule picks the point where its scan stopped


def path_method(name: str) -> PathMethod:
    """The method called *name*; UsageError lists the names."""
    if name not in PAIR_METHODS:
        raise UsageError(f"unknown method {name!r}; {nearest(name, PAIR_METHODS)}")
    return PAIR_METHODS[name]


def chosen_saver_point(name: str, path: PairPath, max_drop: float) -> int:
    """Index of the point of *path* that method *name* takes at *max_drop*."""
    return len(path.gain) - 1 if name in TAKES_LAST else path.last_feasible(max_drop)


def _at_least(scale: Scale, shown: F64) -> F64:
    """For each t, in the unit people read, the u in the score's own unit with {score >= u} = {score >= t}."""
    grid = from_shown(scale, shown)
    return np.asarray(grid - _rounding(scale, grid))


def _strictly_above(scale: Scale, shown: F64) -> F64:
    """For each t, in the unit people read, the u in the score's own unit with {score >= u} = {score > t}."""
    grid = from_shown(scale, shown)
    return np.asarray(np.nextafter(grid + _rounding(scale, grid), np.inf))


def _rounding(scale: Scale, grid: F64) -> F64:
    """How far the log-odds of a probability of exactly t may lie from those of t: their last digits."""
    return np.zeros_like(grid) if scale == "identity" else 1e-14 * (1 + np.abs(grid))
