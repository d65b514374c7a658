"""Scores: plain functions of a model's outputs that say how safe it is to exit."""

from pilotfish.scores.confidence import SCORES, Scored, can_score, score
from pilotfish.scores.evidence import Evidence, truth_probability
from pilotfish.scores.exit_score import FITTED, ExitScore, check_name, compute, plain_score
from pilotfish.scores.fit import FittedScore, can_fit, cross_fit, fit_score, join, needs_fit
from pilotfish.scores.scale import SCALES, Scale, from_shown, to_shown

__all__ = [
    "FITTED",
    "SCALES",
    "SCORES",
    "Evidence",
    "ExitScore",
    "FittedScore",
    "Scale",
    "Scored",
    "can_fit",
    "can_score",
    "check_name",
    "compute",
    "cross_fit",
    "fit_score",
    "from_shown",
    "join",
    "needs_fit",
    "plain_score",
    "score",
    "to_shown",
    "truth_probability",
]
