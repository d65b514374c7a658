"""Confidence scores of classifiers: one number per sample, larger means safer to exit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import RecordsError, UsageError, nearest
from pilotfish.records.outputs import LARGEST, Outputs
from pilotfish.scores.scale import Scale


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
        return Scored(_below_infinity(outputs.log_odds), "log_odds")
    if outputs.confidence is not None:
        return Scored(_below_infinity(outputs.confidence), "identity")
    raise RecordsError(
        "max_prob needs probabilities, logits or a confidence, and these records hold classes alone; "
        "such a model can be the base, not a saver"
    )


def _below_infinity(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """+inf, which other programs may have written, as the largest number: a threshold of +inf exits nobody."""
    return np.minimum(values, LARGEST)


SCORES: dict[str, Callable[[Outputs], Scored]] = {"max_prob": max_prob}


def score(name: str, outputs: Outputs) -> Scored:
    """The score *name* of each sample. UsageError for an unknown name, RecordsError where it cannot be had."""
    if name not in SCORES:
        raise UsageError(f"unknown score {name!r}; {nearest(name, SCORES)}")
    return SCORES[name](outputs)


def can_score(outputs: Outputs) -> bool:
    """Whether any confidence is known, so that the model can be a saver."""
    return outputs.log_odds is not None or outputs.confidence is not None
