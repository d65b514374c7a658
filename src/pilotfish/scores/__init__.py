"""Scores: plain functions of a model's outputs that say how safe it is to exit."""

from pilotfish.scores.confidence import can_score
from pilotfish.scores.fit import Evidence, FittedScore, can_fit, cross_fit, fit_score, truth_probability
from pilotfish.scores.score_kind import (
    SCALES,
    ExitScore,
    Scale,
    Scored,
    ScoreKind,
    compute,
    from_shown,
    plain_score,
    to_shown,
)
from pilotfish.scores.scores import SCORES, check_name, find_score, needs_fit, score

__all__ = [
    "SCALES",
    "SCORES",
    "Evidence",
    "ExitScore",
    "FittedScore",
    "Scale",
    "ScoreKind",
    "Scored",
    "can_fit",
    "can_score",
    "check_name",
    "compute",
    "cross_fit",
    "find_score",
    "fit_score",
    "from_shown",
    "needs_fit",
    "plain_score",
    "score",
    "to_shown",
    "truth_probability",
]
