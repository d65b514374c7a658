"""Exit sets against intervals in plain words."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.cascade import from_bins, leaves

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
