"""Scores of many labels per sample: how safe all of a sample's labels are.

mean_margin  mean over classes of |p - t|, t the model's own decision threshold
mean_half    mean over classes of |p - 0.5| (Little-Big A.1.2): an answer without labels looks certain
max_prob     the largest probability
learned      what the saver's answer is expected to gain on the base's, by the quality of both: linear in sorted
             probabilities and margins, with an offset for the likeliest label
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.scores import Evidence, ScoreKind
from pilotfish.scores.linear import Design, fit_linear, predict_linear
from pilotfish.scores.outputs import F64, I64
from pilotfish.tasks.label_metrics import UNFITTED

DEPTH = 5  # largest probabilities, and smallest margins, that are looked at one by one
RIDGE = 3.0
LEAST = 1e-4  # probabilities nearer to 0 or 1 say no more


def _margins(outputs: Any) -> F64:
    return np.asarray(np.abs(_probs(outputs) - outputs.threshold[:, None]))


def _probs(outputs: Any) -> F64:
    return np.ascontiguousarray(outputs.probs, np.float64)  # so that a sample's sum is the same in every batch


def _mean_margin(outputs: Any, _: Mapping[str, F64]) -> F64:
    return np.asarray(_margins(outputs).mean(axis=1))


def _mean_half(outputs: Any, _: Mapping[str, F64]) -> F64:
    return np.asarray(np.abs(_probs(outputs) - UNFITTED).mean(axis=1))


def _max_prob(outputs: Any, _: Mapping[str, F64]) -> F64:
    return np.asarray(_probs(outputs).max(axis=1))


def features(outputs: Any) -> tuple[F64, tuple[I64]]:
    """(dense float64 (N, F), (likeliest class int64 (N,), C where no label is said))."""
    p, margins = np.nan_to_num(_probs(outputs), nan=0.0), np.nan_to_num(_margins(outputs), nan=0.0)
    said = p >= outputs.threshold[:, None]
    count = said.sum(axis=1)
    dense = np.column_stack(
        [
            np.sort(p, axis=1)[:, ::-1][:, :DEPTH],
            np.sort(margins, axis=1)[:, :DEPTH],
            margins.mean(axis=1),
            count == 0,
            count == 1,
            count,
            p.sum(axis=1),
            (p * (1 - p)).sum(axis=1),
            _nats(p).sum(axis=1),
            np.where(said, 0.0, p).sum(axis=1),
        ]
    )
    return dense, (np.where(count == 0, p.shape[1], p.argmax(axis=1)).astype(np.int64),)


def _nats(p: F64) -> NDArray[Any]:
    q = np.clip(p, LEAST, 1 - LEAST)
    return np.asarray(-(q * np.log(q) + (1 - q) * np.log1p(-q)))


def _fit(evidence: Evidence) -> dict[str, F64]:
    dense, groups = features(evidence.outputs)
    gain = evidence.right.astype(np.float64) - evidence.base_right
    classes = vars(evidence.outputs)["probs"].shape[1]
    return fit_linear(Design(dense, groups, (classes + 1,)), gain, RIDGE, "squared")


def _learned(outputs: Any, parameters: Mapping[str, F64]) -> F64:
    dense, groups = features(outputs)
    found = predict_linear(dense, groups, dict(parameters))
    return np.where(np.isfinite(outputs.probs).all(axis=1), found, np.nan)


LABEL_SCORES: dict[str, ScoreKind] = {
    kind.name: kind
    for kind in (
        ScoreKind("mean_margin", _mean_margin, candidate=True),
        ScoreKind("mean_half", _mean_half),
        ScoreKind("max_prob", _max_prob, candidate=True),
        ScoreKind("learned", _learned, fit=_fit, candidate=True, uses_base=True, ties=True),
    )
}
