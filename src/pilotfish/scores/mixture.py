"""Probabilities of several models averaged: Little-Big's ensemble (Eq. 8) and running averages of all stages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pilotfish.scores.outputs import TOP_K, Outputs, available, log_rest, top_log_probs

F64 = NDArray[np.float64]


def mix(outputs: Sequence[Outputs], weights: Sequence[float]) -> Outputs:
    """Outputs of sum_i w_i p_i, from the stored best classes of each model; exact where all classes are stored.

    A class that a model did not store counts as 0 for it: it is less likely than all that it stored. A model whose
    outputs are not finite has no say, and the others share its weight.
    RecordsError for records without probabilities.
    """
    columns, masses, outside = [], [], np.zeros(len(outputs[0]))
    known = [top_log_probs(one, min(TOP_K, max(available(one), 1)), "an ensemble") for one in outputs]
    for one, logp, weight in zip(outputs, known, _shares(outputs, weights), strict=True):
        k = logp.shape[1]
        columns.append(np.asarray(one.top_classes)[:, :k].astype(np.int64))
        masses.append(np.where(weight[:, None] > 0, weight[:, None] * np.exp(logp), 0.0))
        outside += np.where(weight > 0, weight * np.exp(log_rest(one, logp)), 0.0)
    classes, mass = np.concatenate(columns, axis=1), np.concatenate(masses, axis=1)
    total, first = _joined(classes, mass)
    order = np.lexsort((classes, -total), axis=1)  # ties by the lower class, as argmax has it
    k = min(TOP_K, classes.shape[1])
    ranked, sorted_total = np.take_along_axis(classes, order, axis=1), np.take_along_axis(total, order, axis=1)
    others = np.take_along_axis(np.where(first, total, 0.0), order, axis=1)[:, 1:].sum(axis=1) + outside
    bad = np.all([np.isnan(np.asarray(one.log_odds)) for one in outputs], axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_odds = np.log(sorted_total[:, 0]) - np.log(others)
        top_logits = np.log(np.maximum(sorted_total[:, :k], 0.0)).astype(np.float32)  # repeats come last, as nothing
    return Outputs(
        prediction=ranked[:, 0],
        log_odds=np.where(bad, np.nan, np.minimum(log_odds, np.finfo(np.float64).max)),
        log_sum_exp=np.zeros(len(bad)),
        top_classes=ranked[:, :k].astype(np.int32),
        top_logits=top_logits,
    )


def _shares(outputs: Sequence[Outputs], weights: Sequence[float]) -> F64:
    """float64 (models, N): the weights among the models that are finite; equal where those have none."""
    good = np.stack([~np.isnan(np.asarray(one.log_odds)) for one in outputs])
    shares = good * np.asarray(weights, np.float64)[:, None]
    shares = np.where(shares.sum(axis=0) > 0, shares, good)
    return np.asarray(shares / np.maximum(shares.sum(axis=0), 1e-300))


def _joined(classes: NDArray[np.int64], mass: F64) -> tuple[F64, NDArray[np.bool_]]:
    """(mass of each entry's class at its first place and -1 at repeats, whether it is the first place)."""
    total, first = np.zeros_like(mass), np.ones(mass.shape, bool)
    for j in range(classes.shape[1]):
        same = classes == classes[:, j : j + 1]
        total += same * mass[:, j : j + 1]
        first[:, j + 1 :] &= ~same[:, j + 1 :]
    return np.where(first, total, -1.0), first
