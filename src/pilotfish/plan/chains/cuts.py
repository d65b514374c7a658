"""Cuts of one stage: thresholds worth trying, and the first of them at which each sample exits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pilotfish.plan.sweep import F64, I64, Mask, sorted_groups

Rows = NDArray[np.intp]


@dataclass(frozen=True)
class Ranking:
    """Samples of one stage from the safest score down, and its distinct thresholds.

    order       intp (known,), samples by falling score, NaN left out
    ends        int64 (G+1,), how many exit at each distinct threshold: 0 first, then each end of a group of ties
    thresholds  float64 (G+1,), +inf first; the last is -inf where all N samples exit
    n           N
    """

    order: Rows
    ends: I64
    thresholds: F64
    n: int


@dataclass(frozen=True)
class Cuts:
    """M thresholds of one stage, falling.

    thresholds  float64 (M,)
    exited      int64 (M,), samples with score >= threshold
    first       intp (N,), the first cut at which a sample exits, M where none lets it go
    """

    thresholds: F64
    exited: I64
    first: Rows

    def __len__(self) -> int:
        return len(self.thresholds)


def ranking(score: F64) -> Ranking:
    """Sort one stage's scores (N,), all below +inf; NaN never exits."""
    order, last = sorted_groups(score)
    ends = np.concatenate([[0], np.flatnonzero(last) + 1]).astype(np.int64)
    thresholds = np.concatenate([[np.inf], score[order[ends[1:] - 1]]])
    if ends[-1] == len(score):
        thresholds[-1] = -np.inf
    return Ranking(order, ends, thresholds, len(score))


def cuts_at(ranked: Ranking, keep: Rows) -> Cuts:
    """The cuts with indices *keep* (rising) among the distinct thresholds."""
    exited = ranked.ends[keep]
    first = np.full(ranked.n, len(keep), np.intp)
    per_cut = np.diff(np.concatenate([[0], exited]))
    first[ranked.order[: exited[-1]]] = np.repeat(np.arange(len(keep)), per_cut)
    return Cuts(ranked.thresholds[keep], exited, first)


def quantile_cuts(ranked: Ranking, bins: int) -> Cuts:
    """bins + 1 cuts that let about 0, 1/bins, … 1 of the samples exit; repeated where ties leave fewer."""
    targets = np.linspace(0, ranked.ends[-1], bins + 1)
    right = np.searchsorted(ranked.ends, targets).clip(max=len(ranked.ends) - 1)
    left = np.maximum(right - 1, 0)
    nearer = np.abs(ranked.ends[left] - targets) < np.abs(ranked.ends[right] - targets)
    return cuts_at(ranked, np.where(nearer, left, right))


def cuts_before_losses(ranked: Ranking, losing: Mask) -> Cuts:
    """The cuts whose next group of ties holds a *losing* sample (bool (N,)), and the last cut."""
    counts = np.concatenate([[0], np.cumsum(losing[ranked.order])])[ranked.ends]
    return cuts_at(ranked, np.append(np.flatnonzero(np.diff(counts)), len(ranked.ends) - 1))
