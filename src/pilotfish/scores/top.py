"""The best classes' log-probabilities, from the compact columns of records."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import RecordsError
from pilotfish.scores.outputs import Outputs

F64 = NDArray[np.float64]
FLOOR = -12.0  # log-probabilities below it say "no" and nothing more


def has_top(outputs: Outputs, k: int = 1) -> bool:
    """Whether the k best classes' log-probabilities are known."""
    return outputs.log_odds is not None and available(outputs) >= k


def available(outputs: Outputs) -> int:
    """How many of the best classes have a log-probability."""
    if outputs.top_logits is None or outputs.log_sum_exp is None or outputs.top_classes is None:
        return 0
    return int(outputs.top_logits.shape[1])


def top_log_probs(outputs: Outputs, k: int, what: str) -> F64:
    """float64 (N, k), falling: log p(1) … log p(k). The first comes from the log-odds, which do not saturate.

    Fewer than k stored classes are filled with -inf where there are no more classes; RecordsError without logits.
    """
    if outputs.top_logits is None or outputs.log_sum_exp is None or outputs.log_odds is None:
        found = "a confidence" if outputs.confidence is not None else "classes"
        raise RecordsError(
            f"{what} needs logits or probabilities of the best classes, and these records hold {found} alone: "
            "use score max_prob and method sweep, or record the model"
        )
    z = outputs.top_logits[:, :k].astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        logp = z - outputs.log_sum_exp[:, None]
        logp[:, 0] = -np.log1p(np.exp(-outputs.log_odds))
    if logp.shape[1] < k:
        logp = np.pad(logp, ((0, 0), (0, k - logp.shape[1])), constant_values=-np.inf)
    return np.minimum(logp, 0.0)


def log_rest(outputs: Outputs, logp: F64) -> F64:
    """float64 (N,): log of the probability outside the columns of *logp*; -inf where nothing is left."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        others = -np.logaddexp(0.0, np.asarray(outputs.log_odds))  # log(1 - p1)
        known = np.exp(logp[:, 1:] - others[:, None]).sum(axis=1)
        return np.asarray(others + np.where(known < 1 - 1e-6, np.log1p(-np.minimum(known, 1.0)), -np.inf))
