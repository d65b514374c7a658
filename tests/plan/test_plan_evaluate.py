"""Routing, judging and splitting, against loops over the samples."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotfish.cascade import Rule, paired_interval
from pilotfish.errors import UsageError
from pilotfish.plan.evaluate import evaluate
from pilotfish.plan.holdout import split_rows
from pilotfish.plan.path import route
from pilotfish.plan.trace import make_trace
from pilotfish.records import align
from pilotfish.scores import SCORES, ExitScore, Scored
from support.runs import records

SCORE = st.sampled_from([0.0, 0.5, 1.0, -math.inf, math.nan]) | st.floats(-5, 5, width=16)
THRESHOLD = st.sampled_from([math.inf, -math.inf, 0.5]) | st.floats(-5, 5, width=16)


@given(st.data())
@settings(max_examples=60)
def test_routing_and_performance_are_a_loop_over_samples(data: st.DataObject) -> None:
    n, k = data.draw(st.integers(1, 20)), data.draw(st.integers(2, 4))
    scores = [data.draw(st.lists(SCORE, min_size=n, max_size=n)) for _ in range(k - 1)]
    thresholds = data.draw(st.lists(THRESHOLD, min_size=k - 1, max_size=k - 1))
    answers = [data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)) for _ in range(k)]
    label = data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n))
    names = [f"m{i}" for i in range(k)]
    models = [records(names[i], answers[i], label=label, costs={"macs": 10.0**i}) for i in range(k)]
    table = align(models[:-1], models[-1])

    answered_by = [next((j for j in range(k - 1) if scores[j][i] >= thresholds[j]), k - 1) for i in range(n)]
    right = sum(answers[j][i] == label[i] for i, j in enumerate(answered_by))
    base_right = sum(a == b for a, b in zip(answers[-1], label, strict=True))
    spent = sum(10**stage for j in answered_by for stage in range(j + 1))
    given_scores = [Scored(np.array(s), "identity") for s in scores]
    plain = tuple(ExitScore(SCORES["max_prob"], "identity") for _ in scores)
    trace = make_trace(table, names, Rule(), plain, given_scores, "macs")
    assert route(trace, tuple((t,) for t in thresholds)).tolist() == answered_by
    found = evaluate(trace, tuple((t,) for t in thresholds))
    assert found.n == n
    assert found.accuracy == pytest.approx(right / n, abs=1e-15)
    assert found.base_accuracy == pytest.approx(base_right / n, abs=1e-15)
    assert found.drop == (base_right - right) / n
    assert found.drop_interval[0] <= found.drop <= found.drop_interval[1]
    assert found.cost == pytest.approx(float(Fraction(spent, n)), rel=1e-12)
    assert found.base_cost == 10 ** (k - 1)
    assert found.exit_ratio == pytest.approx([answered_by.count(j) / n for j in range(k)])
    assert sum(found.exit_ratio) == pytest.approx(1)


def test_a_stage_without_the_cost_makes_the_cost_unknown() -> None:
    models = [records("s", costs={"macs": 1.0}), records("b", costs={"ms": 1.0})]
    scored = [Scored(np.zeros(3), "identity")]
    table = align(models[:1], models[1])
    trace = make_trace(table, ["s", "b"], Rule(), (ExitScore(SCORES["max_prob"], "identity"),), scored, "macs")
    found = evaluate(trace, ((0.0,),))
    assert found.cost is None
    assert found.base_cost is None


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 1000))
def test_paired_interval_holds_the_estimate_and_is_symmetric(lost: int, won: int, same: int) -> None:
    n = lost + won + same
    if n == 0:
        return
    low, high = paired_interval(lost, won, n)
    assert -1 <= low <= (lost - won) / n <= high <= 1
    assert paired_interval(won, lost, n) == pytest.approx((-high, -low))


def test_paired_interval_by_hand() -> None:
    # b = 12.5, c = 3.5, n = 102: 9/102 ± 1.959964 sqrt(16 - 81/102)/102
    assert paired_interval(12, 3, 100) == pytest.approx((9 / 102 - 0.0749297, 9 / 102 + 0.0749297), abs=1e-6)


@given(st.integers(2, 300), st.floats(0.01, 0.99), st.integers(0, 2**32))
def test_a_split_is_a_partition_and_the_seed_decides_it(n: int, share: float, seed: int) -> None:
    held = round(n * share)
    if held in (0, n):
        with pytest.raises(UsageError, match="cannot be split"):
            split_rows(n, share, seed)
        return
    parts, again = split_rows(n, share, seed), split_rows(n, share, seed)
    assert len(parts.evaluation) == held
    assert sorted([*parts.fit, *parts.evaluation]) == list(range(n))
    assert (np.diff(parts.fit) > 0).all()
    assert np.array_equal(parts.fit, again.fit)


def test_holdout_0_keeps_every_row() -> None:
    parts = split_rows(7, 0, 0)
    assert parts.fit.tolist() == list(range(7))
    assert len(parts.evaluation) == 0


@pytest.mark.parametrize(("holdout", "seed"), [(1, 0), (-0.1, 0), (math.nan, 0), (50, 0), (0.5, -1)])
def test_impossible_splits_are_refused(holdout: float, seed: int) -> None:
    with pytest.raises(UsageError):
        split_rows(100, holdout, seed)


@pytest.mark.parametrize("n", [1, 2])
def test_a_set_too_small_to_split_says_what_to_do(n: int) -> None:
    if n == 2:
        assert len(split_rows(2, 0.5, 0).fit) == 1
        return
    with pytest.raises(UsageError, match=r"1 sample cannot be split with holdout 0.5; use --holdout 0"):
        split_rows(n, 0.5, 0)
