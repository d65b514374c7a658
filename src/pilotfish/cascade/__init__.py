"""The cascade as an artefact: stages, frontier, operating points, load and save."""

from pilotfish.cascade.artefact import Artefact, OperatingPoint, Stage
from pilotfish.cascade.budget import Budget, choose, make_budget
from pilotfish.cascade.folder import load_artefact, save_artefact, weights_path
from pilotfish.cascade.frontier import Frontier
from pilotfish.cascade.numbers import from_json, to_json
from pilotfish.cascade.performance import Performance, paired_interval

__all__ = [
    "Artefact",
    "Budget",
    "Frontier",
    "OperatingPoint",
    "Performance",
    "Stage",
    "choose",
    "from_json",
    "load_artefact",
    "make_budget",
    "paired_interval",
    "save_artefact",
    "to_json",
    "weights_path",
]
