"""The unit scores are compared in and the one people read."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.scores import from_shown, to_shown


@given(st.floats(-30, 30))
def test_log_odds_come_back_from_probabilities(log_odds: float) -> None:
    p = float(to_shown("log_odds", log_odds))
    assert 0 < p < 1
    assert float(from_shown("log_odds", p)) == pytest.approx(log_odds, rel=1e-9, abs=4e-16 / min(p, 1 - p))


@given(st.floats(0, 1, exclude_min=True, exclude_max=True))
def test_probabilities_come_back_from_log_odds(p: float) -> None:
    assert float(to_shown("log_odds", from_shown("log_odds", p))) == pytest.approx(p, rel=1e-12)


@given(st.lists(st.floats(allow_nan=False), min_size=2, max_size=20))
def test_both_units_order_alike(values: list[float]) -> None:
    rising = np.sort(np.array(values))
    assert (np.diff(to_shown("log_odds", rising[np.isfinite(rising)])) >= 0).all()
    inside = np.unique(rising[(rising > 0) & (rising < 1)])
    assert (np.diff(from_shown("log_odds", inside)) >= 0).all()


@given(st.floats())
def test_a_confidence_is_shown_as_it_is(value: float) -> None:
    for convert in (to_shown, from_shown):
        assert np.array_equal(convert("identity", value), np.float64(value), equal_nan=True)


def test_nobody_and_everybody_are_the_same_in_both_units() -> None:
    assert to_shown("log_odds", [math.inf, -math.inf]).tolist() == [math.inf, -math.inf]
    assert from_shown("log_odds", [math.inf, -math.inf]).tolist() == [math.inf, -math.inf]
    assert from_shown("log_odds", [1.0, 0.0, -3.0, 7.0]).tolist() == [math.inf, -math.inf, -math.inf, math.inf]
    assert from_shown("log_odds", 0.5) == 0.0


@pytest.mark.parametrize("extreme", [-1e308, -800.0, -1e-320, 0.0, 1e-320, 800.0, 1e308])
def test_extremes_warn_about_nothing(extreme: float) -> None:
    with np.errstate(all="raise", under="ignore"):
        assert 0 <= float(to_shown("log_odds", extreme)) <= 1
    assert math.isnan(float(to_shown("log_odds", math.nan)))
    assert math.isnan(float(from_shown("log_odds", math.nan)))
