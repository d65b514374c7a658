"""What the samples that a cascade was tuned on looked like: the distribution of its scores, and the classes it saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pilotfish.documents import Count, Unbounded

STEPS = 100
F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Profile:
    """The scores and classes of the samples that a cascade was tuned and judged on, whichever stage answered them.

    n          how many independent samples they are worth (see :func:`pilotfish.cascade.independent`)
    quantiles  per stage but the last, 101 of its scores, from the smallest to the largest, in the score's own unit and
               evenly in rank; none if no score was a number
    classes    how many samples the first stage predicted as each class; none if answers are not classes
    """

    n: Count
    quantiles: tuple[tuple[Unbounded, ...], ...]
    classes: tuple[Count, ...] = ()

    def validate(self) -> None:
        """ValueError for quantiles that do not rise."""
        for k, row in enumerate(self.quantiles):
            if len(row) not in (0, STEPS + 1) or (len(row) > 1 and (np.diff(np.nan_to_num(row)) < 0).any()):
                raise ValueError(f"the quantiles of stage {k} are not {STEPS + 1} numbers that rise")


def profile_of(values: Sequence[F64] | F64, n: int, classes: NDArray[np.int64] | None = None) -> Profile:
    """The profile of samples whose scores are *values*, a row (N,) per stage but the last; NaN is left out.

    n        how many of them are independent
    classes  int64 (N,), the first stage's prediction for each, or None
    """
    counts = () if classes is None else tuple(np.bincount(classes).tolist())
    return Profile(n, tuple(_quantiles(row[~np.isnan(row)]) for row in values), counts)


def _quantiles(values: F64) -> tuple[float, ...]:
    if not len(values):
        return ()
    ranks = np.ceil(np.arange(STEPS + 1) / STEPS * len(values)).astype(np.intp) - 1
    return tuple(np.sort(values)[ranks.clip(0)].tolist())
