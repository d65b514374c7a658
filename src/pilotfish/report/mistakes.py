"""The saver's mistakes by its confidence, and what the base makes of them (Little-Big Fig. 2), as numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pilotfish.cascade import leaves
from pilotfish.plan.sweep import F64, I64
from pilotfish.plan.trace import Trace
from pilotfish.scores import Scale, to_shown

BINS = 30
LOWEST, HIGHEST = -4.0, 20.0  # log-odds drawn; what lies beyond counts in the outermost bins


@dataclass(frozen=True)
class Mistakes:
    """Samples that saver and base do not both get right.

    edges      float64 (30 + 1,), in the score's own unit; values outside count in the outermost bins
    corrected  int64 (30,), the saver is wrong, the base right
    shared     int64 (30,), both are wrong
    spoiled    int64 (30,), the saver is right, the base wrong
    """

    edges: F64
    corrected: I64
    shared: I64
    spoiled: I64
    counts: MistakeCounts


@dataclass(frozen=True)
class MistakeCounts:
    """Totals over all samples, and how they fall about the threshold.

    corrected_kept  corrected mistakes that do exit: what the cascade loses
    spoiled_kept    right answers that exit before the base spoils them: what it wins
    median, q90     confidences, as people read them, below which half and 90 % of the corrected mistakes lie;
                    None when there are none
    unscored        samples without a finite score
    """

    corrected: int
    shared: int
    spoiled: int
    corrected_kept: int
    spoiled_kept: int
    median: float | None
    q90: float | None
    unscored: int


def mistakes(pair: Trace, threshold: float) -> Mistakes:
    """Histograms of the three kinds. Where answers are not right or wrong, corrected are those worse than the base's,
    spoiled those that are better, and none is shared."""
    (s, b), score = pair.quality, pair.values[0]
    neither = ~s & ~b if s.dtype == np.bool_ else np.zeros(len(s), np.bool_)
    kinds = {"corrected": s < b, "shared": neither, "spoiled": s > b}
    finite = np.isfinite(score)
    edges = _edges(score[finite & (kinds["corrected"] | neither | kinds["spoiled"])], pair.scales[0], threshold)
    bars = {kind: _histogram(score[mask & finite], edges) for kind, mask in kinds.items()}
    exits = leaves(score, [threshold])
    at = to_shown(pair.scales[0], score[kinds["corrected"] & finite])
    median, q90 = np.quantile(at, [0.5, 0.9]).tolist() if len(at) else (None, None)
    return Mistakes(
        edges=edges,
        corrected=bars["corrected"],
        shared=bars["shared"],
        spoiled=bars["spoiled"],
        counts=MistakeCounts(
            corrected=int(kinds["corrected"].sum()),
            shared=int(kinds["shared"].sum()),
            spoiled=int(kinds["spoiled"].sum()),
            corrected_kept=int((kinds["corrected"] & exits).sum()),
            spoiled_kept=int((kinds["spoiled"] & exits).sum()),
            median=median,
            q90=q90,
            unscored=int((~finite).sum()),
        ),
    )


def _histogram(score: NDArray[np.float64], edges: F64) -> I64:
    return np.histogram(score.clip(edges[0], edges[-1]), edges)[0].astype(np.int64)


def _edges(score: F64, scale: Scale, threshold: float) -> F64:
    """Bins that hold the mistakes and the threshold."""
    shown = np.append(score, threshold) if np.isfinite(threshold) else score
    if scale == "log_odds":
        shown = shown.clip(LOWEST, HIGHEST)
    low, high = (float(shown.min()), float(shown.max())) if len(shown) else (0.0, 1.0)
    if low == high:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, BINS + 1)
