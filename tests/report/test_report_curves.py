"""The numbers behind the plots, against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.plan.analysis.curves import thin
from pilotfish.plan.trace import Trace, trace_of
from pilotfish.report.mistakes import mistakes


def make_pair(score: np.ndarray, saver: np.ndarray, base: np.ndarray) -> Trace:
    return trace_of([score], [saver, base], scales=["log_odds"], names=("s", "b"))


def random_pair(seed: int, n: int, ties: bool) -> Trace:
    rng = np.random.default_rng(seed)
    score = rng.normal(size=n) * 3
    if ties:
        score = np.round(score)
    score[rng.random(n) < 0.02] = np.nan
    saver = rng.random(n) < 1 / (1 + np.exp(-np.nan_to_num(score)))
    return make_pair(score, saver, rng.random(n) < 0.8)


@given(st.integers(1, 3000), st.integers(0, 5), st.integers(5, 60))
def test_thinning_keeps_ends_and_the_wanted(n: int, seed: int, most: int) -> None:
    position = np.sort(np.random.default_rng(seed).normal(size=n))
    keep = [n // 3]
    rows = thin(position, keep, most)
    assert len(rows) <= max(most, 3)
    assert {0, n - 1, n // 3} <= set(rows.tolist()) or n <= most
    assert (np.diff(rows) > 0).all()


@pytest.mark.parametrize("threshold", [2.0, 0.3, np.inf, -np.inf])
def test_mistakes_by_counting(threshold: float) -> None:
    pair = random_pair(2, 3000, ties=True)
    found, (s, b), score = mistakes(pair, threshold), pair.quality, pair.values[0]
    counts, exits = found.counts, score >= threshold
    assert counts.corrected == (~s & b).sum()
    assert counts.shared == (~s & ~b).sum()
    assert counts.spoiled == (s & ~b).sum()
    assert counts.corrected_kept == (~s & b & exits).sum()
    assert counts.spoiled_kept == (s & ~b & exits).sum()
    assert counts.unscored == np.isnan(score).sum()
    drop = (b & exits).sum() - (s & exits).sum()
    assert counts.corrected_kept - counts.spoiled_kept == drop
    finite = ~np.isnan(score)
    assert found.corrected.sum() == (~s & b & finite).sum()
    assert found.shared.sum() == (~s & ~b & finite).sum()
    assert found.spoiled.sum() == (s & ~b & finite).sum()
    shown = 1 / (1 + np.exp(-score[~s & b & finite]))
    assert counts.median == pytest.approx(np.median(shown))
    assert counts.q90 == pytest.approx(np.quantile(shown, 0.9))


def test_extreme_scores_count_in_the_outermost_bins() -> None:
    score = np.array([-800.0, 0.0, 1.7e308, 5.0])
    found = mistakes(make_pair(score, np.zeros(4, bool), np.ones(4, bool)), np.inf)
    assert found.corrected.sum() == 4
    assert np.isfinite(found.edges).all()


def test_constant_scores_have_bins() -> None:
    found = mistakes(make_pair(np.ones(9), np.zeros(9, bool), np.ones(9, bool)), np.inf)
    assert (np.diff(found.edges) > 0).all()
    assert found.corrected.sum() == 9


def test_better_and_worse_answers_where_they_are_not_right_or_wrong() -> None:
    rng = np.random.default_rng(0)
    score, (s, b) = rng.normal(size=500), rng.integers(0, 5, (2, 500)) / 4
    counts = mistakes(make_pair(score, s, b), 0.5).counts
    assert (counts.corrected, counts.shared, counts.spoiled) == ((s < b).sum(), 0, (s > b).sum())
    assert counts.corrected_kept == ((s < b) & (score >= 0.5)).sum()
