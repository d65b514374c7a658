"""The papers' own rules: Little-Big's grid and TinySaver's released scan, against loops over every threshold."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.errors import UsageError
from pilotfish.plan.methods import PAIR_METHODS, chosen_saver_point, path_method
from pilotfish.plan.methods.pair import first_violation_path, grid50_path
from pilotfish.records import from_probabilities
from pilotfish.scores import Scored, to_shown
from support import brute
from support.pairs import Pair, pairs, probability_pairs


def identity(pair: Pair) -> Scored:
    return Scored(pair.arrays[0], "identity")


@given(pairs() | probability_pairs(), st.integers(0, 200))
def test_grid50_takes_the_smallest_feasible_threshold(pair: Pair, thousandths: int) -> None:
    path = grid50_path(identity(pair), *pair.arrays[1:], 0.0)
    best = brute.grid50(*pair, Fraction(thousandths, 1000))
    i = path.last_feasible(thousandths / 1000)
    assert (path.thresholds[i], path.exited[i], path.gain[i]) == best


def test_grid50_is_k_fiftieths_and_nobody() -> None:
    path = grid50_path(Scored(np.array([0.5]), "identity"), np.array([True]), np.array([True]), 0.0)
    assert path.thresholds.tolist() == [math.inf, *(k / 50 for k in range(49, -1, -1))]


@given(pairs() | probability_pairs())
def test_first_violation_is_the_released_scan(pair: Pair) -> None:
    path = first_violation_path(identity(pair), *pair.arrays[1:], 0.0)
    stopped = brute.first_violation(*pair)
    assert (path.exited[-1], path.gain[-1]) == (stopped.exited, stopped.gain)
    assert path.thresholds[-1] == math.nextafter(stopped.threshold, math.inf)  # score > t, said with >=
    assert (path.gain[:-1] >= 0).all()


def test_first_violation_returns_the_violating_point_and_not_the_last_good_one() -> None:
    scores, saver_ok, base_ok = np.array([0.9, 0.8, 0.7]), np.array([True, False, True]), np.array([True, True, False])
    path = first_violation_path(Scored(scores, "identity"), saver_ok, base_ok, 0.0)
    point = chosen_saver_point("first_violation", path, 0.0)
    assert (path.exited[point], path.gain[point]) == (2, -1)
    assert path.thresholds[point] == pytest.approx(0.799)  # 0.8 > 0.800 does not exit, 0.8 > 0.799 does
    swept = PAIR_METHODS["sweep"](Scored(scores, "identity"), saver_ok, base_ok, 0.0)
    assert swept.exited[swept.last_feasible()] == 3  # Eq. 7 looks further: the third sample makes up for it


def test_first_violation_without_a_violation_ends_at_a_thousandth() -> None:
    scores, right = np.array([0.9, 0.001]), np.array([True, True])
    path = first_violation_path(Scored(scores, "identity"), right, right, 0.0)
    assert path.exited[-1] == 1  # 0.001 is not > 0.001
    assert path.thresholds[-1] == pytest.approx(0.001)


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize(("method", "steps"), [("grid50", 50), ("first_violation", 1000)])
def test_probabilities_on_the_grid_fall_on_the_right_side(method: str, steps: int, classes: int) -> None:
    """Log-odds of k/50 computed from a row of probabilities differ from those of T in their last digit."""
    k = np.arange(math.ceil(0.55 * steps), steps)
    p = np.column_stack([k / steps, *[(steps - k) / steps / (classes - 1)] * (classes - 1)])
    scored = Scored(np.asarray(from_probabilities(p).log_odds), "log_odds")
    right = np.ones(len(k), bool)
    path = PAIR_METHODS[method](scored, right, right, 0.0)
    finite = np.isfinite(path.thresholds)
    assert finite.sum() >= steps - 1
    for t, exited in zip(to_shown("log_odds", path.thresholds[finite]), path.exited[finite], strict=True):
        at = round(float(t) * steps)
        assert exited == ((k > at).sum() if method == "first_violation" else (k >= at).sum())


@given(pairs())
def test_no_method_exits_a_sample_without_a_score(pair: Pair) -> None:
    known = int(np.count_nonzero(~np.isnan(pair.arrays[0])))
    for find in PAIR_METHODS.values():
        path = find(identity(pair), *pair.arrays[1:], 0.0)
        assert (path.exited <= known).all()
        assert path.thresholds[0] == math.inf
        assert path.exited[0] == path.gain[0] == 0


def test_unknown_method_lists_the_names() -> None:
    with pytest.raises(UsageError, match=r"unknown method 'sweeep'; nearest names: sweep"):
        path_method("sweeep")
