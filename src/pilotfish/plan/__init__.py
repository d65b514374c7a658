"""Planning from records alone: savers, chains, policy paths, thresholds, certificates."""

from pilotfish.plan.analysis import Analysis, analyse
from pilotfish.plan.find_chains import ChainRanking, find_chains
from pilotfish.plan.methods import METHODS
from pilotfish.plan.pool import PoolRanking, rank_pool
from pilotfish.plan.saver_ranking import SaverRanking, SaverResult
from pilotfish.plan.savers import rank_savers
from pilotfish.plan.shortlist import Shortlist, shortlist
from pilotfish.plan.sweep import PairPath, r_match, sweep
from pilotfish.plan.tune import tune
from pilotfish.plan.tuning import Tuning
from pilotfish.plan.verdict import Evaluation

__all__ = [
    "METHODS",
    "Analysis",
    "ChainRanking",
    "Evaluation",
    "PairPath",
    "PoolRanking",
    "SaverRanking",
    "SaverResult",
    "Shortlist",
    "Tuning",
    "analyse",
    "find_chains",
    "r_match",
    "rank_pool",
    "rank_savers",
    "shortlist",
    "sweep",
    "tune",
]
