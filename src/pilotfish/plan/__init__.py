"""Planning from records alone: savers, thresholds, frontiers."""

from pilotfish.plan.methods import METHODS
from pilotfish.plan.savers import SaverRanking, SaverResult, r_match, rank_savers
from pilotfish.plan.sweep import PairPath, sweep
from pilotfish.plan.tune import Tuning, tune

__all__ = ["METHODS", "PairPath", "SaverRanking", "SaverResult", "Tuning", "r_match", "rank_savers", "sweep", "tune"]
