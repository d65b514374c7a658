"""The exact sweep against counting at every distinct threshold."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pilotfish.plan import PairPath, r_match, sweep
from pilotfish.plan.evaluate import count, measure
from pilotfish.plan.path import PolicyPath, route, threshold_path
from pilotfish.plan.trace import trace_of
from support import brute
from support.pairs import TIED, WILD, Pair, pairs

NAN = math.nan


def points(path: PairPath) -> list[brute.Point]:
    return [brute.Point(*row) for row in zip(path.thresholds, path.exited, path.gain, strict=True)]


@given(pairs())
@example(Pair([NAN], [True], [False]))
@example(Pair([1.0], [False], [True]))
@example(Pair([-0.0, 0.0], [True, False], [False, True]))
@example(Pair([NAN, -math.inf, 3.0], [True, True, True], [False, False, False]))
def test_sweep_is_a_count_at_every_distinct_threshold(pair: Pair) -> None:
    path = sweep(*pair.arrays)
    assert points(path) == brute.every_threshold(*pair)
    assert path.n == len(pair.scores)


@given(pairs(finite=True))
def test_the_reference_for_large_data_is_the_reference(pair: Pair) -> None:
    assert brute.walk(*pair) == brute.every_threshold(*pair)


@given(pairs(), st.sets(TIED | WILD | st.sampled_from([math.inf, -math.inf]), max_size=8))
def test_given_thresholds_are_counted_one_by_one(pair: Pair, thresholds: set[float]) -> None:
    falling = sorted(thresholds, reverse=True)
    score, saver, base = pair.arrays
    found = count(trace_of([score], [saver, base]), PolicyPath(np.array(falling, np.float64)[:, None]))
    rows = zip(falling, found.answered[:, 0].tolist(), (found.won - found.lost).tolist(), strict=True)
    assert [brute.Point(*row) for row in rows] == [brute.count(*pair, t) for t in falling]


@given(pairs())
def test_r_match_is_the_largest_share_that_may_exit(pair: Pair) -> None:
    best = brute.largest_within(brute.every_threshold(*pair), len(pair.scores))
    assert best is not None
    assert r_match(*pair) == (best.exited / len(pair.scores), best.threshold)


@given(pairs(finite=True))
def test_r_match_keeps_what_it_promises(pair: Pair) -> None:
    share, t = r_match(*pair)
    found = brute.count(*pair, t)
    assert found.gain >= 0
    assert found.exited == round(share * len(pair.scores))


@pytest.mark.parametrize(
    ("scores", "saver_ok", "base_ok", "share", "threshold"),
    [
        ([0.9], [True], [True], 1.0, -math.inf),
        ([0.9], [False], [True], 0.0, math.inf),
        ([NAN], [True], [False], 0.0, math.inf),
        ([0.9, 0.8], [False, True], [True, False], 1.0, -math.inf),  # the first crossing is not the last
        ([0.9, 0.9], [True, False], [False, True], 1.0, -math.inf),  # a tie is cut at its end
        ([0.9, 0.9, 0.1], [True, False, False], [True, True, True], 0.0, math.inf),  # and not inside
        ([0.9, NAN], [True, True], [True, True], 0.5, 0.9),  # NaN stays with the base
    ],
)
def test_r_match_by_hand(
    scores: list[float], saver_ok: list[bool], base_ok: list[bool], share: float, threshold: float
) -> None:
    assert r_match(scores, saver_ok, base_ok) == (share, threshold)


@given(pairs(), st.integers(-1000, 1000))
def test_the_largest_feasible_exit_within_a_drop(pair: Pair, thousandths: int) -> None:
    path, n = sweep(*pair.arrays), len(pair.scores)
    best = brute.largest_within(points(path), n, Fraction(thousandths, 1000))
    assert path.exited[path.last_feasible(thousandths / 1000)] == (0 if best is None else best.exited)


@pytest.mark.parametrize(("lost", "n", "max_drop"), [(5, 1000, 0.005), (3, 1000, 0.003), (7, 10_000, 0.0007)])
def test_a_drop_of_exactly_the_budget_is_within_it(lost: int, n: int, max_drop: float) -> None:
    score = np.arange(n, 0, -1).astype(np.float64)
    base_ok = np.ones(n, bool)
    saver_ok = np.arange(n) >= lost + 1  # loses lost + 1 in all, the last of them is one too many
    path = sweep(score[::-1], saver_ok, base_ok)
    assert path.gain[path.last_feasible(max_drop)] == -lost


@given(pairs(), st.none() | st.integers(1, 50), st.integers(1, 50))
def test_frontier_holds_equation_1(pair: Pair, saver_cost: int | None, base_cost: int) -> None:
    path, n = sweep(*pair.arrays), len(pair.scores)
    base_right = sum(pair.base_ok)
    trace = pair.trace(None if saver_cost is None else (saver_cost, base_cost))
    frontier = measure(trace, threshold_path(path.thresholds[:, None]))
    assert (frontier.cost is None) == (saver_cost is None)
    for i, point in enumerate(points(path)):
        r = Fraction(point.exited, n)
        assert frontier.thresholds[i, 0] == point.threshold
        assert frontier.value[i] == (base_right + point.gain) / n
        assert frontier.drop[i] == -point.gain / n
        assert frontier.exit_ratio[i] == pytest.approx([float(r), float(1 - r)], abs=1e-15)
        if saver_cost is not None and frontier.cost is not None:
            exact = brute.cost(point, n, Fraction(saver_cost), Fraction(base_cost))
            assert frontier.cost[i] == pytest.approx(float(exact), rel=1e-14)


@pytest.mark.parametrize("gap", [1e-16, 1e-12, 2e-8])
def test_scores_that_no_threshold_parts_exit_together(gap: float) -> None:
    """A cut at .5 lets exit what lies within a float32 step below it: planning counts it with the ties."""
    scores = np.array([0.9, 0.5, 0.5 - gap, 0.2])
    right = np.ones(4, bool)
    assert sweep(scores, right, right).exited.tolist() == [0, 1, 3, 4]
    trace = trace_of([scores], [right, right])
    assert count(trace, threshold_path(np.array([[0.5]]))).answered.tolist() == [[0, 4], [3, 1]]
    assert route(trace, ((0.5,),)).tolist() == [0, 0, 0, 1]
