"""Where the saver's mistakes lie by its confidence, and which of them the base corrects (Little-Big, Q1 and Fig. 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pilotfish.documents import as_document
from pilotfish.plan.analysis.ties import groups
from pilotfish.plan.sweep import F64, Mask
from pilotfish.plan.trace import Trace
from pilotfish.scores import to_shown

QUANTILES = tuple(k / 10 for k in range(1, 10))


@dataclass(frozen=True)
class MistakeQuantiles:
    """The saver's mistakes on n samples.

    correctable                 it is wrong and the base right; or in general, its answer is worse than the base's
    uncorrectable               both are wrong; None where answers are not right or wrong
    lost                        it is right, the base wrong, or it is better: what asking the base would spoil
    unscored                    samples without a score, which never exit
    mean_confidence             of the correctable mistakes, as people read it; None when there are none
    confidence_at               (q, the confidence below which a share q of them lies), q = 0.1 … 0.9; empty when none
    found_in_lowest             (q, the share of them among the share q of all samples with the lowest scores);
                                ties count as a random order would have them, unscored samples are the lowest
    """

    n: int
    correctable: int
    uncorrectable: int | None
    lost: int
    unscored: int
    mean_confidence: float | None
    confidence_at: tuple[tuple[float, float], ...]
    found_in_lowest: tuple[tuple[float, float], ...]

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        lists = {
            "confidence_at": [{"q": q, "confidence": c} for q, c in self.confidence_at],
            "found_in_lowest": [{"q": q, "share": s} for q, s in self.found_in_lowest],
        }
        return {**as_document(self), **lists}


def mistake_quantiles(trace: Trace) -> MistakeQuantiles:
    """Counts and quantiles of the saver's mistakes."""
    (s, b), score = trace.quality, trace.values[0]
    correctable = s < b
    at = to_shown(trace.scales[0], score[correctable & np.isfinite(score)])
    quantiles = np.quantile(at, QUANTILES).tolist() if len(at) else []
    return MistakeQuantiles(
        n=len(trace),
        correctable=int(correctable.sum()),
        uncorrectable=int((~s & ~b).sum()) if s.dtype == np.bool_ else None,
        lost=int((s > b).sum()),
        unscored=int(np.isnan(score).sum()),
        mean_confidence=float(at.mean()) if len(at) else None,
        confidence_at=tuple(zip(QUANTILES, quantiles, strict=False)),
        found_in_lowest=share_in_lowest(score, correctable),
    )


def share_in_lowest(
    score: F64, marked: Mask, quantiles: tuple[float, ...] = QUANTILES
) -> tuple[tuple[float, float], ...]:
    """(q, the share of the *marked* samples among the q x N of lowest score) for each q; empty when none is marked.

    A tie group that straddles the cut counts in proportion; q x N need not be whole.
    """
    if not marked.any():
        return ()
    inverse, counts = groups(score)
    ends = np.cumsum(counts)
    inside = np.bincount(inverse[marked], minlength=len(counts))
    cuts = np.asarray(quantiles)[:, None] * len(score)
    share = np.clip((cuts - (ends - counts)) / counts, 0.0, 1.0)
    return tuple(zip(quantiles, (share @ inside / inside.sum()).tolist(), strict=True))
