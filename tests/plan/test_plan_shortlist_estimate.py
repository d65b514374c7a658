"""The guessed exit ratio: its coefficients and its error as the docs give them, refitted from the printed figures.

``data/printed_exit_ratios.csv`` holds what TinySaver's Tables 5 and 2 and Little-Big's Table 2 print, by way of
C = C_S + (1 - r) C_B; accuracies in percent, the drop in points. Rows that cannot be read with certainty are not in it.
"""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pilotfish.plan.shortlist import estimate
from pilotfish.plan.shortlist import estimate_exit_ratio as guess

Floats = NDArray[np.float64]
with (Path(__file__).parent / "data" / "printed_exit_ratios.csv").open(encoding="utf-8", newline="") as file:
    PRINTED = list(csv.DictReader(file))
BASE, SAVER, DROP, RATIO = (
    np.array([float(row[name]) for row in PRINTED]) for name in ("base_top1", "saver_top1", "drop", "exit_ratio")
)
PAIR = np.array([f"{row['base']}|{row['saver']}" for row in PRINTED])
BASES = np.array([row["base"] for row in PRINTED])


def features(base: Floats, saver: Floats, drop: Floats) -> Floats:
    gap = np.maximum(base - saver, 1e-9)
    return np.stack([np.ones_like(gap), np.log(gap), np.log(100 - saver), np.sqrt(drop)], 1)


X = features(BASE, SAVER, DROP)


def sigmoid(z: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-z)))


def fit(X: Floats, r: Floats) -> Floats:
    """Least squares in r by damped Gauss-Newton, from the logistic's linear start."""
    start = np.clip(r, 0.02, 0.98)
    w = np.linalg.lstsq(X, np.log(start / (1 - start)), rcond=None)[0]
    damping = 1e-3
    for _ in range(200):
        p = sigmoid(X @ w)
        J = X * (p * (1 - p))[:, None]
        A = J.T @ J
        step = np.linalg.solve(A + damping * np.diag(np.diag(A)), J.T @ (r - p))
        better = np.sum((sigmoid(X @ (w + step)) - r) ** 2) < np.sum((p - r) ** 2)
        w, damping = (w + step, damping / 3) if better else (w, damping * 4)
        if damping > 1e9:
            break
    return np.asarray(w)


def left_out_errors(groups: NDArray[np.str_]) -> Floats:
    """|r̂ - r| in points, each group predicted from the others."""
    guessed = np.empty(len(RATIO))
    for group in set(groups):
        out = groups == group
        guessed[out] = sigmoid(X[out] @ fit(X[~out], RATIO[~out]))
    guessed[BASE - SAVER <= DROP] = 1
    return np.asarray(100 * np.abs(guessed - RATIO))


def test_the_coefficients_are_the_least_squares_ones() -> None:
    written = [estimate.INTERCEPT, estimate.GAP, estimate.ERROR, estimate.DROP]
    assert fit(X, RATIO) == pytest.approx(written, abs=0.002)
    assert Counter(row["source"] for row in PRINTED) == {"tinysaver5": 169, "tinysaver2": 14, "littlebig2": 24}
    assert len(set(PAIR)) == 72
    assert pytest.approx((SAVER.min() / 100, SAVER.max() / 100), abs=1e-3) == estimate.FITTED_SAVER
    assert (BASE - SAVER).max() <= 100 * estimate.FITTED_GAP < (BASE - SAVER).max() + 0.1
    assert DROP.max() == 100 * estimate.FITTED_DROP


def test_the_error_that_the_docs_give() -> None:
    by_pair, by_base = left_out_errors(PAIR), left_out_errors(BASES)
    assert [round(float(e.mean()), 1) for e in (by_pair, by_base)] == [4.1, 4.2]
    assert {drop: round(float(by_pair[drop == DROP].mean()), 1) for drop in (1, 0.5, 0.1, 0)} == {
        1: 2.5,
        0.5: 2.6,
        0.1: 3.1,
        0: 6.7,
    }
    assert 9 < np.quantile(by_pair, 0.9) < 10.5
    assert by_pair.max() == pytest.approx(33, abs=0.5)
    means = np.array([RATIO[drop == DROP].mean() for drop in DROP])
    assert 100 * np.abs(RATIO - means).mean() == pytest.approx(13, abs=0.5)


def test_the_saver_that_the_paper_chose_is_near_the_top_of_the_papers_pool() -> None:
    """Table 5's 43 bases, each ranked over the pool of 44 at drop 0 with coefficients fitted without that base."""
    rows = [row for row in PRINTED if row["source"] == "tinysaver5"]
    pool = {
        row[role]: (float(row[f"{role}_top1"]), float(row[f"{role}_gmacs"]))
        for row in rows
        for role in ("base", "saver")
    }
    places = []
    for base, saver in {row["base"]: row["saver"] for row in rows}.items():
        w = fit(X[base != BASES], RATIO[base != BASES])
        top1, gmacs = pool[base]
        names = [name for name, (_, cost) in pool.items() if cost < gmacs]
        their_top1 = np.array([pool[name][0] for name in names])
        r = sigmoid(features(np.full(len(names), top1), their_top1, np.zeros(len(names))) @ w)
        r[their_top1 >= top1] = 1
        delta = np.array([pool[name][1] for name in names]) / gmacs - r
        places.append([names[i] for i in np.argsort(delta)].index(saver) + 1)
    assert len(pool) == 44
    assert len(places) == 43
    assert [sum(place <= k for place in places) for k in (1, 2, 5, 10)] == [13, 25, 32, 38]


accuracies = st.floats(0.01, 0.995)
drops = st.floats(0, 0.05)


@given(accuracies, accuracies, accuracies, drops, drops)
def test_a_better_saver_exits_more_a_better_base_less_and_a_larger_drop_more(
    base: float, saver: float, other: float, drop: float, other_drop: float
) -> None:
    low, high = sorted((saver, other))
    slack = 1e-12
    assert guess(base, low, drop) <= guess(base, high, drop) + slack
    assert guess(high, base, drop) <= guess(low, base, drop) + slack
    assert guess(base, saver, min(drop, other_drop)) <= guess(base, saver, max(drop, other_drop)) + slack
    assert 0 <= guess(base, saver, drop) <= 1


def test_a_saver_within_the_drop_answers_everything() -> None:
    assert guess(0.8, [0.8, 0.9, 1.0, 0.796], 0.005).tolist() == [1.0, 1.0, 1.0, 1.0]
    assert guess(0.8, 0.79) < 1
    assert guess(1.0, 1.0) == 1


def test_by_hand() -> None:
    z = 0.6838 - 1.4475 * np.log(2) + 0.4855 * np.log(18) + 1.3407 * np.sqrt(0.5)
    assert guess(0.84, 0.82, 0.005) == pytest.approx(1 / (1 + np.exp(-z)))
    assert guess([[0.84], [0.9]], [0.7, 0.82, 0.83]).shape == (2, 3)
