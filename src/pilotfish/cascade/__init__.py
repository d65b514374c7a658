"""The cascade as an artefact: stages, frontier, operating points, load and save."""

from pilotfish.cascade.artefact import ALONE, Artefact, InForce, OperatingPoint, Stage
from pilotfish.cascade.budget import Budget, Limits, choose, make_budget
from pilotfish.cascade.exits import decide_at, from_bins, inside, just_above, leaves
from pilotfish.cascade.folder import check_target, load_artefact, save_artefact, weights_path
from pilotfish.cascade.frontier import ExitSets, Frontier
from pilotfish.cascade.given import given_class_drop, given_drop, given_metric, given_share
from pilotfish.cascade.performance import ClassDrop, Performance, grouped_interval, independent, paired_interval
from pilotfish.cascade.profile import Profile, profile_of
from pilotfish.cascade.rule import Decision, Rule, RuleKind, check_rule, decide

__all__ = [
    "ALONE",
    "Artefact",
    "Budget",
    "ClassDrop",
    "Decision",
    "ExitSets",
    "Frontier",
    "InForce",
    "Limits",
    "OperatingPoint",
    "Performance",
    "Profile",
    "Rule",
    "RuleKind",
    "Stage",
    "check_rule",
    "check_target",
    "choose",
    "decide",
    "decide_at",
    "from_bins",
    "given_class_drop",
    "given_drop",
    "given_metric",
    "given_share",
    "grouped_interval",
    "independent",
    "inside",
    "just_above",
    "leaves",
    "load_artefact",
    "make_budget",
    "paired_interval",
    "profile_of",
    "save_artefact",
    "weights_path",
]
