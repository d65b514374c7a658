"""A budget of cost per hour is held by moving along the frontier, with few moves."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from pilotfish.cascade import Artefact, OperatingPoint
from pilotfish.errors import UsageError
from pilotfish.plan import tune
from pilotfish.serve.watch.spending import Spending, cost_of, stage_costs
from support.clock import Clock
from support.pairs import Pair
from support.runs import write_pair


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    rng = np.random.default_rng(0)
    scores = rng.random(400)
    pair = Pair(scores.tolist(), (rng.random(400) < scores).tolist(), (rng.random(400) < 0.95).tolist())
    return tune(write_pair(tmp_path_factory.mktemp("run"), pair), ["saver", "base"], max_drop=0.02).artefact


def test_costs_of_stages_are_those_of_the_records(artefact: Artefact) -> None:
    assert stage_costs(artefact) == pytest.approx((1.0, 11.0))
    assert cost_of(artefact) == pytest.approx(artefact.calibration.cost)


def test_of_points_with_the_same_lowest_bounds_the_exit_sets_tell_which_is_in_force(artefact: Artefact) -> None:
    frontier = artefact.frontier.take([0, len(artefact.frontier) - 1])
    sets = (((0.1,),), ((0.1, 0.2, 0.3),))
    frontier = dataclasses.replace(frontier, thresholds=np.full((2, 1), 0.1), exit_sets=sets)
    for i, one in enumerate(sets):
        point = OperatingPoint((0.1,), exit_sets=one)
        here = dataclasses.replace(artefact, frontier=frontier, operating_point=point)
        assert here.frontier_row == i
        assert cost_of(here) == frontier.cost[i]  # type: ignore[index]
    assert frontier.cost[0] != frontier.cost[1]  # type: ignore[index]


def test_one_point_gives_its_mean(artefact: Artefact) -> None:
    single = dataclasses.replace(artefact, frontier=artefact.frontier.take([0]))
    assert stage_costs(single) == (cost_of(single),) * 2


def test_without_costs_there_are_none(artefact: Artefact) -> None:
    free = dataclasses.replace(artefact.frontier, cost=None)
    assert stage_costs(dataclasses.replace(artefact, frontier=free)) is None


def day(artefact: Artefact, per_hour: float, rate: list[float], harder: float = 1.0) -> tuple[list[float], list[float]]:
    """(cost of every hour, moments of the moves) where *rate* inputs a second come in each hour."""
    clock = Clock(0.0)
    spending, point = Spending(per_hour, clock), artefact
    spent, moves, total, n = [], [], 0.0, 0
    for hour in rate:
        before = spending.spent
        for _ in range(720):  # five seconds each
            clock.now += 5
            n += round(hour * 5)
            total += round(hour * 5) * cost_of(point) * harder
            assert spending.is_due
            spending.counted(total, n)
            if (cost := spending.next_cost(point)) is not None:
                moves.append(clock.now)
                point = point.at(max_cost=cost)
        spent.append(spending.spent - before)
    return spent, moves


@pytest.mark.parametrize("harder", [1.0, 1.5])
def test_the_budget_is_held_whatever_the_traffic(artefact: Artefact, harder: float) -> None:
    """Twice the inputs of before, of which each may cost half as much; harder inputs cost more at every point."""
    per_hour = 2 * 3600 * cost_of(artefact)  # for two a second
    spent, moves = day(artefact, per_hour, [1, 1, 4, 4, 4, 4, 1], harder)
    assert sum(spent[2:6]) <= 1.02 * (4 + 1) * per_hour
    assert sum(spent[4:6]) <= 1.1 * 2 * per_hour
    assert 1 <= len(moves) <= 12


def test_inputs_that_fit_the_budget_stay_where_they_are_best(artefact: Artefact) -> None:
    dearest = artefact.at(max_cost=float(np.max(artefact.frontier.cost)))
    assert day(dearest, 1e9, [1, 1])[1] == []


def test_where_no_point_is_cheap_enough_it_is_the_cheapest(artefact: Artefact) -> None:
    clock = Clock(0.0)
    spending = Spending(1.0, clock)
    clock.now += 100
    spending.counted(100.0, 100)
    assert spending.next_cost(artefact) == pytest.approx(float(np.min(artefact.frontier.cost)))


def test_nothing_is_known_before_the_first_answer(artefact: Artefact) -> None:
    assert Spending(1.0, Clock()).next_cost(artefact) is None


def test_a_restart_goes_on_with_what_was_left() -> None:
    clock = Clock()
    one, other = Spending(100.0, clock), Spending(100.0, Clock(9e9))
    one.counted(30.0, 3)
    other.restore(one.to_state())
    assert (other.left, other.spent) == (70.0, 30.0)
    with pytest.raises(ValueError, match="budget"):
        other.restore({"left": math.nan, "spent": 1.0})
    with pytest.raises(ValueError, match="budget"):
        other.restore({})


@pytest.mark.parametrize("per_hour", [0.0, -1.0, math.nan, math.inf])
def test_a_budget_is_a_number_above_0(per_hour: float) -> None:
    with pytest.raises(UsageError, match="above 0"):
        Spending(per_hour)
