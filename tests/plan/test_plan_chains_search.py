"""Chains of any length: exact steps of the descent, and the search over a pool."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotfish.cascade import Budget, make_budget
from pilotfish.errors import BudgetError, UsageError
from pilotfish.plan import sweep
from pilotfish.plan.chains import ChainSearch, best_chain, descend, measure, search_chains
from pilotfish.plan.trace import Trace, trace_of

INF = math.inf


def made(seed: int, models: int, n: int, decimals: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Scores (models, n) and right (models, n) of models of rising accuracy on samples of unequal difficulty."""
    rng = np.random.default_rng(seed)
    hard = rng.normal(size=n)
    able = np.linspace(0.2, 1.6, models)[:, None] - hard + rng.normal(size=(models, n)) * 0.5
    scores = np.round(able + rng.normal(size=(models, n)) * 0.3, decimals)
    scores[rng.random((models, n)) < 0.02] = np.nan
    return scores, able + rng.normal(size=(models, n)) * 0.4 > 0


def graded(right: np.ndarray, seed: int = 0) -> np.ndarray:
    """Answers in sixteenths instead of right and wrong, so that sums are exact."""
    return np.where(right, 1.0, np.random.default_rng(seed).integers(0, 12, right.shape) / 16)


def chain(scores: np.ndarray, quality: np.ndarray, costs: Sequence[float]) -> Trace:
    return trace_of(scores[: len(quality) - 1], quality, costs)


BUDGETS = (Budget("max_drop", 0.02), Budget("max_cost", 9.0), Budget("price", 30.0))


@given(st.integers(0, 10**6), st.integers(2, 5), st.integers(1, 15), st.sampled_from(BUDGETS), st.booleans())
@settings(max_examples=100, deadline=None)
def test_descent_ends_where_no_single_threshold_helps(
    seed: int, stages: int, n: int, budget: Budget, in_sixteenths: bool
) -> None:
    scores, right = made(seed, stages, n, decimals=0)
    trace = chain(scores, graded(right) if in_sixteenths else right, [2.0**k for k in range(stages)])
    choices = [[INF, -INF, *np.unique(row[~np.isnan(row)]).tolist()] for row in scores[:-1]]
    start = [choice[seed % len(choice)] for choice in choices]

    def rank(thresholds: list[float]) -> tuple[float, float, float]:
        return measure(trace, thresholds).place(budget)

    found = list(descend(trace, budget, start).thresholds)
    assert rank(found) <= rank(start)
    for k, choice in enumerate(choices):
        others = min(rank([*found[:k], t, *found[k + 1 :]]) for t in choice)
        assert rank(found) <= others


@pytest.mark.parametrize("drop", [0.0, 0.01, 0.05])
@pytest.mark.parametrize("in_sixteenths", [False, True])
def test_a_chain_of_two_is_the_exact_sweep(drop: float, in_sixteenths: bool) -> None:
    scores, right = made(1, 2, 400)
    quality = graded(right) if in_sixteenths else right
    path = sweep(scores[0], quality[0], quality[1])
    at = path.last_feasible(drop)
    found = best_chain(chain(scores, quality, (1.0, 8.0)), make_budget(max_drop=drop))
    assert (found.thresholds[0], found.exits[0], found.gain) == (path.thresholds[at], path.exited[at], path.gain[at])


@pytest.mark.parametrize("budget", [Budget("max_drop", 0.01), Budget("max_cost", 6.0)])
def test_a_longer_chain_is_never_worse_than_the_chain_it_started_from(budget: Budget) -> None:
    scores, right = made(3, 4, 600)
    trace = chain(scores, right, (1.0, 3.0, 9.0, 27.0))
    shorter = best_chain(trace.pick([0, 2]), budget)
    start = (shorter.thresholds[0], INF, shorter.thresholds[1])
    found = best_chain(trace, budget, starts=[start])
    assert found.place(budget)[1:] <= measure(trace, start).place(budget)[1:]


@pytest.mark.parametrize("seed", range(3))
def test_four_stages_come_near_the_best_of_all_thresholds(seed: int) -> None:
    scores, right = made(seed, 4, 40, decimals=0)
    trace = chain(scores, right, (1.0, 3.0, 9.0, 27.0))
    choices = [[INF, -INF, *np.unique(row[~np.isnan(row)]).tolist()] for row in scores[:3]]
    points = (measure(trace, t) for t in itertools.product(*choices))
    best = min(p.cost for p in points if p.gain >= 0)
    assert best <= best_chain(trace, make_budget(max_drop=0.0)).cost <= 1.05 * best


COSTS = (1.0, 2.0, 2.0, 5.0, 9.0, 30.0)


def searched(budget: Budget, seed: int = 5, in_sixteenths: bool = False, **options: int) -> tuple[ChainSearch, Trace]:
    scores, right = made(seed, 7, 500)
    trace = chain(scores, graded(right) if in_sixteenths else right, (*COSTS, 20.0))
    return search_chains(trace, budget, **options), trace


@pytest.mark.parametrize("budget", [Budget("max_drop", 0.0), Budget("max_drop", 0.01), Budget("max_cost", 5.0)])
@pytest.mark.parametrize("in_sixteenths", [False, True])
def test_search_finds_the_best_of_all_chains_of_rising_cost(budget: Budget, in_sixteenths: bool) -> None:
    found, trace = searched(budget, in_sixteenths=in_sixteenths)
    usable = [i for i in range(6) if COSTS[i] < 20.0]
    pairs = [(a,) for a in usable]
    threes = [(a, b) for a in usable for b in usable if COSTS[a] < COSTS[b]]
    reference = {}
    for savers in [*pairs, *threes]:
        try:
            reference[savers] = best_chain(trace.pick(savers), budget)
        except BudgetError:
            continue
    best = min(reference.values(), key=lambda p: p.place(budget))
    assert found.screened == {2: 5, 3: len(threes)}
    assert (found.best.cost, found.best.drop) == (best.cost, best.drop)
    for one in found.chains:
        if one.savers:
            assert (one.cost, one.drop) == (reference[one.savers].cost, reference[one.savers].drop)
            assert one.stages == (*(str(s) for s in one.savers), "base")
    json.dumps(found.to_json(), allow_nan=False)


def test_search_says_what_the_third_stage_bought() -> None:
    budget = make_budget(max_drop=0.01)
    found, trace = searched(budget)
    three = next(c for c in found.chains if len(c.savers) == 2)
    pair_costs = {s: best_chain(trace.pick([s]), budget).cost for s in range(5)}
    shorter, pair = three.over_shorter, three.over_pair
    assert shorter is not None
    assert pair is not None
    assert shorter.cost == min(pair_costs[s] for s in three.savers)
    assert shorter.saving == pytest.approx(1 - three.cost / shorter.cost)
    assert pair.cost == min(pair_costs.values())
    assert pair.stages == (str(min(pair_costs, key=pair_costs.__getitem__)), "base")
    assert pair.saving == pytest.approx(1 - three.cost / pair.cost)


def test_a_beam_beyond_three_stages_is_never_worse_than_three() -> None:
    budget = make_budget(max_drop=0.01)
    three, trace = searched(budget)
    four, _ = searched(budget, max_stages=4, top=100)
    assert four.best.cost <= three.best.cost
    long = [c for c in four.chains if len(c.savers) == 3]
    assert long
    for one in long:
        costs = [COSTS[s] for s in one.savers]
        assert costs == sorted(set(costs))
        again = measure(trace.pick(one.savers), one.thresholds)
        assert (again.cost, again.drop, again.exit_ratio) == (one.cost, one.drop, one.exit_ratio)
        assert one.over_shorter is not None
        assert len(one.over_shorter.stages) == 3


def test_without_a_saver_worth_it_the_base_alone_is_the_answer() -> None:
    right = np.array([[False] * 50, [False] * 50, [True] * 50])
    found = search_chains(trace_of(np.zeros((2, 50)), right, (1.0, 50.0, 10.0)), make_budget(max_drop=0.0))
    assert found.best.stages == ("base",)
    assert (found.best.cost, found.best.drop, found.best.thresholds) == (10.0, 0.0, ())


def test_a_budget_that_no_chain_meets_tells_the_nearest() -> None:
    trace = chain(*made(1, 3, 50), (1.0, 2.0, 10.0))
    with pytest.raises(BudgetError, match=r"no chain has cost at most 0\.5"):
        search_chains(trace, make_budget(max_cost=0.5))


def test_chains_of_less_than_two_stages_are_refused() -> None:
    with pytest.raises(UsageError, match="max_stages"):
        search_chains(chain(*made(1, 3, 50), (1.0, 2.0, 10.0)), make_budget(max_drop=0.0), max_stages=1)
