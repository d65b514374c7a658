"""What a search over chains found, and what each chain's last stage bought."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pilotfish.documents import as_document


@dataclass(frozen=True)
class Comparison:
    """A simpler chain under the same budget.

    stages      its models, the base last
    cost, drop  of its best thresholds
    saving      1 - cost of the chain at hand / its cost; 0 where it costs nothing
    won         its drop minus the drop of the chain at hand: answers won, as a fraction
    """

    stages: tuple[str, ...]
    cost: float
    drop: float
    saving: float
    won: float


@dataclass(frozen=True)
class FoundChain:
    """A chain with its best thresholds.

    stages        K models, the base last
    savers        indices (K-1) of the savers in the pool
    thresholds    K-1, in the scores' own unit
    exit_ratio    share of the samples that each of the K stages answers
    cost, drop    mean cost per sample, and accuracy lost against the base
    exact         whether the thresholds are the best of all; beyond three stages they are the best found
    over_shorter  what the last added stage bought: the best chain with one stage fewer, of the same models
    over_pair     what this chain buys over the best pair of the whole pool
    """

    stages: tuple[str, ...]
    savers: tuple[int, ...]
    thresholds: tuple[float, ...]
    exit_ratio: tuple[float, ...]
    cost: float
    drop: float
    exact: bool
    over_shorter: Comparison | None
    over_pair: Comparison | None

    def to_json(self) -> dict[str, Any]:
        """One entry of the list of chains."""
        return {
            "stages": list(self.stages),
            "thresholds": [as_document(t) for t in self.thresholds],
            "exit_ratio": list(self.exit_ratio),
            "cost": self.cost,
            "drop": self.drop,
            "exact": self.exact,
            "over_shorter": _entry(self.over_shorter),
            "over_pair": _entry(self.over_pair),
        }


@dataclass(frozen=True)
class ChainSearch:
    """Chains that keep to the budget, best first; the base alone is one of them.

    screened  how many chains of each number of stages were looked at; refined, how many of them were tuned
    """

    base: str
    base_cost: float
    n: int
    chains: tuple[FoundChain, ...]
    screened: dict[int, int]
    refined: dict[int, int]

    @property
    def best(self) -> FoundChain:
        """The best chain; the base alone when no chain saves anything."""
        return self.chains[0]

    def to_json(self) -> dict[str, Any]:
        """The search as a JSON document."""
        return {
            "base": self.base,
            "base_cost": self.base_cost,
            "n": self.n,
            "chains": [chain.to_json() for chain in self.chains],
            "screened": {str(k): v for k, v in self.screened.items()},
            "refined": {str(k): v for k, v in self.refined.items()},
        }


def _entry(found: Comparison | None) -> dict[str, Any] | None:
    return None if found is None else {**vars(found), "stages": list(found.stages)}
