"""How well a score ranks the saver's failures: AUROC and AURC, beside the calibration error.

A cascade asks its score for an order alone, so the ranking of failures says more of the saving than calibration does
(an overconfident saver with a good order is a good saver). Two things may be ranked: "the saver is right", and "the
saver is at least as good as the base", which is what exiting needs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pilotfish.errors import UsageError
from pilotfish.plan.analysis.ties import falling_means, midranks
from pilotfish.plan.sweep import F64, Mask
from pilotfish.plan.trace import Trace
from pilotfish.scores import to_shown

BINS = 15


@dataclass(frozen=True)
class Ranked:
    """One event under one score.

    share   of the samples where it holds
    auroc   None where it always or never holds
    aurc    area under risk against coverage, the risk being that the event fails
    e_aurc  aurc minus that of the best order
    """

    share: float
    auroc: float | None
    aurc: float
    e_aurc: float


@dataclass(frozen=True)
class FailureRanking:
    """Of n samples.

    right    "saver right"; None where answers are not right or wrong
    as_good  "saver at least as good as the base"
    ece      of the confidence as a probability of being right, 15 bins of equal width; None where the score is no
             probability, or answers are not right or wrong
    """

    n: int
    right: Ranked | None
    as_good: Ranked
    ece: float | None


def failure_ranking(trace: Trace, confidence: F64 | None = None) -> FailureRanking:
    """Both events under the saver's score.

    confidence  float64 (N,), the saver's max-softmax, for the ECE; by default the score as people read it
    """
    (saver, base), score = trace.quality, trace.values[0]
    shown = to_shown(trace.scales[0], score) if confidence is None else confidence
    known = shown[np.isfinite(shown)]
    binary = saver.dtype == np.bool_
    probable = binary and len(known) > 0 and bool(((known >= 0) & (known <= 1)).all())
    return FailureRanking(
        n=len(trace),
        right=ranked(score, saver) if binary else None,
        as_good=ranked(score, saver >= base),
        ece=expected_calibration_error(shown, saver) if probable else None,
    )


def ranked(score: F64, holds: Mask) -> Ranked:
    """All figures of one event; score float64 (N,), NaN lowest; holds bool (N,)."""
    area = aurc(score, holds)
    return Ranked(float(holds.mean()), auroc(score, holds), area, area - best_aurc(len(holds), int((~holds).sum())))


def auroc(score: F64, holds: Mask) -> float | None:
    """P(score of a sample where it holds > score of one where it does not), ties a half (Mann-Whitney, by midranks).

    None where it always or never holds. NaN is below every number.
    """
    positive = int(holds.sum())
    negative = len(holds) - positive
    if not positive or not negative:
        return None
    above = midranks(score)[holds].sum() - positive * (positive + 1) / 2
    return float(above / (positive * negative))


def aurc(score: F64, holds: Mask) -> float:
    """Mean over k = 1 … N of the share of failures among the k samples of largest score (Geifman and El-Yaniv).

    Exact with ties: the expectation over a random order inside each group, where every sample carries the mean of
    its group. NaN is below every number.
    """
    failures = np.cumsum(falling_means(score, (~holds).astype(np.float64)))
    return float((failures / np.arange(1, len(holds) + 1)).mean())


def best_aurc(n: int, failures: int) -> float:
    """The AURC of an order that puts every failure last."""
    k = np.arange(1, n + 1)
    return float((np.maximum(k - (n - failures), 0) / k).mean())


def expected_calibration_error(confidence: F64, correct: Mask, bins: int = BINS) -> float:
    """Mean over samples of |accuracy - mean confidence| of their bin, bins (k/B, (k+1)/B] and 0 in the first.

    confidence float64 (N,) in 0..1, what is not finite left out. UsageError when none is left, or one is out of range.
    """
    known = np.isfinite(confidence)
    p, right = confidence[known], correct[known]
    if not len(p) or p.min() < 0 or p.max() > 1:
        raise UsageError("a calibration error needs confidences between 0 and 1, and at least one")
    place = (np.ceil(p * bins) - 1).clip(0).astype(np.intp)
    gaps = np.bincount(place, weights=right - p, minlength=bins)
    return float(np.abs(gaps).sum() / len(p))
