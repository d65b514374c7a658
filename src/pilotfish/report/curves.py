"""The numbers behind the plots, thinned to what a page can show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pilotfish.plan.sweep import sorted_groups
from pilotfish.report.subject import Pair

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Index = NDArray[np.intp]

MOST_POINTS = 400


def thin(position: F64, keep: Sequence[int] = (), most: int = MOST_POINTS) -> Index:
    """Indices of at most *most* points, evenly spread over *position* (P,), rising; the ends and *keep* stay."""
    if len(position) <= most:
        return np.arange(len(position))
    wanted = np.linspace(position[0], position[-1], most - len(keep))
    spread = np.searchsorted(position, wanted).clip(max=len(position) - 1)
    return np.unique(np.concatenate([spread, [0, len(position) - 1], keep]).astype(np.intp))


@dataclass(frozen=True)
class ExitedAccuracy:
    """Accuracy of saver and base on the samples that exit (TinySaver Fig. 3), by exit ratio.

    r, saver, base  float64 (P,), P at most 400
    match           the point of r_match, or None when nobody may exit
    """

    r: F64
    saver: F64
    base: F64
    match: int | None


def exited_accuracy(pair: Pair) -> ExitedAccuracy:
    """The curve, cut at the ends of tie groups only."""
    order, last = sorted_groups(pair.scored.values)
    ends = np.flatnonzero(last)
    exited = ends + 1
    keep = [pair.match - 1] if pair.match else []
    rows = thin(exited.astype(np.float64), keep)
    saver = np.cumsum(pair.saver_correct[order])[ends] / exited
    base = np.cumsum(pair.base_correct[order])[ends] / exited
    return ExitedAccuracy(
        r=exited[rows] / pair.path.n,
        saver=saver[rows],
        base=base[rows],
        match=int(np.searchsorted(rows, pair.match - 1)) if pair.match else None,
    )
