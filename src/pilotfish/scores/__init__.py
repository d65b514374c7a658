"""Scores: plain functions of a model's outputs that say how safe it is to exit."""

from pilotfish.scores.confidence import SCORES, Scored, can_score, score
from pilotfish.scores.scale import Scale, from_shown, to_shown

__all__ = ["SCORES", "Scale", "Scored", "can_score", "from_shown", "score", "to_shown"]
