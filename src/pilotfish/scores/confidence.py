"""Confidence scores of classifiers that need no fitting: one number per sample, larger means safer to exit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import RecordsError
from pilotfish.scores.outputs import TOP_K, Outputs, available, log_rest, top_log_probs
from pilotfish.scores.score_kind import Scale

F64 = NDArray[np.float64]


def max_prob(outputs: Outputs) -> F64:
    """The largest softmax probability (TinySaver 3.1, Little-Big Eq. 4), compared as its log-odds.

    Records without logits fall back to their imported confidence, as it is.
    """
    if outputs.log_odds is not None:
        return outputs.log_odds
    if outputs.confidence is not None:
        return outputs.confidence
    raise RecordsError(
        "max_prob needs probabilities, logits or a confidence, and these records hold classes alone; "
        "such a model can be the base, not a saver"
    )


def max_prob_scale(outputs: Outputs) -> Scale:
    """Log-odds; a bare confidence may be anything."""
    return "log_odds" if outputs.log_odds is not None else "identity"


def margin(outputs: Outputs) -> F64:
    """p(1) - p(2), the lead over the runner-up, compared as -log(1 - margin)."""
    if available(outputs) == 1:
        raise RecordsError("margin needs the two best classes, and these records hold one; use max_prob or record more")
    logp = top_log_probs(outputs, 2, "margin")
    with np.errstate(invalid="ignore"):
        others = -np.logaddexp(0.0, np.asarray(outputs.log_odds))
        return np.asarray(-np.logaddexp(others, logp[:, 1]))


def entropy(outputs: Outputs) -> F64:
    """Minus the entropy of the softmax in nats (BranchyNet's rule H < T), compared as -log H.

    Beyond the ten best classes the rest counts as one class, which leaves the entropy of up to ten classes exact.
    """
    logp = top_log_probs(outputs, TOP_K, "entropy")
    rest = log_rest(outputs, logp)
    lead = np.asarray(outputs.log_odds)
    with np.errstate(invalid="ignore", divide="ignore"):
        terms = np.concatenate([logp, rest[:, None]], axis=1)
        log_minus = np.log(-terms)
        log_minus[:, 0] = np.where(lead > 30, -lead, log_minus[:, 0])  # -log p1 itself is 0 from a lead of 745 on
        logs = np.where(np.isneginf(terms), -np.inf, terms + log_minus)
        return np.asarray(-np.logaddexp.reduce(logs, axis=1))


def has_energy(outputs: Outputs) -> bool:
    """Whether there is a log-sum-exp of logits: that of probabilities is 0."""
    return outputs.log_sum_exp is not None and bool((np.abs(outputs.log_sum_exp) > 1e-4).any())


def energy(outputs: Outputs) -> F64:
    """Log-sum-exp of the logits: minus the free energy (Liu et al., NeurIPS 2020), at temperature 1."""
    z = outputs.log_sum_exp
    if z is None or not has_energy(outputs):
        found = "only probabilities" if z is not None else "no logits"
        raise RecordsError(f"energy needs the log-sum-exp of logits, and these records hold {found}; use max_prob")
    return z if outputs.log_odds is None else np.where(np.isnan(outputs.log_odds), np.nan, z)


def can_score(outputs: Outputs) -> bool:
    """Whether any confidence is known, so that the model can be a saver."""
    return outputs.log_odds is not None or outputs.confidence is not None
