"""Chains of K stages: exact thresholds for three, descent beyond, and a search over a pool."""

from pilotfish.plan.chains.descent import best_chain, descend
from pilotfish.plan.chains.exact import best_three
from pilotfish.plan.chains.found import ChainSearch, Comparison, FoundChain
from pilotfish.plan.chains.goal import Goal, make_goal
from pilotfish.plan.chains.grid import ChainGrid, frontier_three, grid_screen
from pilotfish.plan.chains.point import ChainPoint, measure
from pilotfish.plan.chains.search import search_chains

__all__ = [
    "ChainGrid",
    "ChainPoint",
    "ChainSearch",
    "Comparison",
    "FoundChain",
    "Goal",
    "best_chain",
    "best_three",
    "descend",
    "frontier_three",
    "grid_screen",
    "make_goal",
    "measure",
    "search_chains",
]
