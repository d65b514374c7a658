"""The numbers behind the plots, against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.plan import sweep
from pilotfish.report.curves import MOST_POINTS, exited_accuracy, thin
from pilotfish.report.mistakes import mistakes
from pilotfish.report.subject import Pair
from pilotfish.scores import Scored


def make_pair(score: np.ndarray, saver: np.ndarray, base: np.ndarray, threshold: float | None = None) -> Pair:
    path = sweep(score, saver, base)
    match = path.last_feasible()
    at = float(path.thresholds[match]) if threshold is None else threshold
    return Pair("s", "b", Scored(score, "log_odds"), saver, base, path, match, at)


def random_pair(seed: int, n: int, ties: bool) -> Pair:
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


@pytest.mark.parametrize("ties", [False, True])
def test_exited_accuracy_by_counting(ties: bool) -> None:
    pair = random_pair(1, 4000, ties)
    curve = exited_accuracy(pair)
    assert len(curve.r) <= MOST_POINTS
    score = pair.scored.values
    assert curve.r[-1] == np.isfinite(score).mean()
    falling = np.sort(score[~np.isnan(score)])[::-1]
    for r, saver, base in list(zip(curve.r, curve.saver, curve.base, strict=True))[:: 1 if ties else 40]:
        exits = score >= falling[round(r * 4000) - 1]
        assert exits.sum() == round(r * 4000)
        assert saver == pytest.approx(pair.saver_correct[exits].mean())
        assert base == pytest.approx(pair.base_correct[exits].mean())
    if curve.match is not None:
        assert curve.r[curve.match] == pair.r_match


def test_no_crossing_has_no_match() -> None:
    n = 50
    pair = make_pair(np.arange(n, dtype=float), np.zeros(n, bool), np.ones(n, bool))
    assert exited_accuracy(pair).match is None
    assert pair.r_match == 0


@pytest.mark.parametrize("threshold", [None, 0.3, np.inf, -np.inf])
def test_mistakes_by_counting(threshold: float | None) -> None:
    pair = random_pair(2, 3000, ties=True)
    pair = make_pair(pair.scored.values, pair.saver_correct, pair.base_correct, threshold)
    found = mistakes(pair)
    counts, s, b = found.counts, pair.saver_correct, pair.base_correct
    exits = pair.scored.values >= pair.threshold
    assert counts.corrected == (~s & b).sum()
    assert counts.shared == (~s & ~b).sum()
    assert counts.spoiled == (s & ~b).sum()
    assert counts.corrected_kept == (~s & b & exits).sum()
    assert counts.spoiled_kept == (s & ~b & exits).sum()
    assert counts.unscored == np.isnan(pair.scored.values).sum()
    drop = (b & exits).sum() - (s & exits).sum()
    assert counts.corrected_kept - counts.spoiled_kept == drop
    finite = ~np.isnan(pair.scored.values)
    assert found.corrected.sum() == (~s & b & finite).sum()
    assert found.shared.sum() == (~s & ~b & finite).sum()
    assert found.spoiled.sum() == (s & ~b & finite).sum()
    shown = 1 / (1 + np.exp(-pair.scored.values[~s & b & finite]))
    assert counts.median == pytest.approx(np.median(shown))
    assert counts.q90 == pytest.approx(np.quantile(shown, 0.9))


def test_extreme_scores_count_in_the_outermost_bins() -> None:
    score = np.array([-800.0, 0.0, 1.7e308, 5.0])
    found = mistakes(make_pair(score, np.zeros(4, bool), np.ones(4, bool)))
    assert found.corrected.sum() == 4
    assert np.isfinite(found.edges).all()


def test_constant_scores_have_bins() -> None:
    found = mistakes(make_pair(np.ones(9), np.zeros(9, bool), np.ones(9, bool)))
    assert (np.diff(found.edges) > 0).all()
    assert found.corrected.sum() == 9
