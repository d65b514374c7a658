"""Chains of K stages: exact thresholds for three, descent beyond, and a search over a pool."""

from pilotfish.plan.chains.descent import best_chain, descend
from pilotfish.plan.chains.grid import ChainGrid, frontier_three, grid_screen
from pilotfish.plan.chains.point import ChainPoint, measure
from pilotfish.plan.chains.search import ChainSearch, Comparison, FoundChain, search_chains

__all__ = [
    "ChainGrid",
    "ChainPoint",
    "ChainSearch",
    "Comparison",
    "FoundChain",
    "best_chain",
    "descend",
    "frontier_three",
    "grid_screen",
    "measure",
    "search_chains",
]
