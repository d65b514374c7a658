"""Oracles and random routing against every possible assignment; break-even against the costs themselves."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.documents import as_document
from pilotfish.errors import UsageError
from pilotfish.plan.analysis import break_even, oracle_exit_ratio, references
from pilotfish.plan.analysis.breakeven import (
    evaluator_cost,
    evaluator_limit,
    evaluator_ratio,
    pair_cost,
    router_cost,
    router_limit,
    router_ratio,
)
from pilotfish.plan.sweep import sweep
from pilotfish.plan.trace import Trace, trace_of
from support import brute
from support.pairs import Pair as Drawn
from support.pairs import graded_traces, pairs

C_S, C_B = 3.0, 10.0
RATIO = st.integers(0, 20).map(lambda k: Fraction(k, 20))
COST = st.integers(1, 60).map(lambda k: Fraction(k, 4))


def priced(pair: Drawn, base: float = C_B) -> Trace:
    return pair.trace((C_S, base))


@given(pairs(largest=7))
def test_the_oracle_is_the_best_of_all_assignments(pair: Drawn) -> None:
    n, lines = len(pair.scores), references(priced(pair))
    best: dict[int, int] = {}
    for to_base in product([False, True], repeat=n):
        right = sum(b if go else s for go, s, b in zip(to_base, pair.saver_ok, pair.base_ok, strict=True))
        best[sum(to_base)] = max(right, best.get(sum(to_base), 0))
    for k in range(n + 1):
        at_most = max(best[j] for j in range(k + 1))
        for line, cost in ((lines.oracle, C_S + k * C_B / n), (lines.prior_oracle, ((n - k) * C_S + k * C_B) / n)):
            assert line.at(k / n) == pytest.approx(at_most / n, abs=1e-12)
            assert line.at_cost(cost) == pytest.approx(at_most / n, abs=1e-12)


@given(pairs())
def test_no_policy_beats_its_oracle_and_chance_is_between_the_models(pair: Drawn) -> None:
    given_pair = priced(pair)
    lines, path = references(given_pair), sweep(*pair.arrays)
    for exited, gain in zip(path.exited.tolist(), path.gain.tolist(), strict=True):
        reach = 1 - exited / path.n
        ours = lines.base_accuracy + gain / path.n
        cost = C_S + reach * C_B
        assert lines.oracle.at(reach) >= ours - 1e-12
        oracle, prior = lines.oracle.at_cost(cost), lines.prior_oracle.at_cost(cost)
        assert oracle is not None
        assert prior is not None
        assert prior >= oracle - 1e-12 >= ours - 2e-12
        for line in (lines.random, lines.mixing):
            assert lines.oracle.at(reach) >= line.at(reach) - 1e-12
            assert line.at(reach) == pytest.approx(
                (1 - reach) * lines.saver_accuracy + reach * lines.base_accuracy, abs=1e-12
            )
    for reach in (0.0, 0.4, 1.0):
        assert lines.random.at_cost(C_S + reach * C_B) == pytest.approx(lines.random.at(reach))
        assert lines.mixing.at_cost((1 - reach) * C_S + reach * C_B) == pytest.approx(lines.mixing.at(reach))


@given(pairs(finite=True))
def test_captured_is_one_for_the_oracle_and_minus_one_for_its_reverse(pair: Drawn) -> None:
    given_pair = priced(pair)
    change = given_pair.quality[0].astype(float) - given_pair.quality[1]
    best, worst, tied = (references(trace_of([k * change], given_pair.quality)) for k in (1, -1, 0))
    ours = references(given_pair).captured
    if ours is None:
        assert len(set(change.tolist())) == 1
        assert (best.captured, worst.captured) == (None, None)
        return
    assert best.captured == pytest.approx(1.0)
    assert worst.captured == pytest.approx(-1.0)
    assert tied.captured == pytest.approx(0.0)
    assert -1 - 1e-9 <= ours <= 1 + 1e-9


def test_without_costs_lines_have_none() -> None:
    pair = Drawn([0.9, 0.1], [True, False], [True, True]).trace()
    lines = references(pair)
    assert lines.oracle.cost is None
    assert lines.oracle.at_cost(1.0) is None
    assert break_even(pair) is None
    assert as_document(lines)["random"]["cost"] is None


@given(RATIO, RATIO, COST, COST, COST)
def test_a_router_wins_exactly_where_its_system_is_cheaper(
    r1: Fraction, r2: Fraction, saver: Fraction, base: Fraction, own: Fraction
) -> None:
    """Eq. 5 is Eq. 4, in exact arithmetic, at the limit and on both sides of it."""
    limit = router_limit(r1, r2, saver, base)  # type: ignore[arg-type]
    for cost in (own, limit, limit - 1, limit + 1):
        cheaper = router_cost(r2, cost, saver, base) < pair_cost(r1, saver, base)  # type: ignore[arg-type]
        assert cheaper == (cost < limit)
        if base > saver:
            assert cheaper == (r2 > router_ratio(r1, cost, saver, base))  # type: ignore[arg-type]
    limit = evaluator_limit(r1, r2, base)  # type: ignore[arg-type]
    for cost in (own, limit, limit - 1, limit + 1):
        cheaper = evaluator_cost(r2, cost, saver, base) < pair_cost(r1, saver, base)  # type: ignore[arg-type]
        assert cheaper == (cost < limit)
        assert cheaper == (r2 > evaluator_ratio(r1, cost, base))  # type: ignore[arg-type]


def test_no_break_even_where_the_base_is_as_cheap() -> None:
    with pytest.raises(UsageError, match="costs more than its saver"):
        router_ratio(0.5, 1.0, 10.0, 10.0)
    assert break_even(Drawn([0.9], [True], [True]).trace((10.0, 10.0))) is None


@given(pairs(largest=8), st.sampled_from(["-0.3", "0", "0.005", "0.125", "0.3", "1"]))
def test_the_oracles_exit_ratio_is_the_largest_of_all_exit_sets(pair: Drawn, drop: str) -> None:
    n = len(pair.scores)
    change = [int(s) - int(b) for s, b in zip(pair.saver_ok, pair.base_ok, strict=True)]
    feasible = [
        sum(exits)
        for exits in product([False, True], repeat=n)
        if Fraction(-sum(c for c, e in zip(change, exits, strict=True) if e), n) <= Fraction(drop)
    ]
    found = oracle_exit_ratio(pair.trace(), float(drop))
    assert found == max(feasible, default=0) / n


@given(pairs(), st.sampled_from(["0", "0.02", "0.3"]))
def test_break_even_of_a_pair(pair: Drawn, drop: str) -> None:
    found = break_even(priced(pair), float(drop))
    best = brute.largest_within(brute.every_threshold(*pair), len(pair.scores), Fraction(drop))
    assert found is not None
    assert best is not None
    r1 = best.exited / len(pair.scores)
    assert (found.exit_ratio, found.drop) == (r1, -best.gain / len(pair.scores))
    assert found.oracle_ratio >= found.exit_ratio
    assert found.cost_pair == pytest.approx(C_S + (1 - r1) * C_B)
    assert found.router_equal == pytest.approx((1 - r1) * C_S)
    assert found.router_oracle >= found.evaluator_oracle - 1e-12
    for share, needed in found.router_needs:
        assert router_cost(needed, share * C_S, C_S, C_B) == pytest.approx(found.cost_pair)
    assert all(math.isfinite(x) for x in (found.router_oracle, found.evaluator_oracle))


@given(graded_traces(largest=7, costs=(C_S, C_B)), st.sampled_from([0.0, 0.125, 0.3]))
def test_oracles_of_any_quality_are_the_best_of_all_assignments(trace: Trace, drop: float) -> None:
    n, lines, (s, b) = len(trace), references(trace), trace.quality.tolist()
    best: dict[int, float] = {}
    for to_base in product([False, True], repeat=n):
        worth = sum(theirs if go else mine for go, mine, theirs in zip(to_base, s, b, strict=True))
        best[sum(to_base)] = max(worth, best.get(sum(to_base), 0.0))
    for k in range(n + 1):
        assert lines.oracle.at(k / n) == pytest.approx(max(best[j] for j in range(k + 1)) / n, abs=1e-12)
    feasible = [n - k for k in range(n + 1) if sum(b) - best[k] <= drop * n + 1e-9]
    assert oracle_exit_ratio(trace, drop) == max(feasible) / n
    found = break_even(trace, drop)
    assert found is not None
    assert found.oracle_ratio >= found.exit_ratio
    assert found.drop <= drop + 1e-12
    assert lines.captured is None or -1 - 1e-9 <= lines.captured <= 1 + 1e-9
