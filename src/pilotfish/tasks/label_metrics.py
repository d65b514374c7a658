"""Metrics of many labels per sample: F1 by counts that add up, and average precision of every routing between models.

N samples, C classes. Decisions and truth are bool (N, C); 0 of 0 (nothing to find, nothing found) counts as right.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.scores.outputs import F64, I64, Mask

MOVED = 20  # samples from which on a routing is counted anew
UNFITTED = 0.5  # the decision threshold of a model whose own is not fitted


def f1_counts(decision: Mask, truth: Mask) -> F64:
    """float64 (N, 4): true positives, false positives, false negatives and true negatives of each sample, over all
    classes: C in sum."""
    hit = np.count_nonzero(decision & truth, axis=1)
    said, there = np.count_nonzero(decision, axis=1), np.count_nonzero(truth, axis=1)
    neither = truth.shape[1] - said - there + hit
    return np.stack([hit, said - hit, there - hit, neither], axis=1).astype(np.float64)


def f1_parts(counts: F64) -> tuple[F64, F64, float, float]:
    """2 TP and FP + FN of :func:`f1_counts`, and the most that a sample can have of them: 2 C and C, whatever it is."""
    classes = float(counts[0].sum())
    return 2 * counts[:, 0], counts[:, 1] + counts[:, 2], 2 * classes, classes


def micro_f1(sums: F64) -> F64:
    """2 TP / (2 TP + FP + FN) of sums (..., 4) of :func:`f1_counts`; 1 where nothing is true or found."""
    hit = 2 * sums[..., 0]
    return _ratio(hit, hit + sums[..., 1] + sums[..., 2])


def class_counts(decision: Mask, truth: Mask) -> F64:
    """float64 (N, 2C): for each class whether it is found, then in how many of answer and truth it is."""
    both = decision.astype(np.float64) + truth
    return np.concatenate([decision & truth, both], axis=1)


def macro_f1(sums: F64) -> F64:
    """The mean of F1 over the classes that occur in truth or answers, of sums (..., 2C) of :func:`class_counts`; 1
    where none occurs."""
    classes = sums.shape[-1] // 2
    hit, size = 2 * sums[..., :classes], sums[..., classes:]
    occurs = size > 0
    f1 = np.where(occurs, hit / np.maximum(size, 1.0), 0.0)
    return _ratio(f1.sum(axis=-1), occurs.sum(axis=-1).astype(np.float64))


def class_f1(sums: F64) -> F64:
    """float64 (C,): F1 of each class, of sums (2C,) of :func:`class_counts`; NaN for a class that does not occur."""
    classes = len(sums) // 2
    hit, size = 2 * sums[:classes], sums[classes:]
    return np.where(size > 0, hit / np.maximum(size, 1.0), np.nan)


def sample_f1(decision: Mask, truth: Mask) -> F64:
    """float64 (N,): F1 of each sample's labels; 1 for an empty answer where no label is true."""
    return micro_f1(f1_counts(decision, truth))


def _ratio(above: Any, below: Any) -> F64:
    return np.asarray(np.where(below > 0, above / np.where(below > 0, below, 1.0), 1.0), np.float64)


def best_threshold(probs: NDArray[np.floating], truth: Mask) -> float:
    """The decision threshold t of largest micro F1 where a class is said from p >= t on; exact over all thresholds.

    It lies halfway between two probabilities of the data. Of equal ones the largest; 0.5 where no label is true. Rows
    that are not finite are left out.
    """
    fine = np.isfinite(probs).all(axis=1)
    p, y = np.asarray(probs, np.float64)[fine].ravel(), truth[fine].ravel()
    total = np.count_nonzero(y)
    if not total:
        return UNFITTED
    order = np.argsort(-p, kind="stable")
    falling, hit = p[order], np.cumsum(y[order])
    last = np.append(falling[1:] < falling[:-1], True)
    f1 = 2 * hit / (np.arange(1, len(p) + 1) + total)
    best = int(np.flatnonzero(last)[f1[last].argmax()])
    lower = falling[best + 1] if best + 1 < len(p) else falling[best]
    return float((falling[best] + lower) / 2)


@dataclass(frozen=True)
class RankedLabels:
    """What one model says of N samples, to be ranked within each class: probs float (N, C), truth bool (N, C).

    merged  the ranking together with other models, kept from one routing to the next
    """

    probs: NDArray[np.floating]
    truth: Mask
    merged: dict[tuple[int, ...], _Merged] = field(default_factory=dict, compare=False, repr=False)

    def __len__(self) -> int:
        return len(self.probs)

    def take(self, rows: NDArray[np.intp]) -> RankedLabels:
        """The same of some rows."""
        return RankedLabels(self.probs[rows], self.truth[rows])


@dataclass(frozen=True)
class _Merged:
    """All K N answers of each class, by falling probability.

    answer  int64 (C, K N), which answer stands at each place: model x N + sample
    place   int64 (K N, C), the place of each
    true    bool (K N, C), whether it is of a sample that is positive
    by      int64 (P,), the answers that are: those of true samples, for each class in turn
    owner   int64 (P,), the class of each
    level   int64 (P,), the last place of its probability: equal probabilities count together
    parts   the models' states: alive as long as their numbers are a key
    """

    answer: I64
    place: I64
    true: Mask
    by: I64
    owner: I64
    level: I64
    parts: Sequence[RankedLabels]


def mean_average_precision(states: Sequence[RankedLabels], answered_by: I64) -> float:
    """The mean over classes of average precision, where each of N samples is answered by one of K models.

    states       of each model
    answered_by  int64 (N,), which of them answers each sample; -1: the sample is left out

    Average precision is the mean over true samples of the precision down to their probability, ties together (what
    scikit-learn computes). Classes without a true sample are left out; 0 where none is left.
    """
    return float(average_precision_along(states, [answered_by])[0])


def average_precision_along(states: Sequence[RankedLabels], routings: Iterable[I64]) -> F64:
    """float64 (P,): :func:`mean_average_precision` of P routings, quickly where neighbours differ in few samples."""
    values = [_mean(found) for found in _along(states, routings)]
    return np.array(values, np.float64)


def class_average_precision(states: Sequence[RankedLabels], answered_by: I64) -> F64:
    """float64 (C,): average precision of each class; NaN for one without a true sample."""
    return next(_along(states, [answered_by]))


def _mean(by_class: F64) -> float:
    known = by_class[~np.isnan(by_class)]
    return float(known.mean()) if len(known) else 0.0


def _along(states: Sequence[RankedLabels], routings: Iterable[I64]) -> Iterator[F64]:
    """The average precision of each class, routing by routing. Counted are, at every answer to a positive sample, the
    answers and the hits down to its probability; a sample that moves changes these by what it leaves and where it goes.
    """
    key = tuple(map(id, states))
    kept = states[0].merged
    if key not in kept:
        kept.clear()
        kept[key] = _merge(states)
    ranked, n, classes = kept[key], len(states[0]), states[0].probs.shape[1]
    before: I64 | None = None
    for routing in routings:
        now = np.where(routing < 0, -1, routing * n + np.arange(n))
        moved = None if before is None else np.flatnonzero(now != before)
        if moved is None or len(moved) > MOVED:
            inside = np.zeros(len(ranked.place), bool)
            inside[now[now >= 0]] = True
            said, hit = _counted(ranked, inside)
        elif before is not None:
            for answers, sign in ((before[moved], -1), (now[moved], 1)):
                for one in answers[answers >= 0].tolist():
                    inside[one] = sign > 0
                    down = ranked.place[one][ranked.owner] <= ranked.level
                    said += sign * down
                    hit += sign * (down & ranked.true[one][ranked.owner])
        before = now
        counts = inside[ranked.by]
        owner, precision = ranked.owner[counts], hit[counts] / said[counts]
        true = np.bincount(owner, minlength=classes)
        yield np.where(true > 0, np.bincount(owner, precision, classes) / np.maximum(true, 1), np.nan)


def _counted(ranked: _Merged, inside: Mask) -> tuple[I64, I64]:
    """(answers, hits) down to the probability of every answer to a positive sample."""
    said = np.cumsum(inside[ranked.answer], axis=1, dtype=np.int64)
    rows = np.arange(len(ranked.answer))[:, None]
    hit = np.cumsum(inside[ranked.answer] & ranked.true[ranked.answer, rows], axis=1, dtype=np.int64)
    return said[ranked.owner, ranked.level], hit[ranked.owner, ranked.level]


def _merge(states: Sequence[RankedLabels]) -> _Merged:
    probs, true = (np.concatenate([getattr(one, name) for one in states]) for name in ("probs", "truth"))
    length, classes = probs.shape
    order = np.argsort(-probs.T, axis=1, kind="stable")
    place = np.empty((length, classes), np.int64)
    place[order, np.arange(classes)[:, None]] = np.arange(length)
    falling = np.take_along_axis(probs.T, order, axis=1)
    ends = np.ones((classes, length), bool)
    ends[:, :-1] = falling[:, 1:] != falling[:, :-1]
    last = np.flatnonzero(ends)
    owner, by = np.nonzero(true.T)
    level = last[np.searchsorted(last, owner * length + place[by, owner])] - owner * length
    return _Merged(order, place, true, by, owner, level, tuple(states))
