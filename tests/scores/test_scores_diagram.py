"""Reliability diagrams against plain loops: bins, bounds, neighbours, kernel, isotonic, exit bins."""

from __future__ import annotations

import math
from itertools import combinations_with_replacement

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.scores import to_shown
from pilotfish.scores.diagram import Diagram, binned, smoothed


def sample(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.uniform(size=n), rng.uniform(size=n) < 0.7


def test_a_bin_is_as_high_as_its_share_of_right_answers() -> None:
    values, right = sample(0, 500)
    found = binned(values, right, "identity", 10, "width", None)
    for b in range(10):
        inside = [bool(r) for v, r in zip(values, right, strict=True) if b / 10 <= v < (b + 1) / 10]
        assert found.accuracy[b] == pytest.approx(sum(inside) / len(inside))
        assert found.count[b] == len(inside)


def test_bins_have_equal_width_in_the_unit_people_read() -> None:
    log_odds = np.random.default_rng(1).normal(1, 2, 400)
    found = binned(log_odds, log_odds > 0, "log_odds", 5, "width", None)
    assert to_shown("log_odds", found.edges) == pytest.approx([0.2, 0.4, 0.6, 0.8])
    unbounded = binned(log_odds, log_odds > 0, "identity", 4, "width", None)
    low, high = log_odds.min(), log_odds.max()
    assert unbounded.edges == pytest.approx([low + (high - low) * b / 4 for b in (1, 2, 3)])


def test_bins_of_equal_mass_hold_equally_many() -> None:
    values, right = sample(2, 300)
    assert binned(values, right, "identity", 6, "mass", None).count.tolist() == [50] * 6
    tied = np.repeat([0.1, 0.5, 0.9], [100, 10, 10])  # equal values share a bin however many they are
    found = binned(tied, np.ones(120, bool), "identity", 6, "mass", None)
    assert found.count.sum() == 120
    assert found.count[0] == 100


def test_a_sparse_bin_is_unknown() -> None:
    found = binned(np.array([0.05] * 4 + [0.95] * 9), np.ones(13, bool), "identity", 10, "width", None)
    assert np.isneginf(found.accuracy[:9]).all()
    assert found.accuracy[9] == 1.0
    assert found.at_least(0.0).tolist() == [False] * 9 + [True]


def test_the_lower_bound_is_clopper_pearsons() -> None:
    beta = pytest.importorskip("scipy.stats").beta
    values = np.repeat([0.1, 0.4, 0.6, 0.9], 20)
    hits = [5, 0, 19, 20]
    right = np.concatenate([np.arange(20) < k for k in hits])
    found = binned(values, right, "identity", 4, "width", 0.9)
    expected = [beta.ppf(0.1, k, 20 - k + 1) if k else 0.0 for k in hits]
    assert found.accuracy == pytest.approx(expected)


def test_neighbours_are_counted_on_both_sides() -> None:
    values, right = sample(3, 60)
    values.sort()
    found = smoothed(values, right, "identity", "neighbours", 7, 0.1, None)
    for i in range(60):
        assert found.at(values[i : i + 1])[0] == pytest.approx(right[max(0, i - 7) : i + 8].mean())


def test_the_kernel_weighs_by_distance_as_people_read_it() -> None:
    log_odds = np.sort(np.random.default_rng(4).normal(size=50))
    right = np.random.default_rng(5).uniform(size=50) < 0.6
    found = smoothed(log_odds, right, "log_odds", "kernel", 7, 0.05, None)
    p = [1 / (1 + math.exp(-v)) for v in log_odds]
    for i in range(50):
        weights = [math.exp(-0.5 * ((p[i] - q) / 0.05) ** 2) for q in p]
        expected = sum(w for w, r in zip(weights, right, strict=True) if r) / sum(weights)
        assert found.at(log_odds[i : i + 1])[0] == pytest.approx(expected)


@given(st.lists(st.booleans(), min_size=1, max_size=6))
def test_isotonic_is_the_best_rising_function(hits: list[bool]) -> None:
    values = np.arange(len(hits)) / 10
    found = smoothed(values, np.array(hits), "identity", "isotonic", 7, 0.1, None)
    assert (np.diff(found.accuracy) >= -1e-12).all()
    loss = float(((found.at(values) - hits) ** 2).sum())
    heights = sorted({a / b for b in range(1, len(hits) + 1) for a in range(b + 1)})
    best = min(
        sum((h - r) ** 2 for h, r in zip(rising, hits, strict=True))
        for rising in combinations_with_replacement(heights, len(hits))
    )
    assert loss == pytest.approx(best, abs=1e-9)


@pytest.mark.parametrize("smoothing", ["neighbours", "kernel", "isotonic"])
def test_equal_values_have_one_height_whatever_their_order(smoothing: str) -> None:
    values = np.repeat([0.2, 0.5, 0.7], 20)
    right = np.random.default_rng(6).uniform(size=60) < 0.5
    turned = np.concatenate([right[i : i + 20][::-1] for i in (0, 20, 40)])
    one, two = (smoothed(values, r, "identity", smoothing, 100, 0.1, None) for r in (right, turned))  # type: ignore[arg-type]
    assert one.accuracy == pytest.approx(two.accuracy)
    assert len(one.accuracy) == 3


def test_a_diagram_is_read_with_its_edges_in_the_upper_bin() -> None:
    found = Diagram(np.array([0.5, 0.8]), np.array([0.1, 0.2, 0.3]), np.ones(3))
    heights = found.at(np.array([-9.0, 0.49, 0.5, 0.79, 0.8, math.inf, math.nan]))
    assert heights[:-1].tolist() == [0.1, 0.1, 0.2, 0.2, 0.3, 0.3]
    assert math.isnan(heights[-1])


def test_samples_without_a_score_say_nothing() -> None:
    values, right = sample(7, 100)
    known = binned(values, right, "identity", 5, "width", None)
    more = np.concatenate([values, np.full(30, np.nan)]), np.concatenate([right, np.zeros(30, bool)])
    assert (binned(*more, "identity", 5, "width", None).accuracy == known.accuracy).all()
    for nothing in (binned, smoothed):
        empty = np.full(9, np.nan), np.ones(9, bool), "identity"
        found = nothing(*empty, *((5, "width", None) if nothing is binned else ("kernel", 7, 0.1, None)))  # type: ignore[operator]
        assert np.isneginf(found.accuracy).all()
        assert not found.at_least(0.0).any()


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 9)), min_size=1, max_size=6), st.floats(0, 1))
def test_on_average_takes_the_most_bins_from_the_top_that_keep_the_mean(
    bins: list[tuple[int, int]], delta: float
) -> None:
    accuracy = np.array([a / 4 for a, _ in bins])
    count = np.array([float(c) for _, c in bins])
    taken = Diagram(np.arange(len(bins) - 1.0), accuracy, count).at_least_on_average(delta)
    order = sorted(range(len(bins)), key=lambda b: -accuracy[b])
    most = 0
    for m in range(1, len(order) + 1):
        top = order[:m]
        if sum(accuracy[b] * count[b] for b in top) >= (delta - 1e-12) * sum(count[b] for b in top):
            most = m
    assert int(taken.sum()) == most
    assert set(np.flatnonzero(taken).tolist()) == set(order[:most])
