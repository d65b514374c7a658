"""Splitting samples into a part to tune on and a part to judge by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import UsageError

Rows = NDArray[np.intp]


@dataclass(frozen=True)
class Holdout:
    """Row indices, sorted. ``evaluation`` is empty at holdout 0: thresholds are judged where they were chosen."""

    fit: Rows
    evaluation: Rows


def split_rows(n: int, holdout: float, seed: int) -> Holdout:
    """A random split of n rows by *seed*; the share *holdout* goes to evaluation."""
    if not 0 <= holdout < 1:
        raise UsageError(f"holdout is a share from 0 to below 1, found {holdout}")
    if seed < 0:
        raise UsageError(f"a seed is a whole number of at least 0, found {seed}")
    rows = np.arange(n)
    if holdout == 0:
        return Holdout(rows, rows[:0])
    held = round(n * holdout)
    if held == 0 or held == n:
        raise UsageError(f"{n} samples cannot be split with holdout {holdout}; use --holdout 0 or record more samples")
    order = np.random.default_rng(seed).permutation(n)
    return Holdout(np.sort(order[held:]), np.sort(order[:held]))
