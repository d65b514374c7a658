"""Ways to choose thresholds: each makes a policy path."""

from pilotfish.plan.methods.dyce import DyceOptions
from pilotfish.plan.methods.options import NoOptions, read_options
from pilotfish.plan.methods.pcee import PceeOptions, PceeWsOptions
from pilotfish.plan.methods.registry import METHODS, WEIGHTS, EnsembleOptions, Method, find_method, saver_method

__all__ = [
    "METHODS",
    "WEIGHTS",
    "DyceOptions",
    "EnsembleOptions",
    "Method",
    "NoOptions",
    "PceeOptions",
    "PceeWsOptions",
    "find_method",
    "read_options",
    "saver_method",
]
