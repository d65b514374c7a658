"""What the boxes of an image say of how well they fit: a plain mean, a learned score, and scores that mean something.

Detectors' scores are not comparable, and a mixture ranks the boxes of several together. So each detector's scores are
replaced by how right a box of such a score is: isotonic regression of the share of the ten IoUs at which it is right.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.scores.linear import Design, fit_linear, predict_linear
from pilotfish.scores.ragged import Ragged
from pilotfish.tasks.box_matching import Boxes, Matches, TrueBoxes, match

F64 = NDArray[np.float64]
FLOOR = 0.05  # TinySaver 4.5: boxes below it say nothing
SURE = 0.5  # score of the boxes that count where a metric or a reference takes an answer as it is
RIDGE = 3.0
SLOPE = 1e-3  # share of the score itself in a fitted one: what isotonic regression ties stays in its order
MOST_KNOTS = 200
ROUNDED = 1e-9  # what sums of shares may be off


def mean_score(boxes: Boxes, parameters: Mapping[str, F64] | None = None) -> F64:
    """float64 (N,): the mean score of an image's boxes of at least .05; 0 without any (TinySaver 4.5)."""
    kept = boxes.score.values >= FLOOR
    return _mean(boxes.score.owner[kept], boxes.score.values[kept], len(boxes))


def statistics(boxes: Boxes) -> F64:
    """float64 (N, 8) of the boxes of at least .05: the logarithm of 1 + their number; largest and least score; the
    sums of s and of s (1 - s) over the scores; their mean, their mean entropy, and the mean logarithm of the area."""
    n, kept = len(boxes), boxes.score.values >= FLOOR
    image, score = boxes.score.owner[kept], np.clip(boxes.score.values[kept], 1e-6, 1 - 1e-6)
    best, least = np.zeros(n), np.ones(n)
    np.maximum.at(best, image, score)
    np.minimum.at(least, image, score)
    number = np.bincount(image, minlength=n)
    entropy = -(score * np.log(score) + (1 - score) * np.log1p(-score))
    area = np.log1p(np.maximum(boxes.box.values[kept, 2] * boxes.box.values[kept, 3], 0.0))
    sums = [np.bincount(image, weights=w, minlength=n) for w in (score, score * (1 - score))]
    means = [_mean(image, w, n) for w in (score, entropy, area)]
    return np.column_stack([np.log1p(number), best, np.where(number, least, 0.0), *sums, *means])


def fit_learned(evidence: Any) -> dict[str, F64]:
    """The quality of the detector's answer, by least squares on its statistics, their squares and products."""
    found = statistics(evidence.outputs)
    shift, unit = found.mean(axis=0), np.maximum(found.std(axis=0), 1e-9)
    dense = _products(found, shift, unit)
    fitted = fit_linear(Design(dense, (), ()), np.asarray(evidence.right, np.float64), RIDGE, "squared")
    return {**fitted, "shift": shift, "unit": unit}


def learned(boxes: Boxes, parameters: Mapping[str, F64]) -> F64:
    """float64 (N,): the expected quality of the answer."""
    dense = _products(statistics(boxes), parameters["shift"], parameters["unit"])
    return predict_linear(dense, (), dict(parameters))


def soft_f1(boxes: Boxes, truth: TrueBoxes) -> F64:
    """float64 (N,) in [0, 1]: 2 Σ s·h / (Σ s + G) over the boxes of an image, of score s (cut to [0, 1]), right at the
    share h of the ten IoUs; G true boxes. 1 where there is nothing to find and nothing was found."""
    matches = match(boxes, truth)
    score = np.clip(matches.score.values, 0, 1) * matches.counts.values.any(axis=1)
    return _f1(matches, score, score * matches.right.values.mean(axis=1))


def image_f1(boxes: Boxes, truth: TrueBoxes) -> F64:
    """float64 (N,): F1 per image, of the boxes of score .5 and more, right at IoU .5."""
    matches = match(boxes, truth, ious=(0.5,))
    said = (matches.score.values >= SURE) & matches.counts.values[:, 0]
    return _f1(matches, said.astype(np.float64), (said & matches.right.values[:, 0]).astype(np.float64))


def fit_scores(boxes: Boxes, truth: TrueBoxes) -> dict[str, F64]:
    """Knots (score, share of the IoUs at which such boxes are right) of one detector; the scores as they are
    where it has no boxes."""
    from scipy.optimize import isotonic_regression

    matches = match(boxes, truth)
    plain = matches.counts.values.all(axis=1)
    score, share = matches.score.values[plain], matches.right.values[plain].mean(axis=1)
    distinct, which, weights = np.unique(score, return_inverse=True, return_counts=True)
    if not len(distinct):
        return {name: np.array([0.0, 1.0]) for name in ("score", "share", "range")}
    fitted = isotonic_regression(np.bincount(which, weights=share) / weights, weights=weights.astype(np.float64)).x
    step = np.cumsum(np.diff(fitted, prepend=fitted[0]) > 0)  # each level stands at the mean of its scores
    total = np.bincount(step, weights=weights)
    knots = np.bincount(step, weights=weights * distinct) / total
    levels = np.bincount(step, weights=weights * fitted) / total
    some = np.unique(np.linspace(0, len(knots) - 1, min(MOST_KNOTS, len(knots))).round().astype(np.intp))
    return {"score": knots[some], "share": levels[some], "range": distinct[[0, -1]]}


def check_scores(parameters: Mapping[str, F64]) -> None:
    """ValueError for anything but what :func:`fit_scores` gives: knots that rise."""
    if set(parameters) != {"score", "share", "range"}:
        raise ValueError(f"expected the adjustments range, score and share, found {', '.join(sorted(parameters))[:60]}")
    score, share, ends = (parameters[name] for name in ("score", "share", "range"))
    if len(score) != len(share) or not len(score) or len(ends) != 2:
        raise ValueError(f"adjustment: {len(score)} scores, {len(share)} shares and a range of {len(ends)} numbers")
    if (np.diff(score) < 0).any() or (np.diff(share) < -ROUNDED).any() or ends[0] > ends[1]:
        raise ValueError("adjustment: scores, shares and their range must rise")
    if share[0] < -ROUNDED or share[-1] > 1 + ROUNDED:
        raise ValueError(f"adjustment: shares lie in [0, 1], found {share[0]:g} to {share[-1]:g}")


def with_scores(boxes: Boxes, parameters: Mapping[str, F64]) -> Boxes:
    """The same boxes with fitted scores, in the same order: a detector alone keeps its mAP."""
    raw, (low, high) = boxes.score.values, parameters["range"].tolist()
    own = 0.5 + 0.5 * np.tanh((2 * raw - low - high) / (high - low or 1.0))  # rises everywhere
    score = (1 - SLOPE) * np.interp(raw, parameters["score"], parameters["share"]) + SLOPE * own
    return Boxes(boxes.box, Ragged(score, boxes.score.offsets), boxes.label)


def _mean(image: NDArray[np.int64], values: F64, n: int) -> F64:
    number = np.bincount(image, minlength=n)
    return np.asarray(np.bincount(image, weights=values, minlength=n) / np.maximum(number, 1))


def _products(found: F64, shift: F64, unit: F64) -> F64:
    z = (found - shift) / unit
    i, j = np.triu_indices(z.shape[1])
    return np.concatenate([z, z[:, i] * z[:, j]], axis=1)


def _f1(matches: Matches, said: F64, right: F64) -> F64:
    image, n = matches.score.owner, len(matches)
    total = np.bincount(image, weights=said, minlength=n) + matches.truth.counts
    return np.where(total > 0, 2 * np.bincount(image, weights=right, minlength=n) / np.maximum(total, 1e-12), 1.0)
