"""Analysis of a pair and of a pool of savers, from records alone (see docs/analysis.md)."""

from pilotfish.plan.analysis.breakeven import BreakEven, break_even, oracle_exit_ratio
from pilotfish.plan.analysis.curves import GainCurve, MatchCurves, gain_curve, match_curves, pair_frontier
from pilotfish.plan.analysis.mistakes import MistakeQuantiles, mistake_quantiles
from pilotfish.plan.analysis.noise import TuningNoise, tuning_noise
from pilotfish.plan.analysis.of_run import Analysis, PairAnalysis, analyse, pair_of
from pilotfish.plan.analysis.ranking import FailureRanking, aurc, auroc, expected_calibration_error, failure_ranking
from pilotfish.plan.analysis.routing import Line, References, references
from pilotfish.plan.analysis.transfer import Selection, Transfer, selection, transfers

__all__ = [
    "Analysis",
    "BreakEven",
    "FailureRanking",
    "GainCurve",
    "Line",
    "MatchCurves",
    "MistakeQuantiles",
    "PairAnalysis",
    "References",
    "Selection",
    "Transfer",
    "TuningNoise",
    "analyse",
    "aurc",
    "auroc",
    "break_even",
    "expected_calibration_error",
    "failure_ranking",
    "gain_curve",
    "match_curves",
    "mistake_quantiles",
    "oracle_exit_ratio",
    "pair_frontier",
    "pair_of",
    "references",
    "selection",
    "transfers",
    "tuning_noise",
]
