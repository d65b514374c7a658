"""A pool of savers for one base, sorted and cut once for all chains made from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from pilotfish.errors import UsageError
from pilotfish.plan.chains.cuts import Cuts, Ranking, quantile_cuts, ranking
from pilotfish.plan.chains.goal import F64
from pilotfish.plan.chains.point import Chain, Mask, stack_scores

Savers = tuple[int, ...]


@dataclass(frozen=True)
class Candidates:
    """M models that may be savers, and the base.

    scores  float64 (M, N), below +inf; NaN never exits
    right   bool (M, N); right_base bool (N,)
    costs   M marginal costs
    ranked, cuts  of the savers that cost less than the base, by index
    """

    scores: F64
    right: Mask
    right_base: Mask
    costs: tuple[float, ...]
    base_cost: float
    ranked: dict[int, Ranking]
    cuts: dict[int, Cuts]

    @property
    def n(self) -> int:
        """N samples."""
        return len(self.right_base)

    def chain(self, savers: Savers) -> Chain:
        """The arrays of a chain that ends at the base."""
        rows = list(savers)
        right = np.concatenate([self.right[rows], self.right_base[None]])
        return Chain(self.scores[rows], right, (*(self.costs[s] for s in savers), self.base_cost))

    def rankings(self, savers: Savers) -> list[Ranking]:
        """The sorted scores of a chain's savers."""
        return [self.ranked[s] for s in savers]

    def rising(self, savers: Savers, added: int) -> int | None:
        """Where saver *added* goes among *savers* so that costs rise; None where one of them costs the same."""
        costs = [self.costs[s] for s in savers]
        if self.costs[added] in costs or added not in self.ranked:
            return None
        return int(np.searchsorted(costs, self.costs[added]))


def make_candidates(
    scores: Sequence[ArrayLike] | F64,
    right: ArrayLike,
    right_base: ArrayLike,
    costs: Sequence[float],
    base_cost: float,
    bins: int,
) -> Candidates:
    """Check the arrays of a pool; sort and cut the scores of each model that costs less than the base."""
    values = stack_scores(scores)
    correct, base = np.asarray(right, np.bool_), np.asarray(right_base, np.bool_)
    if values.ndim != 2 or correct.shape != values.shape or base.shape != values.shape[1:] or not base.size:
        raise UsageError(
            f"a pool needs scores and right (M, N) and right_base (N,) with N >= 1; "
            f"found {values.shape}, {correct.shape} and {base.shape}"
        )
    if len(costs) != len(values) or not all(np.isfinite(c) and c >= 0 for c in (*costs, base_cost)):
        raise UsageError(f"expected {len(values)} costs and the base's, finite and at least 0, found {list(costs)}")
    usable = [i for i, cost in enumerate(costs) if cost < base_cost and not np.isnan(values[i]).all()]
    ranked = {i: ranking(values[i]) for i in usable}
    cuts = {i: quantile_cuts(ranked[i], bins) for i in usable}
    return Candidates(values, correct, base, tuple(float(c) for c in costs), float(base_cost), ranked, cuts)
