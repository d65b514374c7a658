"""Ways to choose thresholds: each makes a policy path."""

from pilotfish.plan.methods.dyce import DyceOptions
from pilotfish.plan.methods.options import read_options
from pilotfish.plan.methods.pair import PAIR_METHODS, TAKES_LAST, PathMethod, chosen_saver_point, path_method
from pilotfish.plan.methods.pcee import PceeOptions, PceeWsOptions
from pilotfish.plan.methods.registry import METHODS, WEIGHTS, EnsembleOptions, Method, find_method

__all__ = [
    "METHODS",
    "PAIR_METHODS",
    "TAKES_LAST",
    "WEIGHTS",
    "DyceOptions",
    "EnsembleOptions",
    "Method",
    "PathMethod",
    "PceeOptions",
    "PceeWsOptions",
    "chosen_saver_point",
    "find_method",
    "path_method",
    "read_options",
]
