"""Chains of any length: exact steps of the descent, and the search over a pool."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotfish.errors import BudgetError, UsageError
from pilotfish.plan import sweep
from pilotfish.plan.chains import Goal, best_chain, best_three, descend, make_goal, measure, search_chains

INF = math.inf


def made(seed: int, models: int, n: int, decimals: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Scores (models, n) and right (models, n) of models of rising accuracy on samples of unequal difficulty."""
    rng = np.random.default_rng(seed)
    hard = rng.normal(size=n)
    able = np.linspace(0.2, 1.6, models)[:, None] - hard + rng.normal(size=(models, n)) * 0.5
    scores = np.round(able + rng.normal(size=(models, n)) * 0.3, decimals)
    scores[rng.random((models, n)) < 0.02] = np.nan
    return scores, able + rng.normal(size=(models, n)) * 0.4 > 0


def goals(n: int) -> list[Goal]:
    return [make_goal(n, max_drop=0.02), make_goal(n, max_cost=9.0), Goal("price", 30.0, n)]


@given(st.integers(0, 10**6), st.integers(2, 5), st.integers(1, 15), st.integers(0, 2))
@settings(max_examples=100, deadline=None)
def test_descent_ends_where_no_single_threshold_helps(seed: int, stages: int, n: int, which: int) -> None:
    scores, right = made(seed, stages, n, decimals=0)
    costs, goal = [2.0**k for k in range(stages)], goals(n)[which]
    choices = [[INF, -INF, *np.unique(row[~np.isnan(row)]).tolist()] for row in scores[:-1]]
    start = [choice[seed % len(choice)] for choice in choices]

    def rank(thresholds: list[float]) -> tuple[float, float, float]:
        point = measure(scores[:-1], right, costs, thresholds)
        return goal.rank(point.gain, point.cost)

    found = list(descend(scores[:-1], right, costs, goal, start).thresholds)
    assert rank(found) <= rank(start)
    for k, choice in enumerate(choices):
        others = min(rank([*found[:k], t, *found[k + 1 :]]) for t in choice)
        assert rank(found) <= others


@pytest.mark.parametrize("drop", [0.0, 0.01, 0.05])
def test_a_chain_of_two_is_the_exact_sweep(drop: float) -> None:
    scores, right = made(1, 2, 400)
    path = sweep(scores[0], right[0], right[1])
    at = path.last_feasible(drop)
    found = best_chain(scores[:1], right, (1.0, 8.0), max_drop=drop)
    assert (found.thresholds[0], found.exits[0], found.gain) == (path.thresholds[at], path.exited[at], path.gain[at])


def test_a_chain_of_three_is_the_exact_optimum() -> None:
    scores, right = made(2, 3, 400)
    assert best_chain(scores[:2], right, (1.0, 4.0, 16.0), max_drop=0.01) == best_three(
        scores[0], scores[1], right, (1.0, 4.0, 16.0), max_drop=0.01
    )


@pytest.mark.parametrize("budget", [{"max_drop": 0.01}, {"max_cost": 6.0}])
def test_a_longer_chain_is_never_worse_than_the_chain_it_started_from(budget: dict[str, float]) -> None:
    scores, right = made(3, 4, 600)
    costs, goal = (1.0, 3.0, 9.0, 27.0), make_goal(600, **budget)
    kept = [0, 2, 3]
    shorter = best_chain(scores[[0, 2]], right[kept], [costs[k] for k in kept], **budget)
    start = (shorter.thresholds[0], INF, shorter.thresholds[1])
    first = measure(scores[:3], right, costs, start)
    found = best_chain(scores[:3], right, costs, **budget, starts=[start])
    assert goal.rank(found.gain, found.cost)[1:] <= goal.rank(first.gain, first.cost)[1:]


@pytest.mark.parametrize("seed", range(3))
def test_four_stages_come_near_the_best_of_all_thresholds(seed: int) -> None:
    scores, right = made(seed, 4, 40, decimals=0)
    costs = (1.0, 3.0, 9.0, 27.0)
    choices = [[INF, -INF, *np.unique(row[~np.isnan(row)]).tolist()] for row in scores[:3]]
    points = (measure(scores[:3], right, costs, t) for t in itertools.product(*choices))
    best = min(p.cost for p in points if p.gain >= 0)
    assert best <= best_chain(scores[:3], right, costs, max_drop=0.0).cost <= 1.05 * best


COSTS = (1.0, 2.0, 2.0, 5.0, 9.0, 30.0)


def searched(seed: int = 5, **options: object) -> tuple[object, np.ndarray, np.ndarray]:
    scores, right = made(seed, 7, 500)
    found = search_chains(scores[:6], right[:6], right[6], COSTS, 20.0, **options)  # type: ignore[arg-type]
    return found, scores, right


@pytest.mark.parametrize("budget", [{"max_drop": 0.0}, {"max_drop": 0.01}, {"max_cost": 5.0}])
def test_search_finds_the_best_of_all_chains_of_rising_cost(budget: dict[str, float]) -> None:
    found, scores, right = searched(**budget)  # type: ignore[misc]
    goal = make_goal(500, **budget)
    usable = [i for i in range(6) if COSTS[i] < 20.0]
    pairs = [(a,) for a in usable]
    threes = [(a, b) for a in usable for b in usable if COSTS[a] < COSTS[b]]
    reference = {}
    for savers in [*pairs, *threes]:
        rows = list(savers)
        try:
            reference[savers] = best_chain(scores[rows], right[[*rows, 6]], [*(COSTS[s] for s in rows), 20.0], **budget)
        except BudgetError:
            continue
    best = min(reference.values(), key=lambda p: goal.rank(p.gain, p.cost))
    assert found.screened == {2: 5, 3: len(threes)}
    assert (found.best.cost, found.best.drop) == (best.cost, best.drop)
    for chain in found.chains:
        if chain.savers:
            assert (chain.cost, chain.drop) == (reference[chain.savers].cost, reference[chain.savers].drop)
            assert chain.stages == (*(str(s) for s in chain.savers), "base")
    json.dumps(found.to_json(), allow_nan=False)


def test_search_says_what_the_third_stage_bought() -> None:
    found, scores, right = searched(max_drop=0.01)
    chain = next(c for c in found.chains if len(c.savers) == 2)
    pair_costs = {s: best_chain(scores[[s]], right[[s, 6]], (COSTS[s], 20.0), max_drop=0.01).cost for s in range(5)}
    shorter, pair = chain.over_shorter, chain.over_pair
    assert shorter.cost == min(pair_costs[s] for s in chain.savers)
    assert shorter.saving == pytest.approx(1 - chain.cost / shorter.cost)
    assert pair.cost == min(pair_costs.values())
    assert pair.stages == (str(min(pair_costs, key=pair_costs.__getitem__)), "base")
    assert pair.saving == pytest.approx(1 - chain.cost / pair.cost)


def test_a_beam_beyond_three_stages_is_never_worse_than_three() -> None:
    three, scores, right = searched(max_drop=0.01)
    four, *_ = searched(max_drop=0.01, max_stages=4, top=100)
    assert four.best.cost <= three.best.cost
    long = [c for c in four.chains if len(c.savers) == 3]
    assert long
    for chain in long:
        rows, costs = list(chain.savers), [COSTS[s] for s in chain.savers]
        assert costs == sorted(set(costs))
        again = measure(scores[rows], right[[*rows, 6]], [*costs, 20.0], chain.thresholds)
        assert (again.cost, again.drop, again.exit_ratio) == (chain.cost, chain.drop, chain.exit_ratio)
        assert len(chain.over_shorter.stages) == 3


def test_without_a_saver_worth_it_the_base_alone_is_the_answer() -> None:
    scores = np.zeros((2, 50))
    right = np.zeros((2, 50), bool)
    found = search_chains(scores, right, np.ones(50, bool), (1.0, 50.0), 10.0, max_drop=0.0)
    assert found.best.stages == ("base",)
    assert (found.best.cost, found.best.drop, found.best.thresholds) == (10.0, 0.0, ())


def test_a_budget_that_no_chain_meets_tells_the_nearest() -> None:
    scores, right = made(1, 3, 50)
    with pytest.raises(BudgetError, match=r"no chain has cost at most 0\.5"):
        search_chains(scores[:2], right[:2], right[2], (1.0, 2.0), 10.0, max_cost=0.5)


def test_a_pool_of_unequal_arrays_is_refused() -> None:
    scores, right = made(1, 3, 50)
    with pytest.raises(UsageError, match=r"found \(2, 50\), \(2, 50\) and \(49,\)"):
        search_chains(scores[:2], right[:2], right[2][:49], (1.0, 2.0), 10.0, max_drop=0.0)
    with pytest.raises(UsageError, match="max_stages"):
        search_chains(scores[:2], right[:2], right[2], (1.0, 2.0), 10.0, max_drop=0.0, max_stages=1)
