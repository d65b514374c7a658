"""Frontiers and budgets: the best of a path, against comparing every policy with every other."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.cascade import Budget, Frontier, Performance, choose, make_budget
from pilotfish.documents import read_as
from pilotfish.errors import ArtefactError, BudgetError, UsageError
from support import brute

POINT = st.tuples(st.integers(0, 5), st.integers(-3, 3))  # few values: ties in one, ties in both


def frontier(points: list[tuple[int, int]], with_cost: bool = True) -> Frontier:
    effort, drop = np.array([p[0] for p in points], float), np.array([p[1] for p in points], float)
    last = effort / 5
    return Frontier(
        thresholds=np.linspace(9, 0, len(points))[:, None],
        exit_ratio=np.stack([1 - last, last], axis=1),
        value=0.5 - drop / 10,
        drop=drop / 10,
        cost=effort if with_cost else None,
    )


@given(st.lists(POINT, min_size=1, max_size=12), st.booleans())
def test_pareto_keeps_what_no_other_beats(points: list[tuple[int, int]], with_cost: bool) -> None:
    path = frontier(points, with_cost)
    kept = brute.undominated(path.effort.tolist(), path.drop.tolist())
    best = path.pareto()
    assert best.thresholds.tolist() == path.thresholds[kept].tolist()
    assert best.exit_ratio.tolist() == path.exit_ratio[kept].tolist()
    assert (np.diff(best.effort) > 0).all()
    assert (np.diff(best.drop) < 0).all()
    assert (best.cost is None) == (not with_cost)


@given(st.lists(POINT, min_size=1, max_size=12), st.sampled_from(["max_drop", "min_metric", "max_cost"]), st.data())
def test_choose_is_the_best_of_those_within_the_budget(
    points: list[tuple[int, int]], kind: Any, data: st.DataObject
) -> None:
    path, k = frontier(points), data.draw(st.integers(-4, 6))
    value = {"max_drop": k / 10, "min_metric": 0.5 - k / 10, "max_cost": float(k)}[kind]
    if kind == "max_cost":
        kept, key = [i for i, p in enumerate(points) if p[0] <= k], lambda i: (points[i][1], points[i][0], -i)
    else:
        kept, key = [i for i, p in enumerate(points) if p[1] <= k], lambda i: (points[i][0], points[i][1], -i)
    if not kept:
        with pytest.raises(BudgetError, match=r"no operating point has .*; the (cheapest|smallest|best)"):
            choose(path, Budget(kind, value))
        return
    chosen = choose(path, Budget(kind, value))
    assert chosen == min(kept, key=key)
    again = path.pareto()
    assert again.thresholds[choose(again, Budget(kind, value))].tolist() == path.thresholds[chosen].tolist()


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (Budget("max_drop", -0.5), "drop at most -50%; the smallest drop that can be reached is -10.00 points"),
        (Budget("min_metric", 0.99), "accuracy at least 99%; the best accuracy that can be reached is 60.00%"),
        (Budget("max_cost", 0.5), "cost at most 0.5; the cheapest costs 1, at a drop of 20.00 points$"),
    ],
)
def test_a_budget_that_cannot_be_met_names_the_best(budget: Budget, message: str) -> None:
    with pytest.raises(BudgetError, match=message):
        choose(frontier([(1, 2), (3, 0), (4, -1)]), budget)


def test_a_cost_that_must_be_a_share_is_told_how_to_write_one() -> None:
    costly = frontier([(1000, 2), (4000, -1)])
    with pytest.raises(BudgetError, match=r'costs 1000, at a drop of 20.00 points; write "50%" for that share'):
        choose(costly, Budget("max_cost", 0.5))
    with pytest.raises(BudgetError, match=r"points$"):
        choose(costly, Budget("max_cost", 2.0))


def test_a_cost_cannot_be_kept_to_without_costs() -> None:
    with pytest.raises(BudgetError, match="the records hold no such cost"):
        choose(frontier([(1, 2)], with_cost=False), Budget("max_cost", 3))


@pytest.mark.parametrize("shape", ["even", "steep", "steps"])
def test_a_long_frontier_is_thinned_to_within_its_resolution(shape: str) -> None:
    n, most = 4000, 100
    x = np.linspace(0, 1, n)
    drop = {"even": 1 - x, "steep": np.exp(-20 * x), "steps": 1 - np.round(5 * x) / 5 - x / 1000}[shape] - 0.01
    long = Frontier(x[:, None], np.stack([1 - x, x], axis=1), 0.9 - np.clip(drop, -0.1, 0.9), drop, 1 + 9 * x)
    short = long.pareto(most, keep=1234)
    assert len(short) <= most + 4
    assert {0.0, x[1234], 1.0} <= set(short.thresholds[:, 0])
    for limit in np.quantile(drop, np.linspace(0, 1, 50)):
        budget = Budget("max_drop", float(limit))
        spent = [float(f.cost[choose(f, budget)]) for f in (long, short) if f.cost is not None]
        assert 0 <= spent[1] - spent[0] <= 2 / most * 9 + 1e-9
        cheap = Budget("max_cost", float(10 - 9 * (limit - drop.min()) / np.ptp(drop)))
        lost = [float(f.drop[choose(f, cheap)]) for f in (long, short)]
        assert 0 <= lost[1] - lost[0] <= 2 / most * np.ptp(drop) + 1e-9
    none = Budget("max_drop", 0.0)
    assert short.drop[choose(short, none)] == long.drop[choose(long, none)]
    assert len(long.pareto(n)) == len(long.pareto()) == n


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"max_drop": 0}, Budget("max_drop", 0.0)),
        ({"max_drop": -0.01}, Budget("max_drop", -0.01)),
        ({"min_accuracy": 1}, Budget("min_metric", 1.0)),
        ({"max_cost": 3}, Budget("max_cost", 3.0)),
        ({"max_cost": "3e9"}, Budget("max_cost", 3e9)),
        ({"max_cost": " 40% ", "base_cost": 50.0}, Budget("max_cost", 20.0)),
        ({"max_cost": "0%", "base_cost": 50.0}, Budget("max_cost", 0.0)),
    ],
)
def test_budgets(options: dict[str, Any], expected: Budget) -> None:
    assert make_budget(**options) == expected


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"max_drop": 0, "max_cost": 1},
        {"max_drop": 1.5},
        {"max_drop": math.nan},
        {"min_accuracy": 95},
        {"min_accuracy": math.nan},
        {"max_cost": "cheap"},
        {"max_cost": "%"},
        {"max_cost": "nan"},
        {"max_cost": math.inf},
        {"max_cost": -1},
        {"max_cost": "40%"},  # of an unknown cost
        {"max_cost": "1e308%", "base_cost": 1e9},  # which no document could hold
    ],
)
def test_budgets_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        make_budget(**options)


@given(st.lists(POINT, min_size=1, max_size=6), st.booleans(), st.sampled_from(["accuracy", "closeness"]))
def test_frontiers_survive_json(points: list[tuple[int, int]], with_cost: bool, metric: str) -> None:
    path = replace(frontier(points, with_cost), metric=metric)
    assert ("accuracy" in path.to_json()) == (metric == "accuracy")
    path.thresholds[0, 0], path.thresholds[-1, 0] = math.inf, -math.inf
    back = read_as(Frontier, json.loads(json.dumps(path.to_json(), allow_nan=False)), "f", ArtefactError)
    for name, column in vars(path).items():
        found = getattr(back, name)
        assert (found is None) == (column is None)
        assert np.array_equal(found, column)


@pytest.mark.parametrize(
    "wrong",
    [
        {"thresholds": []},
        {"thresholds": [["nan"], [1]]},
        {"thresholds": [[None], [1]]},
        {"thresholds": [[1]]},
        {"thresholds": [[1, 2], [3]]},
        {"exit_ratio": [[1, 0]]},
        {"exit_ratio": [[1], [0]]},
        {"accuracy": [0.5]},
        {"accuracy": [0.5, None]},
        {"accuracy": "high"},
        {"accuracy": 7},
        {"exit_ratio": [1, 0]},
        {"exit_ratio": [1, 0], "cost": None},
        {"drop": [10**400, 0]},
        {"drop": [0.1, "x"]},
        {"drop": None},
        {"cost": [1]},
        {"cost": [1, None]},
        {"cost": 5},
    ],
)
def test_damaged_frontiers_are_refused(wrong: dict[str, Any]) -> None:
    document = {**frontier([(1, 2), (3, 0)]).to_json(), **wrong}
    with pytest.raises(ArtefactError):
        read_as(Frontier, document, "f", ArtefactError)


PERFORMANCE = Performance(10, 0.5, 0.6, 0.1, (-0.1, 0.3), 3.5, None, (0.4, 0.6))


@pytest.mark.parametrize("more", [{}, {"metric": "closeness"}, {"metric": "micro_f1", "asymptotic": True, "groups": 4}])
def test_performance_survives_json(more: dict[str, Any]) -> None:
    one = replace(PERFORMANCE, **more)
    document = json.loads(json.dumps(one.to_json()))
    assert read_as(Performance, document, "f", ArtefactError) == one
    assert ("accuracy" in document) == (one.metric == "accuracy")


def test_performance_from_before_metrics_had_names_is_of_accuracy() -> None:
    document = {k: v for k, v in PERFORMANCE.to_json().items() if k not in ("metric", "value", "base_value")}
    assert read_as(Performance, document, "f", ArtefactError) == PERFORMANCE


@pytest.mark.parametrize(
    "wrong",
    [
        {"n": "ten"},
        {"accuracy": None},
        {"accuracy": 0.7},
        {"value": None},
        {"metric": 3},
        {"asymptotic": "no"},
        {"drop": True},
        {"drop_interval": [1]},
        {"cost": "x"},
        {"exit_ratio": 1},
        {"x": 1},
    ],
)
def test_damaged_performance_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ArtefactError, match=f"f: .*{next(iter(wrong))}"):
        read_as(Performance, {**PERFORMANCE.to_json(), **wrong}, "f", ArtefactError)
