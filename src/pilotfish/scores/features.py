"""What a learned score looks at: the saver's best log-probabilities, its margin and entropy, its two best classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pilotfish.scores.confidence import max_prob, score
from pilotfish.scores.outputs import Outputs
from pilotfish.scores.top import available, has_top, top_log_probs

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
DEPTH = 10  # best classes looked at
LOWEST, HIGHEST = -30.0, 30.0  # log-odds and log-probabilities beyond say no more


def features(outputs: Outputs, knots: F64 | None = None) -> tuple[F64, tuple[I64, ...]]:
    """(dense float64 (N, F), class indices of the predicted class and, with logits, of the runner-up).

    knots  for records with a bare confidence: bends of a piecewise linear function of it
    """
    if has_top(outputs, 2):
        logp = np.maximum(top_log_probs(outputs, min(DEPTH, available(outputs)), "a learned score"), LOWEST)
        log_odds = np.clip(np.asarray(outputs.log_odds), LOWEST, HIGHEST)
        lead = -np.expm1(-np.maximum(score("margin", outputs).values, 0.0))
        nats = np.exp(-score("entropy", outputs).values)
        dense = np.column_stack([log_odds, logp, lead, nats])
        groups: tuple[I64, ...] = (outputs.prediction, np.asarray(outputs.top_classes)[:, 1].astype(np.int64))
    else:
        c = max_prob(outputs).values
        bends = [np.maximum(c - k, 0.0) for k in (() if knots is None else knots)]
        dense = np.column_stack([c, *bends])
        groups = (outputs.prediction,)
    return np.nan_to_num(dense, nan=0.0, posinf=HIGHEST, neginf=LOWEST), groups


def confidence_knots(outputs: Outputs) -> F64:
    """Quartiles of a bare confidence; none where log-probabilities are known."""
    if has_top(outputs, 2):
        return np.empty(0)
    c = max_prob(outputs).values
    c = c[np.isfinite(c)]
    return np.unique(np.quantile(c, [0.25, 0.5, 0.75])) if len(c) else np.empty(0)
