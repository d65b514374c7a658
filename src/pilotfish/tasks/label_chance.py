"""Whether a model of many labels is better than one answer for all, and whether another order of its classes is."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.scores.outputs import F64, I64, Mask
from pilotfish.tasks.chance import FEWEST, LARGEST, MARGIN, SHOWN, Verdict
from pilotfish.tasks.label_metrics import best_threshold, f1_counts, micro_f1
from pilotfish.text import examples, quantity

CLEARLY = 1.645  # standard errors: 5 % in the one-sided test
ROWS = 10_000  # samples that an order of the classes is looked for on


def judge_labels(truth: Mask, probs: NDArray[np.floating]) -> Verdict:
    """Compare probabilities (N, C) with labels bool (N, C), both of labelled samples.

    The model answers by the threshold that suits it best; chance is the most frequent classes, as many as suit best,
    for every sample. Better means a micro F1 that is larger by 1.645 standard errors of the paired difference. An
    order of the classes is fitted on one half of the samples and named where it wins five points on the other.
    """
    fine = np.isfinite(probs).all(axis=1)
    truth, probs = truth[fine], probs[fine]
    n = len(truth)
    if not n:
        return Verdict(0, 0.0, 0.0)
    if not truth.any():
        nothing = f"no label is true in any of the {n:,} samples: by F1 every model is as good as any other"
        return Verdict(n, 0.0, 0.0, n >= FEWEST, nothing)
    counts, level_counts = _counts(truth, probs), f1_counts(_constant(truth), truth)
    value, level = (float(micro_f1(c.sum(axis=0))) for c in (counts, level_counts))
    better = value > level and _lead(counts, level_counts, level) > CLEARLY
    reached, words = _other_order(truth, probs, value)
    shown = f"micro F1 {100 * value:.1f}%, by the threshold that suits it best,"
    explanation = f"; {words}" if words else ""
    same = f"answering the most frequent labels to everything ({100 * level:.1f}%"
    if better:
        note = f"{shown} ({quantity(n, 'sample')}){explanation}" if words else None
    elif n < FEWEST:
        note = f"{shown} on {quantity(n, 'sample')} only is not clearly better than {same}){explanation}"
    else:
        note = f"{shown} is no better than {same}, {quantity(n, 'sample')}){explanation}"
    bad = n >= FEWEST and (not better or 1 - reached <= (1 - value) / 2)
    return Verdict(n, value, level, bad and note is not None, note)


def _counts(truth: Mask, probs: NDArray[Any]) -> F64:
    return f1_counts(probs >= best_threshold(probs, truth), truth)


def _constant(truth: Mask) -> Mask:
    """bool (N, C): the answer of largest micro F1 among those that are the same for all samples."""
    times = truth.sum(axis=0)
    order = np.argsort(-times, kind="stable")
    said = np.arange(1, len(times) + 1)
    f1 = 2 * np.cumsum(times[order]) / (len(truth) * said + times.sum())
    answer = np.zeros(len(times), bool)
    answer[order[: int(f1.argmax()) + 1]] = True
    return np.broadcast_to(answer, truth.shape)


def _lead(counts: F64, others: F64, level: float) -> float:
    """By how many standard errors F1 of *counts* is above that of *others*, *level*, to first order."""
    gain = [2 * c[:, 0] - level * (2 * c[:, 0] + c[:, 1] + c[:, 2]) for c in (counts, others)]
    difference = gain[0] - gain[1]
    error = float(difference.std()) / math.sqrt(len(difference))
    return float(difference.mean()) / error if error > 0 else math.inf


def _other_order(truth: Mask, probs: NDArray[Any], value: float) -> tuple[float, str]:
    """(the micro F1 in the order of the classes that fits far better, that order in words); *value* and "" where none
    does."""
    rows = np.random.default_rng(0).permutation(len(truth))[:ROWS]
    fit, judged = rows[: len(rows) // 2], rows[len(rows) // 2 :]
    if not len(fit) or not 1 < truth.shape[1] <= LARGEST:
        return value, ""
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError:
        return value, ""
    order = _assigned(_together(truth[fit], probs[fit]), linear_sum_assignment)
    if (order == np.arange(len(order))).all():
        return value, ""
    y, p = truth[judged], probs[judged]
    own, other = (float(micro_f1(_counts(y, q).sum(axis=0))) for q in (p, p[:, order]))
    if other < own + MARGIN:
        return value, ""
    moved = [f"{c} → {order[c]}" for c in np.argsort(-truth.sum(axis=0), kind="stable").tolist() if order[c] != c]
    return other, (
        f"another order of the classes ({examples(moved, SHOWN)}) would give {100 * other:.1f}% on the half of the "
        "samples that did not choose it (are the labels in the model's class order?)"
    )


def _together(truth: Mask, probs: NDArray[Any]) -> F64:
    """float64 (C, C): how far each label goes with each probability, as a correlation; 0 for what does not vary."""
    both = [np.asarray(a, np.float64) - a.mean(axis=0) for a in (truth, probs)]
    y, p = (a / np.where((size := np.sqrt((a**2).sum(axis=0))) > 0, size, 1.0) for a in both)
    return np.asarray(y.T @ p)


def _assigned(together: F64, assign: Any) -> I64:
    """int64 (C,): the probability that goes with each label; of equals the one at hand."""
    _, columns = assign(together + 1e-3 * np.eye(len(together)), maximize=True)
    return np.asarray(columns, np.int64)
