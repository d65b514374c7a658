"""Confidence scores of classifiers that need no fitting: one number per sample, larger means safer to exit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import RecordsError, UsageError, nearest
from pilotfish.scores.outputs import LARGEST, Outputs
from pilotfish.scores.scale import Scale
from pilotfish.scores.top import available, log_rest, top_log_probs

TOP_K = 10  # classes that the entropy looks at one by one; records keep as many


@dataclass(frozen=True)
class Scored:
    """values: float64 (N,) in the scale's own unit; NaN is never confident. The rule is value >= threshold."""

    values: NDArray[np.float64]
    scale: Scale


def max_prob(outputs: Outputs) -> Scored:
    """The largest softmax probability (TinySaver 3.1, Little-Big Eq. 4), compared as its log-odds.

    Records without logits fall back to their imported confidence, as it is.
    """
    if outputs.log_odds is not None:
        return Scored(below_infinity(outputs.log_odds), "log_odds")
    if outputs.confidence is not None:
        return Scored(below_infinity(outputs.confidence), "identity")
    raise RecordsError(
        "max_prob needs probabilities, logits or a confidence, and these records hold classes alone; "
        "such a model can be the base, not a saver"
    )


def margin(outputs: Outputs) -> Scored:
    """p(1) - p(2), the lead over the runner-up, compared as -log(1 - margin)."""
    if available(outputs) == 1:
        raise RecordsError("margin needs the two best classes, and these records hold one; use max_prob or record more")
    logp = top_log_probs(outputs, 2, "margin")
    others = -np.logaddexp(0.0, np.asarray(outputs.log_odds))
    return Scored(below_infinity(-np.logaddexp(others, logp[:, 1])), "margin")


def entropy(outputs: Outputs) -> Scored:
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
        return Scored(below_infinity(-np.logaddexp.reduce(logs, axis=1)), "entropy")


def energy(outputs: Outputs) -> Scored:
    """Log-sum-exp of the logits: minus the free energy (Liu et al., NeurIPS 2020), at temperature 1."""
    z = outputs.log_sum_exp
    if z is None or not (np.abs(z) > 1e-4).any():
        found = "only probabilities" if z is not None else "no logits"
        raise RecordsError(f"energy needs the log-sum-exp of logits, and these records hold {found}; use max_prob")
    finite = z if outputs.log_odds is None else np.where(np.isnan(outputs.log_odds), np.nan, z)
    return Scored(below_infinity(finite), "identity")


def below_infinity(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """+inf, which other programs may have written, as the largest number: a threshold of +inf exits nobody."""
    return np.minimum(values, LARGEST)


SCORES: dict[str, Callable[[Outputs], Scored]] = {
    "max_prob": max_prob,
    "margin": margin,
    "entropy": entropy,
    "energy": energy,
}


def score(name: str, outputs: Outputs) -> Scored:
    """The score *name* of each sample. UsageError for an unknown name, RecordsError where it cannot be had."""
    if name not in SCORES:
        raise UsageError(f"unknown score {name!r}; {nearest(name, SCORES)}")
    with np.errstate(invalid="ignore"):  # outputs that are not finite become NaN, and NaN never exits
        return SCORES[name](outputs)


def can_score(outputs: Outputs) -> bool:
    """Whether any confidence is known, so that the model can be a saver."""
    return outputs.log_odds is not None or outputs.confidence is not None
