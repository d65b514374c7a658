"""The best chains of a pool of savers that end at a named base.

Pairs are all solved exactly. All three-stage chains of rising cost are screened on a quantile grid; the best of the
screen are polished by exact one-dimensional sweeps, and the best of those solved exactly. Longer chains grow from the
best shorter ones, one saver at a time, at any place where costs rise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from pilotfish.cascade import Budget
from pilotfish.cascade.budget import plain_cost
from pilotfish.documents import as_document
from pilotfish.errors import BudgetError, UsageError
from pilotfish.plan.chains.cuts import Ranking, quantile_cuts, ranking
from pilotfish.plan.chains.descent import descend, solve
from pilotfish.plan.chains.grid import screen
from pilotfish.plan.chains.point import ChainPoint, Place
from pilotfish.plan.trace import Trace

BINS, POLISHED, REFINED, WIDTH, TOP = 100, 200, 50, 20, 10
Savers = tuple[int, ...]
T = TypeVar("T")
U = TypeVar("U")


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
    cost, drop    mean cost per sample, and what is lost against the base
    exact         whether the thresholds are the best of all; beyond three stages they are the best found
    over_shorter  what the last added stage bought: the best chain with one stage fewer, of the same models
    over_pair     what this chain buys over the best pair of the whole pool
    """

    stages: tuple[str, ...]
    savers: Savers
    thresholds: tuple[float, ...]
    exit_ratio: tuple[float, ...]
    cost: float
    drop: float
    exact: bool
    over_shorter: Comparison | None
    over_pair: Comparison | None


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
        found: dict[str, Any] = as_document(self)
        for chain in found["chains"]:
            del chain["savers"]
        return found


def search_chains(
    trace: Trace,
    budget: Budget,
    *,
    max_stages: int = 3,
    bins: int = BINS,
    polish: int = POLISHED,
    refine: int = REFINED,
    width: int = WIDTH,
    top: int = TOP,
    threads: int = 2,
) -> ChainSearch:
    """Search all chains of up to *max_stages* stages of rising cost to a base.

    trace    the savers, each with the score that it would decide by alone, and the base, with their costs; only savers
             that cost less than the base are used
    budget   a drop or a cost
    bins     of the quantile grid, per stage; ``polish``, ``refine``: how many three-stage chains go on from it
    width    of the beam beyond three stages
    top      how many chains are returned

    BudgetError, with the best that was found, when nothing keeps to the budget.
    """
    if max_stages < 2:
        raise UsageError(f"max_stages is at least 2, a saver and the base; found {max_stages}")
    *costs, base_cost = trace.added
    usable = [i for i, cost in enumerate(costs) if cost < base_cost and not np.isnan(trace.values[i]).all()]
    pool = _Pool(trace, budget, {i: ranking(trace.values[i]) for i in usable})
    pool.found[()] = ChainPoint((), (len(trace),), base_cost, 0)
    screened, refined = {}, {}
    with ThreadPoolExecutor(max(1, threads)) as workers:
        for stages in range(2, max_stages + 1):
            if stages == 2:
                tried: list[Savers] = [(saver,) for saver in usable]
                new = pool.solve_all(tried, workers)
            elif stages == 3:
                tried = [(a, b) for a in usable for b in usable if costs[a] < costs[b]]
                new = pool.solve_all(_shortlist(pool, tried, bins, polish, refine, workers), workers)
            else:
                tried, new = _grow(pool, stages, width, workers)
            screened[stages], refined[stages] = len(tried), len(new)
            pool.found.update(new)
    names = trace.names or (*map(str, range(len(costs))), "base")
    chains = tuple(_describe(pool, savers, names) for savers in pool.best(top))
    return ChainSearch(names[-1], base_cost, len(trace), chains, screened, refined)


@dataclass(frozen=True)
class _Pool:
    """The savers of a base, sorted once, and the chains of them that are solved."""

    trace: Trace
    budget: Budget
    ranked: dict[int, Ranking]
    found: dict[Savers, ChainPoint] = field(default_factory=dict)

    def solve(self, savers: Savers, starts: Sequence[Sequence[float]] = ()) -> ChainPoint:
        """The best thresholds of one chain."""
        return solve(self.trace.pick(savers), self.budget, [self.ranked[s] for s in savers], starts)

    def solve_all(self, chains: Sequence[Savers], workers: ThreadPoolExecutor) -> dict[Savers, ChainPoint]:
        """The exact best thresholds of chains of two or three stages."""
        return dict(zip(chains, _each(workers, self.solve, chains), strict=True))

    def descend(self, savers: Savers, start: Sequence[float]) -> ChainPoint:
        """The thresholds that a descent from *start* ends at."""
        return descend(self.trace.pick(savers), self.budget, start, [self.ranked[s] for s in savers])

    def place(self, savers: Savers) -> Place:
        """Of a chain that was solved."""
        return self.found[savers].place(self.budget)

    def best(self, count: int) -> list[Savers]:
        """The best chains that keep to the budget; of equals the shorter."""
        kept = [savers for savers in self.found if self.place(savers)[0] == 0]
        if not kept:
            nearest = self.found[min(self.found, key=self.place)]
            limit = (
                f"drop at most {100 * self.budget.value:.4g} points"
                if self.budget.kind == "max_drop"
                else f"cost at most {plain_cost(self.budget.value)}"
            )
            raise BudgetError(
                f"no chain has {limit}; the nearest has a cost of {plain_cost(nearest.cost)} "
                f"and a drop of {100 * nearest.drop:.2f} points"
            )
        return sorted(kept, key=lambda savers: (self.place(savers), len(savers), savers))[:count]


def _each(workers: ThreadPoolExecutor, work: Callable[[T], U], items: Iterable[T]) -> list[U]:
    return list(workers.map(work, items))


def _shortlist(
    pool: _Pool, chains: Sequence[Savers], bins: int, polish: int, refine: int, workers: ThreadPoolExecutor
) -> list[Savers]:
    """The *refine* best three-stage chains: by the grid, and of its *polish* best by descent from the grid's point."""
    cuts = {saver: quantile_cuts(ranked, bins) for saver, ranked in pool.ranked.items()}

    def on_grid(savers: Savers) -> ChainPoint:
        return screen(pool.trace.pick(savers), cuts[savers[0]], cuts[savers[1]]).best(pool.budget)

    points = dict(zip(chains, _each(workers, on_grid, chains), strict=True))
    kept = sorted(chains, key=lambda savers: points[savers].place(pool.budget))[: max(polish, refine)]

    def polished(savers: Savers) -> Place:
        return pool.descend(savers, points[savers].thresholds).place(pool.budget)

    places = dict(zip(kept, _each(workers, polished, kept), strict=True))
    return sorted(kept, key=places.__getitem__)[:refine]


def _grow(
    pool: _Pool, stages: int, width: int, workers: ThreadPoolExecutor
) -> tuple[list[Savers], dict[Savers, ChainPoint]]:
    """Chains of one stage more: the *width* best shorter ones with a saver put in, starting from +inf for it."""
    shorter = sorted((savers for savers in pool.found if len(savers) == stages - 2), key=pool.place)[:width]
    starts: dict[Savers, list[tuple[float, ...]]] = {}
    for savers in shorter:
        costs, t = [pool.trace.added[s] for s in savers], pool.found[savers].thresholds
        for added in pool.ranked:
            if (its_cost := pool.trace.added[added]) not in costs:  # costs rise from stage to stage
                at = int(np.searchsorted(costs, its_cost))
                longer = (*savers[:at], added, *savers[at:])
                starts.setdefault(longer, []).append((*t[:at], np.inf, *t[at:]))

    def quick(savers: Savers) -> ChainPoint:
        points = (pool.descend(savers, start) for start in starts[savers])
        return min(points, key=lambda point: point.place(pool.budget))

    def thorough(savers: Savers) -> ChainPoint:
        return pool.solve(savers, starts[savers])

    points = dict(zip(starts, _each(workers, quick, starts), strict=True))
    kept = sorted(points, key=lambda savers: points[savers].place(pool.budget))[:width]
    return list(points), dict(zip(kept, _each(workers, thorough, kept), strict=True))


def _describe(pool: _Pool, savers: Savers, names: Sequence[str]) -> FoundChain:
    point = pool.found[savers]
    parts = [(*savers[:i], *savers[i + 1 :]) for i in range(len(savers))]
    for part in parts:
        if part not in pool.found:
            pool.found[part] = pool.solve(part)
    pairs = [pair for pair in pool.found if len(pair) == 1]

    def stages(some: Savers) -> tuple[str, ...]:
        return (*(names[s] for s in some), names[-1])

    def compared(simpler: Sequence[Savers]) -> Comparison | None:
        kept = [other for other in simpler if pool.place(other)[0] == 0]
        if not kept:
            return None
        other = min(kept, key=pool.place)
        cost, drop = pool.found[other].cost, pool.found[other].drop
        saving = 1 - point.cost / cost if cost else 0.0
        return Comparison(stages(other), cost, drop, saving, drop - point.drop)

    return FoundChain(
        stages=stages(savers),
        savers=savers,
        thresholds=point.thresholds,
        exit_ratio=point.exit_ratio,
        cost=point.cost,
        drop=point.drop,
        exact=len(savers) <= 2,
        over_shorter=compared(parts),
        over_pair=compared(pairs) if len(savers) > 1 else None,
    )
