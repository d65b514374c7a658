"""AUROC, AURC, calibration error and rank correlation: against definitions in loops and fractions, and scikit-learn."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.errors import UsageError
from pilotfish.plan.analysis import aurc, auroc, expected_calibration_error, failure_ranking
from pilotfish.plan.analysis.ranking import best_aurc
from pilotfish.plan.analysis.ties import midranks, spearman
from pilotfish.plan.trace import Trace, trace_of
from support.pairs import TIED, UNKNOWN, graded_traces, pairs
from support.pairs import Pair as Drawn


def lowest(score: float) -> float:
    return -math.inf if math.isnan(score) else score


def plain_auroc(scores: list[float], holds: list[bool]) -> Fraction | None:
    wins, count = Fraction(0), 0
    for a, is_a in zip(scores, holds, strict=True):
        for b, is_b in zip(scores, holds, strict=True):
            if is_a and not is_b:
                count += 1
                a_, b_ = lowest(a), lowest(b)
                wins += Fraction(1) if a_ > b_ else Fraction(1, 2) if a_ == b_ else 0
    return wins / count if count else None


def area(order: list[bool]) -> Fraction:
    failures, total = 0, Fraction(0)
    for k, holds in enumerate(order, 1):
        failures += not holds
        total += Fraction(failures, k)
    return total / len(order)


@given(pairs())
def test_auroc_is_the_share_of_pairs_in_order(pair: Drawn) -> None:
    score, holds, _ = pair.arrays
    expected = plain_auroc(pair.scores, pair.saver_ok)
    found = auroc(score, holds)
    assert (found is None) == (expected is None)
    if expected is not None:
        assert found == pytest.approx(float(expected), abs=1e-12)


@given(st.lists(st.tuples(TIED | UNKNOWN, st.booleans()), min_size=1, max_size=6))
def test_aurc_is_the_mean_over_every_order_of_the_ties(samples: list[tuple[float, bool]]) -> None:
    falling = sorted({lowest(s) for s, _ in samples}, reverse=True)
    areas = [
        area([samples[i][1] for i in order])
        for order in permutations(range(len(samples)))
        if [lowest(samples[i][0]) for i in order] == sorted((lowest(s) for s, _ in samples), reverse=True)
    ]
    assert areas
    assert falling
    score, holds = np.array([s for s, _ in samples]), np.array([h for _, h in samples])
    assert aurc(score, holds) == pytest.approx(float(sum(areas) / len(areas)), abs=1e-12)


@given(pairs())
def test_no_order_is_better_than_the_best(pair: Drawn) -> None:
    _, holds, _ = pair.arrays
    found = failure_ranking(pair.trace())
    assert found.right is not None
    for ranked in (found.right, found.as_good):
        assert ranked.e_aurc >= -1e-12
    wrong = int((~holds).sum())
    assert best_aurc(len(holds), wrong) == pytest.approx(float(area([True] * (len(holds) - wrong) + [False] * wrong)))
    assert aurc(holds.astype(float), holds) == pytest.approx(best_aurc(len(holds), wrong), abs=1e-12)


def test_auroc_against_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    for score in (rng.normal(size=3000), rng.integers(0, 9, 3000) / 8):
        holds = rng.random(3000) < 1 / (1 + np.exp(-score))
        assert auroc(score, holds) == pytest.approx(metrics.roc_auc_score(holds, score), abs=1e-12)


@given(st.lists(st.tuples(st.integers(0, 30).map(lambda k: k / 30) | st.floats(0, 1), st.booleans()), min_size=1))
def test_calibration_error_by_bins(samples: list[tuple[float, bool]]) -> None:
    bins: dict[int, list[tuple[float, bool]]] = {}
    for p, right in samples:
        bins.setdefault(max(math.ceil(p * 15) - 1, 0), []).append((p, right))
    expected = sum(abs(sum(r for _, r in b) - sum(p for p, _ in b)) for b in bins.values()) / len(samples)
    confidence = np.array([p for p, _ in samples] + [math.nan])  # what is unknown is left out
    right = np.array([r for _, r in samples] + [True])
    assert expected_calibration_error(confidence, right) == pytest.approx(expected, abs=1e-12)


def test_calibration_error_by_hand_and_out_of_range() -> None:
    right = np.array([True, False, True, True])
    assert expected_calibration_error(np.array([0.9, 0.9, 0.9, 0.9]), right) == pytest.approx(0.15)
    for bad in (np.array([1.2, 0.5, 0.5, 0.5]), np.full(4, math.nan)):
        with pytest.raises(UsageError, match="between 0 and 1"):
            expected_calibration_error(bad, right)


def test_a_score_that_is_no_probability_has_no_calibration_error() -> None:
    right = np.array([True, False])
    assert failure_ranking(trace_of([[3.0, -1.0]], [right, right])).ece is None
    log_odds = trace_of([[0.0, -800.0]], [right, right], scales=["log_odds"])
    assert failure_ranking(log_odds).ece == pytest.approx(0.25)


def test_what_exiting_needs_is_as_good_not_right() -> None:
    """The saver's one failure that the base shares costs nothing."""
    found = failure_ranking(trace_of([[0.9, 0.5, 0.1]], [[False, True, False], [False, True, True]]))
    assert found.right is not None
    assert found.right.auroc == 0.5
    assert (found.as_good.auroc, found.as_good.e_aurc) == (1.0, 0.0)


@given(graded_traces())
def test_where_answers_are_not_right_or_wrong_only_as_good_is_ranked(trace: Trace) -> None:
    found = failure_ranking(trace, np.full(len(trace), 0.5))
    assert (found.right, found.ece) == (None, None)
    holds = trace.quality[0] >= trace.quality[1]
    expected = plain_auroc(trace.values[0].tolist(), holds.tolist())
    assert found.as_good.auroc == (None if expected is None else pytest.approx(float(expected)))


@given(st.lists(st.tuples(TIED, TIED), min_size=0, max_size=12))
def test_spearman_is_the_correlation_of_midranks(points: list[tuple[float, float]]) -> None:
    def ranks(values: list[float]) -> list[Fraction]:
        return [Fraction(sum(v < x for v in values)) + Fraction(sum(v == x for v in values) + 1, 2) for x in values]

    a, b = [p[0] for p in points], [p[1] for p in points]
    found = spearman(a, b)
    if len(points) < 3 or len(set(a)) == 1 or len(set(b)) == 1:
        assert found is None
        return
    assert midranks(np.array(a)).tolist() == [float(r) for r in ranks(a)]
    middle = Fraction(len(points) + 1, 2)
    x, y = [r - middle for r in ranks(a)], [r - middle for r in ranks(b)]
    product = sum(i * j for i, j in zip(x, y, strict=True))
    expected = float(product) / math.sqrt(sum(i * i for i in x) * sum(j * j for j in y))
    assert found == pytest.approx(expected, abs=1e-12)
