"""The best chains of a pool of savers that end at a named base.

Pairs are all solved exactly. All three-stage chains of rising cost are screened on a quantile grid; the best of the
screen are polished by exact one-dimensional sweeps, and the best of those solved exactly. Longer chains grow from the
best shorter ones, one saver at a time, at any place where costs rise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from numpy.typing import ArrayLike

from pilotfish.errors import BudgetError, UsageError
from pilotfish.plan.chains.candidates import Candidates, Savers, make_candidates
from pilotfish.plan.chains.descent import descend_from, solve
from pilotfish.plan.chains.found import ChainSearch, Comparison, FoundChain
from pilotfish.plan.chains.goal import F64, Goal, make_goal
from pilotfish.plan.chains.grid import screen
from pilotfish.plan.chains.lattice import make_gains
from pilotfish.plan.chains.point import ChainPoint

BINS, POLISHED, REFINED, WIDTH, TOP = 100, 200, 50, 20, 10
Points = dict[Savers, ChainPoint]
T = TypeVar("T")
U = TypeVar("U")


def search_chains(
    scores: Sequence[ArrayLike] | F64,
    right: ArrayLike,
    right_base: ArrayLike,
    costs: Sequence[float],
    base_cost: float,
    *,
    max_drop: float | None = None,
    max_cost: float | None = None,
    max_stages: int = 3,
    names: Sequence[str] | None = None,
    base: str = "base",
    bins: int = BINS,
    polish: int = POLISHED,
    refine: int = REFINED,
    width: int = WIDTH,
    top: int = TOP,
    threads: int = 2,
) -> ChainSearch:
    """Search all chains of up to *max_stages* stages of rising cost to a base.

    scores      float64 (M, N) of the savers, larger exits first, NaN never; right bool (M, N)
    right_base  bool (N,); costs M marginal costs; only savers that cost less than *base_cost* are used
    max_drop    least cost with drop <= max_drop; or max_cost: smallest drop with mean cost <= max_cost
    bins        of the quantile grid, per stage; ``polish``, ``refine``: how many three-stage chains go on from it
    width       of the beam beyond three stages
    top         how many chains are returned

    BudgetError, with the best that was found, when nothing keeps to the budget.
    """
    if max_stages < 2:
        raise UsageError(f"max_stages is at least 2, a saver and the base; found {max_stages}")
    pool = make_candidates(scores, right, right_base, costs, base_cost, bins)
    goal = make_goal(pool.n, max_drop, max_cost)
    found: Points = {(): ChainPoint((), (pool.n,), pool.base_cost, 0.0)}
    screened, refined = {}, {}
    with ThreadPoolExecutor(max(1, threads)) as workers:
        for stages in range(2, max_stages + 1):
            if stages == 2:
                tried: list[Savers] = [(saver,) for saver in pool.ranked]
                new = _solve_all(pool, goal, tried, workers)
            elif stages == 3:
                tried = _rising_pairs(pool)
                new = _solve_all(pool, goal, _shortlist(pool, goal, tried, polish, refine, workers), workers)
            else:
                tried, new = _grow(pool, goal, found, stages, width, workers)
            screened[stages], refined[stages] = len(tried), len(new)
            found.update(new)
    best = _best(goal, found, top)
    labels = list(names) if names is not None else [str(i) for i in range(len(pool.costs))]
    chains = tuple(_describe(pool, goal, found, savers, [*labels, base]) for savers in best)
    return ChainSearch(base, pool.base_cost, pool.n, chains, screened, refined)


def _rank(goal: Goal, point: ChainPoint) -> tuple[float, float, float]:
    return goal.rank(point.gain, point.cost)


def _best(goal: Goal, found: Points, count: int) -> list[Savers]:
    """The best chains that keep to the budget; of equals the shorter."""
    kept = [savers for savers, point in found.items() if _rank(goal, point)[0] == 0]
    if not kept:
        nearest = min(found.values(), key=lambda point: _rank(goal, point))
        limit = (
            f"drop at most {100 * goal.value:.4g} points"
            if goal.kind == "max_drop"
            else f"cost at most {goal.value:,.6g}"
        )
        raise BudgetError(
            f"no chain has {limit}; the nearest has a cost of {nearest.cost:,.6g} "
            f"and a drop of {100 * nearest.drop:.2f} points"
        )
    return sorted(kept, key=lambda savers: (_rank(goal, found[savers]), len(savers), savers))[:count]


def _rising_pairs(pool: Candidates) -> list[Savers]:
    return [(a, b) for a in pool.ranked for b in pool.ranked if pool.costs[a] < pool.costs[b]]


def _each(workers: ThreadPoolExecutor, work: Callable[[T], U], items: Iterable[T]) -> list[U]:
    return list(workers.map(work, items))


def _solve_all(pool: Candidates, goal: Goal, chains: Sequence[Savers], workers: ThreadPoolExecutor) -> Points:
    """The exact best thresholds of chains of two or three stages."""

    def one(savers: Savers) -> ChainPoint:
        return solve(pool.chain(savers), goal, pool.rankings(savers))

    return dict(zip(chains, _each(workers, one, chains), strict=True))


def _shortlist(
    pool: Candidates, goal: Goal, chains: Sequence[Savers], polish: int, refine: int, workers: ThreadPoolExecutor
) -> list[Savers]:
    """The *refine* best three-stage chains: by the grid, and of its *polish* best by descent from the grid's point."""

    def on_grid(savers: Savers) -> ChainPoint:
        return screen_point(pool, goal, savers)

    points = dict(zip(chains, _each(workers, on_grid, chains), strict=True))
    kept = sorted(chains, key=lambda savers: _rank(goal, points[savers]))[: max(polish, refine)]

    def polished(savers: Savers) -> tuple[float, float, float]:
        start = points[savers].thresholds
        return _rank(goal, descend_from(pool.chain(savers), goal, pool.rankings(savers), start))

    ranks = dict(zip(kept, _each(workers, polished, kept), strict=True))
    return sorted(kept, key=ranks.__getitem__)[:refine]


def screen_point(pool: Candidates, goal: Goal, savers: Savers) -> ChainPoint:
    """The best point of the quantile grid of one three-stage chain."""
    chain = pool.chain(savers)
    return screen(chain, pool.cuts[savers[0]], pool.cuts[savers[1]], make_gains(chain.right)).best(goal)


def _grow(
    pool: Candidates, goal: Goal, found: Points, stages: int, width: int, workers: ThreadPoolExecutor
) -> tuple[list[Savers], Points]:
    """Chains of one stage more: the *width* best shorter ones with a saver put in, starting from +inf for it."""
    shorter = sorted(
        (savers for savers in found if len(savers) == stages - 2), key=lambda savers: _rank(goal, found[savers])
    )[:width]
    starts: dict[Savers, list[tuple[float, ...]]] = {}
    for savers in shorter:
        for added in pool.ranked:
            place = pool.rising(savers, added)
            if place is not None:
                t = found[savers].thresholds
                longer = (*savers[:place], added, *savers[place:])
                starts.setdefault(longer, []).append((*t[:place], float("inf"), *t[place:]))

    def quick(savers: Savers) -> ChainPoint:
        chain, ranked = pool.chain(savers), pool.rankings(savers)
        points = (descend_from(chain, goal, ranked, start) for start in starts[savers])
        return min(points, key=lambda point: _rank(goal, point))

    def thorough(savers: Savers) -> ChainPoint:
        return solve(pool.chain(savers), goal, pool.rankings(savers), starts[savers])

    points = dict(zip(starts, _each(workers, quick, starts), strict=True))
    kept = sorted(points, key=lambda savers: _rank(goal, points[savers]))[:width]
    return list(points), dict(zip(kept, _each(workers, thorough, kept), strict=True))


def _describe(pool: Candidates, goal: Goal, found: Points, savers: Savers, labels: Sequence[str]) -> FoundChain:
    point = found[savers]
    parts = [(*savers[:i], *savers[i + 1 :]) for i in range(len(savers))]
    for part in parts:
        if part not in found:
            found[part] = solve(pool.chain(part), goal, pool.rankings(part))
    pairs: list[Savers] = [pair for pair in found if len(pair) == 1]

    def compared(simpler: list[Savers]) -> Comparison | None:
        kept = [other for other in simpler if _rank(goal, found[other])[0] == 0]
        if not kept:
            return None
        other = min(kept, key=lambda one: _rank(goal, found[one]))
        cost, drop = found[other].cost, found[other].drop
        saving = 1 - point.cost / cost if cost else 0.0
        return Comparison(_stages(other, labels), cost, drop, saving, drop - point.drop)

    return FoundChain(
        stages=_stages(savers, labels),
        savers=savers,
        thresholds=point.thresholds,
        exit_ratio=point.exit_ratio,
        cost=point.cost,
        drop=point.drop,
        exact=len(savers) <= 2,
        over_shorter=compared(parts),
        over_pair=compared(pairs) if len(savers) > 1 else None,
    )


def _stages(savers: Savers, labels: Sequence[str]) -> tuple[str, ...]:
    return (*(labels[s] for s in savers), labels[-1])
