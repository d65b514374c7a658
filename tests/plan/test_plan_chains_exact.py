"""Three stages: the exact optimum and the grid, against every pair of thresholds tried by a loop."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pilotfish.cascade import make_budget
from pilotfish.errors import BudgetError, UsageError
from pilotfish.plan.chains import ChainPoint, best_chain, frontier_three, grid_screen, measure
from pilotfish.plan.trace import Trace, trace_of
from support.pairs import TIED, WILD

NAN = math.nan


class Three(NamedTuple):
    v1: list[float]
    v2: list[float]
    quality: list[list[bool]] | list[list[float]]
    costs: tuple[float, float, float]

    @property
    def n(self) -> int:
        return len(self.v1)

    @property
    def trace(self) -> Trace:
        return trace_of([self.v1, self.v2], self.quality, self.costs)


@st.composite
def threes(draw: st.DrawFn, largest: int = 12) -> Three:
    """1 to *largest* samples: ties, NaN, constant scores, costs of 0; right and wrong answers, or in eighths."""
    n = draw(st.integers(1, largest))
    score = draw(st.sampled_from([TIED, WILD, TIED | st.just(NAN), st.just(0.5), st.integers(0, 3).map(float)]))
    other = draw(st.sampled_from([TIED, WILD | st.just(NAN), st.integers(0, 2).map(float)]))
    good = draw(st.sampled_from([st.booleans(), st.integers(0, 8).map(lambda eighths: eighths / 8)]))
    quality = draw(st.lists(st.lists(good, min_size=n, max_size=n), min_size=3, max_size=3))
    costs = draw(st.tuples(*[st.integers(0, 4).map(float)] * 3))
    return Three(
        draw(st.lists(score, min_size=n, max_size=n)), draw(st.lists(other, min_size=n, max_size=n)), quality, costs
    )


def by_hand(three: Three, t1: float, t2: float) -> tuple[float, float]:
    """Cost and drop, sample by sample."""
    spent = lost = 0.0
    for i in range(three.n):
        stage = 0 if three.v1[i] >= t1 else 1 if three.v2[i] >= t2 else 2
        spent += sum(three.costs[: stage + 1])
        lost += three.quality[2][i] - three.quality[stage][i]
    return spent / three.n, lost / three.n


def all_policies(three: Three) -> list[tuple[float, float]]:
    one, two = ([math.inf, -math.inf, *{s for s in v if not math.isnan(s)}] for v in (three.v1, three.v2))
    return [by_hand(three, a, b) for a in one for b in two]


def solved(three: Three, **budget: float) -> ChainPoint:
    return best_chain(three.trace, make_budget(**budget))  # type: ignore[arg-type]


def check(three: Three, found: ChainPoint) -> None:
    """What the point says of itself is what its thresholds do, and these are scores of the data."""
    assert measure(three.trace, found.thresholds) == found
    assert by_hand(three, *found.thresholds) == pytest.approx((found.cost, found.drop))
    assert sum(found.exits) == three.n
    for t, scores in zip(found.thresholds, (three.v1, three.v2), strict=True):
        assert math.isinf(t) or t in scores


@given(threes(), st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0, -0.1, -0.3]))
@example(Three([NAN], [NAN], [[True], [True], [False]], (1.0, 1.0, 1.0)), 0.0)
@example(Three([0.5, 0.5], [0.5, 0.5], [[True, False], [True, True], [False, True]], (0.0, 0.0, 0.0)), 0.0)
@settings(max_examples=120)
def test_max_drop_is_the_cheapest_of_all_pairs_of_thresholds(three: Three, drop: float) -> None:
    kept = [(cost, d) for cost, d in all_policies(three) if d <= drop + 1e-9]
    if not kept:
        with pytest.raises(BudgetError, match="the smallest found is"):
            solved(three, max_drop=drop)
        return
    found = solved(three, max_drop=drop)
    assert (found.cost, found.drop) == pytest.approx(min(kept), abs=1e-12)
    check(three, found)


@given(threes(), st.sampled_from([0.0, 1.0, 1.5, 2.0, 4.0, 6.0, 20.0]))
@settings(max_examples=120)
def test_max_cost_is_the_most_accurate_of_all_pairs_of_thresholds(three: Three, limit: float) -> None:
    kept = [(d, cost) for cost, d in all_policies(three) if cost <= limit * (1 + 1e-12)]
    if not kept:
        with pytest.raises(BudgetError, match="the cheapest found costs"):
            solved(three, max_cost=limit)
        return
    found = solved(three, max_cost=limit)
    assert (found.drop, found.cost) == pytest.approx(min(kept), abs=1e-12)
    check(three, found)


@pytest.mark.parametrize("decimals", [1, 2, 6])
@pytest.mark.parametrize("drop", [0.0, 0.02])
def test_blocks_and_bounds_lose_nothing_on_larger_data(decimals: int, drop: float) -> None:
    """Enough cuts for many blocks; the reference counts all of them in a full histogram."""
    rng = np.random.default_rng(decimals)
    hard = rng.normal(size=1500)
    scores = np.round(np.array([[0.4], [0.8]]) - hard + rng.normal(size=(2, 1500)) * 0.6, decimals)
    right = np.array([[0.5], [0.9], [1.4]]) - hard + rng.normal(size=(3, 1500)) * 0.7 > 0
    for quality in (right, np.where(right, 1 - rng.integers(0, 4, right.shape) / 16, 0.25)):
        trace = trace_of(scores, quality, (1.0, 4.0, 16.0))
        full = grid_screen(trace, bins=(1500, 1500))
        for budget in (make_budget(max_drop=drop), make_budget(max_cost=8.0)):
            want, found = full.best(budget), best_chain(trace, budget)
            assert (found.cost, found.drop) == (want.cost, want.drop)


@given(threes(), st.integers(1, 5), st.integers(1, 5))
@settings(max_examples=100)
def test_the_grid_counts_what_its_thresholds_do(three: Three, g1: int, g2: int) -> None:
    grid = grid_screen(three.trace, bins=(g1, g2))
    assert grid.gain.shape == grid.cost.shape == grid.exited2.shape == (g1 + 1, g2 + 1)
    for row in range(g1 + 1):
        for column in range(g2 + 1):
            point = grid.point(row, column)
            assert measure(three.trace, point.thresholds) == point


@given(threes())
@settings(max_examples=100)
def test_the_frontier_starts_at_nobody_and_no_policy_beats_another(three: Three) -> None:
    found = frontier_three(three.trace, bins=(4, 4))
    assert found[0].tolist() == [math.inf, math.inf]
    points = [by_hand(three, *row) for row in found.tolist()]
    for (cost, drop), (next_cost, next_drop) in itertools.pairwise(points[1:]):
        assert next_cost < cost + 1e-12
        assert next_drop > drop - 1e-12
    grid = grid_screen(three.trace, bins=(4, 4))
    assert min(cost for cost, _ in points) == pytest.approx(grid.cost.min())
    assert max(-drop for _, drop in points) == pytest.approx(grid.gain.max() / three.n)


def test_infinite_scores_still_obey_a_threshold_of_infinity() -> None:
    right = [[False, True], [False, True], [True, True]]
    found = best_chain(trace_of([[math.inf, 0.1], [math.inf, 0.2]], right, (1.0, 1.0, 1.0)), make_budget(max_drop=0.0))
    assert found.thresholds == (math.inf, math.inf)
    assert found.exits == (0, 0, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": [[0.1], [0.1, 0.2]]}, "found shapes"),
        ({"quality": [[True, True]] * 2}, "found"),
        ({"quality": [[0.5, 0.5], [0.5, 1.5], [0.5, 0.5]]}, "from 0 to 1"),
        ({"quality": [[0.5, 0.5], [0.5, NAN], [0.5, 0.5]]}, "from 0 to 1"),
        ({"costs": (1.0, 2.0)}, "3 finite costs"),
        ({"costs": (1.0, -2.0, 3.0)}, "3 finite costs"),
    ],
)
def test_arrays_that_make_no_chain_are_refused(change: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {
        "values": [[0.1, 0.2]] * 2,
        "quality": [[True, True]] * 3,
        "costs": (1.0, 2.0, 3.0),
    }
    with pytest.raises(UsageError, match=message):
        trace_of(**{**arguments, **change})  # type: ignore[arg-type]
