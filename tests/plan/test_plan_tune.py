"""Thresholds for a budget, against a search over every distinct threshold in fractions."""

from __future__ import annotations

import json
import math
import re
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotfish.cascade import just_above
from pilotfish.errors import BudgetError, PilotfishError
from pilotfish.plan import Tuning, tune
from pilotfish.records import Run
from support import brute
from support.pairs import Pair, pairs, probability_pairs
from support.runs import records, write_pair

MILLI = st.integers(0, 1000)


def tuned(pair: Pair, **budget: Any) -> Tuning:
    with tempfile.TemporaryDirectory() as folder:
        run = write_pair(Path(folder), pair, saver_cost=3.0, base_cost=10.0)
        return tune(run, ["saver", "base"], holdout=0, **budget)


def outcome(found: Tuning) -> brute.Point:
    (threshold,), p = found.artefact.operating_point.thresholds, found.calibration
    return brute.Point(threshold, round(p.exit_ratio[0] * p.n), round(-p.drop * p.n))


@given(pairs(), MILLI)
@settings(max_examples=40)
def test_max_drop(pair: Pair, drop: int) -> None:
    best = brute.largest_within(brute.every_threshold(*pair), len(pair.scores), Fraction(drop, 1000))
    assert outcome(tuned(pair, max_drop=drop / 1000)) == best


@given(pairs(), MILLI)
@settings(max_examples=40)
def test_min_accuracy(pair: Pair, accuracy: int) -> None:
    n, base_right = len(pair.scores), sum(pair.base_ok)
    best = brute.largest_within(brute.every_threshold(*pair), n, Fraction(base_right, n) - Fraction(accuracy, 1000))
    if best is None:
        with pytest.raises(BudgetError, match="the best accuracy that can be reached is"):
            tuned(pair, min_accuracy=accuracy / 1000)
    else:
        assert outcome(tuned(pair, min_accuracy=accuracy / 1000)) == best


@given(pairs(), st.integers(0, 140), st.booleans())
@settings(max_examples=60)
def test_max_cost_absolute_or_as_a_share(pair: Pair, percent: int, as_share: bool) -> None:
    limit: float | str = f"{percent}%" if as_share else percent / 10
    best = brute.most_accurate_within(
        brute.every_threshold(*pair), len(pair.scores), Fraction(percent, 10), Fraction(3), Fraction(10)
    )
    if best is None:
        with pytest.raises(BudgetError, match=r"cost at most .*; the cheapest costs .*, at a drop of .* points"):
            tuned(pair, max_cost=limit)
    else:
        assert outcome(tuned(pair, max_cost=limit)) == best


@given(probability_pairs(), MILLI)
@settings(max_examples=25)
def test_grid50_and_savers_agree_on_the_smallest_threshold(pair: Pair, drop: int) -> None:
    assert outcome(tuned(pair, method="grid50", max_drop=drop / 1000)) == brute.grid50(*pair, Fraction(drop, 1000))


@given(probability_pairs())
@settings(max_examples=25)
def test_first_violation_is_where_the_released_scan_stops(pair: Pair) -> None:
    stopped = brute.first_violation(*pair)
    assert outcome(tuned(pair, method="first_violation", max_drop=0)) == stopped._replace(
        threshold=float(just_above(stopped.threshold))
    )


@given(pairs(), st.sampled_from(["max_drop", "min_accuracy", "max_cost"]), MILLI)
@settings(max_examples=40)
def test_the_frontier_answers_every_budget_as_a_fresh_choice(pair: Pair, kind: str, value: int) -> None:
    budget = {kind: value / 1000 if kind != "max_cost" else f"{value / 10}%"}
    base = tuned(pair, max_drop=0)
    try:
        fresh = tuned(pair, **budget).artefact.operating_point
    except BudgetError as error:
        with pytest.raises(BudgetError, match=re.escape(str(error))):
            base.artefact.at(**budget)
    else:
        assert base.artefact.at(**budget).operating_point == fresh


@pytest.mark.parametrize(
    ("lost", "n", "budget"),
    [(5, 1000, {"max_drop": 0.005}), (1, 200, {"max_drop": 0.005}), (5, 1000, {"min_accuracy": 0.995})],
)
def test_a_budget_met_to_the_last_sample_is_met(tmp_path: Path, lost: int, n: int, budget: dict[str, float]) -> None:
    pair = Pair([1 - i / n for i in range(n)], [i >= lost + 1 for i in range(n)][::-1], [True] * n)
    run = write_pair(tmp_path, pair)
    found = tune(run, ["saver", "base"], holdout=0, **budget)  # type: ignore[arg-type]
    assert found.calibration.drop == lost / n


def test_unreachable_budgets_name_the_best(tmp_path: Path) -> None:
    pair = Pair([0.9, 0.8, 0.7, 0.6], [True, False, True, False], [True, True, False, False])
    run = write_pair(tmp_path, pair, saver_cost=3.0, base_cost=10.0)
    with pytest.raises(BudgetError, match=r"accuracy at least 90%; the best accuracy that can be reached is 50.00%"):
        tune(run, ["saver", "base"], holdout=0, min_accuracy=0.9)
    with pytest.raises(BudgetError, match=r"cost at most 2; the cheapest costs 3, at a drop of 0.00 points"):
        tune(run, ["saver", "base"], holdout=0, max_cost=2)
    with pytest.raises(BudgetError, match=r"drop at most -1%; the smallest drop that can be reached is 0.00 points"):
        tune(run, ["saver", "base"], holdout=0, max_drop=-0.01)


def test_held_out_samples_are_not_those_it_was_chosen_on(tmp_path: Path) -> None:
    pair = Pair([i / 100 for i in range(100)], [i % 3 > 0 for i in range(100)], [i % 4 > 0 for i in range(100)])
    run = write_pair(tmp_path, pair)
    found, again = (tune(run, ["saver", "base"], max_drop=0.01, seed=5) for _ in range(2))
    assert found.split == {"fit": 50, "certify": 0, "evaluation": 50}
    assert found.to_json() == again.to_json()
    assert found.evaluation is not None
    assert found.evaluation.n == found.calibration.n == 50
    total = found.evaluation.base_accuracy * 50 + found.calibration.base_accuracy * 50
    assert total == pytest.approx(sum(pair.base_ok))
    json.dumps(found.to_json(), allow_nan=False)


def test_notes_warn_where_figures_say_little(tmp_path: Path) -> None:
    n = 20
    one_class = Pair([0.5] * n, [True] * (n - 1) + [False], [True] * n)  # constant confidence: all or nobody
    found = tune(write_pair(tmp_path, one_class, saver_cost=11.0), ["saver", "base"], max_drop=0, holdout=0)
    assert found.artefact.operating_point.thresholds == (math.inf,)
    assert found.saves is False
    said = " | ".join(found.notes)
    for clause in ("run the base alone", "holdout 0", "one class", "20 samples only"):
        assert clause in said


def test_without_costs_the_largest_exit_ratio_is_cheapest(tmp_path: Path) -> None:
    pair = Pair([0.9, 0.8, 0.7], [True, True, False], [True, True, True])
    run = write_pair(tmp_path, pair, saver_cost=None, base_cost=None)
    found = tune(run, ["saver", "base"], max_drop=0, holdout=0)
    assert (found.saves, found.calibration.cost, found.artefact.cost_key) == (None, None, None)
    assert found.calibration.exit_ratio == pytest.approx((2 / 3, 1 / 3))
    for limit in (1, "40%"):
        with pytest.raises(PilotfishError, match="cost"):
            tune(run, ["saver", "base"], max_cost=limit, holdout=0)


@pytest.mark.parametrize(
    ("stages", "options", "message"),
    [
        (["saver"], {"max_drop": 0}, "two different stages are needed"),
        (["saver", "saver"], {"max_drop": 0}, "two different stages are needed"),
        (["saver", "bas"], {"max_drop": 0}, "nearest names: base"),
        (["saver", "base"], {}, "exactly one of max_drop, max_cost, min_metric is needed, found none"),
        (["saver", "base"], {"max_drop": 0, "max_cost": 1}, "found max_drop and max_cost"),
        (["saver", "base"], {"max_drop": 2}, "max_drop is a fraction"),
        (["saver", "base"], {"max_drop": math.nan}, "max_drop is a fraction"),
        (["saver", "base"], {"min_accuracy": 95}, "min_accuracy is a fraction"),
        (["saver", "base"], {"max_cost": "cheap"}, "max_cost is a number"),
        (["saver", "base"], {"max_cost": math.inf}, "max_cost is a number"),
        (["saver", "base"], {"max_cost": "-5%"}, "max_cost is a number"),
        (["saver", "base"], {"max_cost": 5, "method": "first_violation"}, "stops at a drop"),
        (["base", "saver"], {"max_drop": 0}, "such a model can be the base, not a saver"),
    ],
)
def test_misuse_is_named(tmp_path: Path, stages: list[str], options: dict[str, Any], message: str) -> None:
    run = Run(tmp_path)
    run.write(records("saver", outputs={"confidence": [1.0, 2.0, 3.0]}, costs={"macs": 1.0}))
    run.write(records("base", costs={"macs": 2.0}))
    with pytest.raises(PilotfishError) as caught:
        tune(run, stages, holdout=0, **options)
    assert message in str(caught.value)
