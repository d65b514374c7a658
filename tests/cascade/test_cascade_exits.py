"""Exit sets against intervals in plain words."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pilotfish.cascade import decide_at, from_bins, just_above, leaves

VALUE = st.sampled_from([0.0, 1.0, 2.0, math.inf, -math.inf, math.nan]) | st.floats(-3, 3, width=16)


@given(st.lists(VALUE, min_size=1, max_size=12), st.sets(st.floats(-3, 3, width=16), min_size=1, max_size=6))
def test_a_value_leaves_inside_the_intervals(values: list[float], cuts: set[float]) -> None:
    bounds = sorted(cuts)
    ends = [*bounds, math.inf] if len(bounds) % 2 else bounds
    intervals = list(zip(ends[::2], ends[1::2], strict=True))
    expected = [any(a <= v < b or (b == math.inf and v >= a) for a, b in intervals) for v in values]
    assert leaves(np.array(values), bounds).tolist() == expected


@given(st.lists(VALUE, min_size=1, max_size=12))
def test_the_infinities_are_nobody_and_everybody(values: list[float]) -> None:
    finite = np.array([v for v in values if not math.isinf(v)])
    assert not leaves(finite, (math.inf,)).any()
    assert leaves(finite, (-math.inf,)).tolist() == (~np.isnan(finite)).tolist()


@given(st.sets(st.floats(-3, 3, width=16), max_size=5), st.data())
def test_bins_and_their_bounds_let_the_same_exit(cuts: set[float], data: st.DataObject) -> None:
    edges = np.array(sorted(cuts))
    accepted = np.array(data.draw(st.lists(st.booleans(), min_size=len(edges) + 1, max_size=len(edges) + 1)))
    values = np.array([*edges, *data.draw(st.lists(st.floats(-4, 4, width=16), max_size=10))])
    expected = accepted[np.searchsorted(edges, values, side="right")]
    assert leaves(values, from_bins(edges, accepted)).tolist() == expected.tolist()


@pytest.mark.parametrize("t", [1.0, 0.7, -3.2, 36.7, 1e30, -1e-2])
def test_scores_are_compared_with_the_next_float32_below(t: float) -> None:
    at = float(decide_at(t))
    assert at == np.nextafter(np.float32(t), np.float32(-np.inf)) < t
    assert leaves(np.array([at, np.nextafter(at, -1e300)]), [t]).tolist() == [True, False]


@pytest.mark.parametrize("t", [0.0, 1e-9, -1e-9, 5e-324, 1e-4])
def test_near_zero_the_step_stays_above_the_rounding_of_sums(t: float) -> None:
    assert 1e-10 < t - float(decide_at(t)) < 1e-9


@pytest.mark.parametrize("t", [1e308, -1e308, 4e38, math.inf, -math.inf])
def test_thresholds_beyond_float32_stay_what_they_are(t: float) -> None:
    at = float(decide_at(t))
    assert at == t if math.isinf(t) else math.isfinite(at) and at < t


@example(-3.4028233e38, -3.40282387e38)
@example(3.4028233e38, 3.40282387e38)
@given(st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_a_higher_threshold_is_compared_no_lower(a: float, b: float) -> None:
    low, high = sorted([a, b])
    assert decide_at(low) <= decide_at(high)


@given(st.floats(-1e6, 1e6))
def test_just_above_leaves_the_threshold_itself_out(t: float) -> None:
    assert not leaves(np.array([t]), [float(just_above(t))]).any()
