"""The papers' own rules: Little-Big's grid and TinySaver's released scan, against loops over every threshold."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotfish.cascade import Budget, just_above
from pilotfish.errors import UsageError
from pilotfish.plan.evaluate import Counts, count, measure
from pilotfish.plan.methods import METHODS, Method, find_method, saver_method
from pilotfish.plan.path import PolicyPath
from pilotfish.plan.trace import Trace
from pilotfish.records import from_probabilities
from pilotfish.scores import Scale, to_shown
from support import brute
from support.pairs import Pair, pairs, probability_pairs

ANY = Budget("max_drop", 0.0)


def trace_of(scores: np.ndarray, saver: np.ndarray, base: np.ndarray, scale: Scale = "identity") -> Trace:
    return Trace(scores[None], (scale,), np.stack([saver, base]), base)


def pathed(method: str, trace: Trace, budget: Budget = ANY) -> tuple[PolicyPath, Counts]:
    path = METHODS[method].path(trace, budget, METHODS[method].options())
    return path, count(trace, path)


def taken(method: str, trace: Trace, budget: Budget = ANY) -> tuple[float, int, int]:
    """(threshold, how many exit, what they win) of the policy that the method takes."""
    path, counts = pathed(method, trace, budget)
    i = METHODS[method].point(measure(trace, path), budget)
    return float(path.thresholds[i, 0]), int(counts.answered[i, 0]), int(counts.won[i] - counts.lost[i])


@given(probability_pairs(), st.integers(0, 200))
def test_grid50_takes_the_smallest_feasible_threshold(pair: Pair, thousandths: int) -> None:
    best = brute.grid50(*pair, Fraction(thousandths, 1000))
    assert taken("grid50", trace_of(*pair.arrays), Budget("max_drop", thousandths / 1000)) == best


def test_grid50_is_k_fiftieths_and_nobody() -> None:
    path, _ = pathed("grid50", trace_of(np.array([0.5]), np.array([True]), np.array([True])))
    assert path.thresholds[:, 0].tolist() == [math.inf, *(k / 50 for k in range(49, -1, -1))]


@given(probability_pairs())
def test_first_violation_is_the_released_scan(pair: Pair) -> None:
    trace, stopped = trace_of(*pair.arrays), brute.first_violation(*pair)
    above = float(just_above(stopped.threshold))  # score > t
    assert taken("first_violation", trace) == (above, stopped.exited, stopped.gain)
    _, counts = pathed("first_violation", trace)
    assert (counts.lost[:-1] <= counts.won[:-1]).all()


def test_first_violation_returns_the_violating_point_and_not_the_last_good_one() -> None:
    scores, saver_ok, base_ok = np.array([0.9, 0.8, 0.7]), np.array([True, False, True]), np.array([True, True, False])
    trace = trace_of(scores, saver_ok, base_ok)
    threshold, exited, gain = taken("first_violation", trace)
    assert (exited, gain) == (2, -1)
    assert threshold == pytest.approx(0.799)  # 0.8 > 0.800 does not exit, 0.8 > 0.799 does
    assert taken("sweep", trace)[1] == 3  # Eq. 7 looks further: the third sample makes up for it


def test_first_violation_without_a_violation_ends_at_a_thousandth() -> None:
    scores, right = np.array([0.9, 0.001]), np.array([True, True])
    assert taken("first_violation", trace_of(scores, right, right)) == (pytest.approx(0.001), 1, 0)  # 0.001 is not > it


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize(("method", "steps"), [("grid50", 50), ("first_violation", 1000)])
def test_probabilities_on_the_grid_fall_on_the_right_side(method: str, steps: int, classes: int) -> None:
    """Log-odds of k/50 computed from a row of probabilities differ from those of T in their last digit."""
    k = np.arange(math.ceil(0.55 * steps), steps)
    p = np.column_stack([k / steps, *[(steps - k) / steps / (classes - 1)] * (classes - 1)])
    right = np.ones(len(k), bool)
    trace = trace_of(np.asarray(from_probabilities(p).log_odds), right, right, "log_odds")
    path, counts = pathed(method, trace)
    thresholds, finite = path.thresholds[:, 0], np.isfinite(path.thresholds[:, 0])
    assert finite.sum() >= steps - 1
    for t, exited in zip(to_shown("log_odds", thresholds[finite]), counts.answered[finite, 0], strict=True):
        at = round(float(t) * steps)
        assert exited == ((k > at).sum() if method == "first_violation" else (k >= at).sum())


@pytest.mark.parametrize("method", ["grid50", "first_violation"])
@pytest.mark.parametrize(
    ("scores", "scale", "said"),
    [
        ([-3.5, -0.25], "identity", "from -3.5 to -0.25"),  # an ordinal task's minus spread
        ([0.5, 71.0], "identity", "from 0.5 to 71"),  # percent
        ([0.0, 1.0], "entropy", "from -1 to -0.3679"),
    ],
    ids=["negative", "percent", "entropy"],
)
def test_grids_of_probabilities_refuse_other_scores(method: str, scores: list[float], scale: Scale, said: str) -> None:
    values = np.array([*scores, np.nan])
    with pytest.raises(UsageError, match=rf"method {method} tries thresholds from 0 to 1, .*{said}; use method sweep"):
        pathed(method, trace_of(values, np.ones(3, bool), np.ones(3, bool), scale))


SAVER_METHODS = ["sweep", "pcee", "pcee-ws", "dyce", "msdnet", "first_violation", "grid50"]


@given(pairs() | probability_pairs())
@settings(max_examples=40)
def test_no_method_exits_a_sample_without_a_score(pair: Pair) -> None:
    scores = pair.arrays[0][~np.isnan(pair.arrays[0])]
    known = len(scores)
    shares = known > 0 and scores.min() >= 0 and scores.max() <= 1  # diagrams and grids are of numbers that people read
    for name in SAVER_METHODS if shares else ("sweep", "dyce", "msdnet"):
        path, counts = pathed(name, trace_of(*pair.arrays))
        assert (counts.answered[:, 0] <= known).all()
        assert path.thresholds[0, 0] == math.inf
        assert counts.answered[0, 0] == counts.lost[0] == counts.won[0] == 0


def test_savers_take_the_methods_that_judge_a_model_by_its_own_score() -> None:
    for name, method in METHODS.items():
        if name in SAVER_METHODS:
            assert saver_method(name) is method
            continue
        with pytest.raises(UsageError, match=rf"method {name} mixes or counts .* or tune --method {name}"):
            saver_method(name)


@pytest.mark.parametrize("find", [saver_method, lambda name: find_method(name, 3)])
def test_unknown_method_lists_the_names(find: Callable[[str], Method]) -> None:
    with pytest.raises(UsageError, match=r"unknown method 'sweeep'; nearest names: sweep"):
        find("sweeep")
