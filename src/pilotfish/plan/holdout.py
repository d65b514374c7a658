"""Splitting samples into parts to fit on, to certify on and to judge by."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import UsageError

Rows = NDArray[np.intp]


@dataclass(frozen=True)
class Holdout:
    """Row indices, sorted. ``evaluation`` is empty at holdout 0: thresholds are judged where they were chosen.

    fit      scores and paths are fitted here, and thresholds chosen unless they are certified
    certify  thresholds are chosen here by a certificate; empty without one
    """

    fit: Rows
    evaluation: Rows
    certify: Rows = field(default_factory=lambda: np.empty(0, np.intp))


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


def split_for_certificate(n: int, holdout: float, seed: int, fitted: bool) -> Holdout:
    """As :func:`split_rows`; the calibration part is halved into fit and certify where something is *fitted*, and
    is all for the certificate where nothing is."""
    parts = split_rows(n, holdout, seed)
    if not fitted:
        return Holdout(parts.fit[:0], parts.evaluation, parts.fit)
    if len(parts.fit) < 2:
        raise UsageError(f"{n} samples cannot be split into fit, certify and evaluation; record more samples")
    order = np.random.default_rng([seed, 1]).permutation(parts.fit)
    half = len(order) // 2
    return Holdout(np.sort(order[:half]), parts.evaluation, np.sort(order[half:]))
