"""Whether a promise still holds: tests in both directions, against enumeration and the textbook."""

from __future__ import annotations

from collections import Counter
from math import lgamma

import numpy as np
import pytest
from scipy.stats import binomtest

from pilotfish.plan.certificate import LEVEL, Promise, exact, grouped, standing
from pilotfish.plan.certificate.hindsight import both_ways
from pilotfish.plan.certificate.promise_tests import passes
from pilotfish.plan.evaluate import count
from pilotfish.plan.path import PolicyPath
from pilotfish.plan.trace import Trace, trace_of

SAVER = PolicyPath(np.array([[0.0]]))  # scores of at least 0 exit


def paired(lost: int, won: int, n: int, exits: int | None = None, groups: np.ndarray | None = None) -> Trace:
    """n samples, the first of which exit; the base alone is right on *lost*, the saver alone on *won*, both on half of
    the others."""
    saver, base = np.zeros(n, bool), np.zeros(n, bool)
    base[:lost], saver[lost : lost + won] = True, True
    saver[lost + won : (n + lost + won) // 2] = base[lost + won : (n + lost + won) // 2] = True
    scores = np.where(np.arange(n) < (n if exits is None else exits), 1.0, -1.0)
    return trace_of([scores], [saver, base], (1.0, 9.0), groups=groups)


@pytest.mark.parametrize("drop", [-0.3, -0.1, 0.0, 0.02, 0.2])
def test_the_exact_test_keeps_its_level_for_every_hypothesis(drop: float) -> None:
    n = 12
    lost, won = (grid.ravel() for grid in np.meshgrid(np.arange(n + 1), np.arange(n + 1), indexing="ij"))
    lost, won = lost[lost + won <= n], won[lost + won <= n]
    p = np.array([exact.p_value(b, c, n, drop) for b, c in zip(lost.tolist(), won.tolist(), strict=True)])
    rest = n - lost - won
    ways = lgamma(n + 1) - sum(np.vectorize(lgamma)(count + 1) for count in (lost, won, rest))
    for p01 in np.linspace(0, 1, 31):
        for p10 in np.linspace(max(p01 + drop, 0), 1 - p01, 15) if p01 + drop <= 1 - p01 else []:
            with np.errstate(divide="ignore", invalid="ignore"):
                logs = [np.where(k, k * np.log(q), 0.0) for k, q in ((lost, p10), (won, p01), (rest, 1 - p10 - p01))]
            chance = np.exp(ways + np.nan_to_num(sum(logs), nan=-np.inf))
            for level in (1e-6, 1e-5, 1e-4, 5e-4, 0.05, 0.2):
                assert chance[p <= level].sum() <= level + 1e-9


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (3, 0), (9, 4), (30, 2)])
def test_at_positive_drops_it_is_the_test_of_certificates(lost: int, won: int) -> None:
    for drop in (0.005, 0.02, 0.1):
        assert (exact.p_value(lost, won, 400, drop) <= LEVEL) == bool(exact.rejects(lost, won, 400, drop, LEVEL))


@pytest.mark.parametrize("k", [0, 3, 12, 40])
@pytest.mark.parametrize("kind", ["agreement", "accuracy", "cost"])
def test_counts_are_judged_by_the_binomial_law(kind: str, k: int) -> None:
    n = 200
    if kind == "cost":  # of 1 and 9: 1 + 9 for each that reaches the base
        trace, promise, chance = paired(0, 0, n, exits=n - k), Promise(kind, 1 + 9 * 0.05, LEVEL), 0.05
    elif kind == "agreement":
        trace, promise, chance = paired(k, 0, n), Promise(kind, 0.05, LEVEL), 0.05
    else:
        trace = paired(k, 0, n)
        k = int(n - trace.quality[0].sum())
        promise, chance = Promise(kind, 0.55, LEVEL), 0.45
    found = standing(trace, SAVER, promise)
    assert found.p == pytest.approx(binomtest(k, n, chance, alternative="greater").pvalue, rel=1e-9)
    below = binomtest(k, n, chance, alternative="less").pvalue
    if abs(below - LEVEL) > 1e-9:
        assert found.holds == (below <= LEVEL)


@pytest.mark.parametrize("unit", ["samples", "groups"])
@pytest.mark.parametrize(
    ("promise", "lost", "exits", "said"),
    [
        (Promise("drop", 0.02, 1.0), 8, None, "holds"),
        (Promise("drop", 0.02, 1.0), 200, None, "broken"),
        (Promise("drop", 0.02, 1.0), 38, None, "cannot tell"),
        (Promise("drop", -0.01, 1.0), 60, None, "broken"),
        (Promise("agreement", 0.05, 1.0), 20, None, "holds"),
        (Promise("agreement", 0.05, 1.0), 250, None, "broken"),
        (Promise("agreement", 0.05, 1.0), 104, None, "cannot tell"),
        (Promise("accuracy", 0.45, 1.0), 8, None, "holds"),
        (Promise("accuracy", 0.55, 1.0), 8, None, "broken"),
        (Promise("accuracy", 0.5, 1.0), 30, None, "cannot tell"),
        (Promise("cost", 6.5, 1.0), 0, 1000, "holds"),
        (Promise("cost", 4.5, 1.0), 0, 1000, "broken"),
        (Promise("cost", 5.45, 1.0), 0, 1000, "cannot tell"),
    ],
)
def test_where_a_promise_stands(promise: Promise, lost: int, exits: int | None, said: str, unit: str) -> None:
    n = 2000
    order = np.random.default_rng(0).permutation(n)
    trace = paired(lost, 0, n, exits).take(order)
    if unit == "groups":
        trace = trace_of(trace.values, trace.quality, trace.costs, groups=np.arange(n) // 2)
    found = standing(trace, SAVER, promise)
    assert ("broken" if found.broken else "holds" if found.holds else "cannot tell") == said
    held = found.bound >= promise.target if promise.at_least else found.bound <= promise.target
    assert held == found.holds
    if said == "cannot tell":
        assert found.needed is not None
        assert n < found.needed < 2e6


@pytest.mark.parametrize("promise", [Promise("drop", 0.02, 1.0), Promise("agreement", 0.035, 1.0)])
def test_as_many_samples_as_it_asks_for_tell(promise: Promise) -> None:
    found = standing(paired(26, 0, 1000), SAVER, promise)
    assert not found.broken
    assert not found.holds
    times = 1.3 * (found.needed or 0) / 1000
    more = standing(paired(round(26 * times), 0, round(1000 * times)), SAVER, promise)
    assert more.broken or more.holds


def test_a_cascade_that_asks_the_base_only_loses_nothing() -> None:
    nobody = PolicyPath(np.array([[np.inf]]))
    found = standing(paired(0, 0, 5), nobody, Promise("drop", 0.0, 1.0))
    assert (found.p, found.holds, found.bound) == (1.0, True, 0.0)


@pytest.mark.parametrize("limit", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("lowest", [-1.0, 0.0])
def test_a_bettor_is_wrong_no_more_often_than_stated(limit: float, lowest: float) -> None:
    rng, n, wrong = np.random.default_rng(0), 300, 0
    sizes = np.ones(n)
    for _ in range(400):  # the share lost is the limit itself
        lost = np.where(rng.random(n) < (limit - lowest) / (1 - lowest), 1.0, lowest)
        wrong += grouped.p_value(lost, sizes, 1, limit, lowest, LEVEL) <= LEVEL
    assert wrong <= 400 * LEVEL + 2 * np.sqrt(400 * LEVEL * (1 - LEVEL))


def test_over_many_draws_the_verdict_is_wrong_as_rarely_as_it_says() -> None:
    rng, draws, n = np.random.default_rng(0), 150, 150
    population = paired(600, 200, 4000)  # a drop of ten points
    counted: Counter[tuple[int, int]] = Counter()
    for _ in range(draws):
        counts = count(population.take(rng.integers(0, 4000, n)), SAVER)
        counted[int(counts.lost[0]), int(counts.won[0])] += 1
    at = over = under = 0
    for (lost, won), times in counted.items():
        drawn = paired(lost, won, n)
        counts = count(drawn, SAVER)
        at += times * (both_ways(drawn, SAVER, counts, Promise("drop", 0.1, LEVEL))[0] <= LEVEL)
        over += times * (both_ways(drawn, SAVER, counts, Promise("drop", -0.05, LEVEL))[0] <= LEVEL)
        under += times * both_ways(drawn, SAVER, counts, Promise("drop", 0.25, LEVEL))[1]
    assert 0 < at <= draws * LEVEL + 2 * np.sqrt(draws * LEVEL * (1 - LEVEL))
    assert over >= 0.9 * draws
    assert under >= 0.9 * draws


def test_what_holds_is_what_a_certificate_passes() -> None:
    for lost in (0, 8, 40):
        trace = paired(lost, 3, 500)
        promise = Promise("drop", 0.02, LEVEL)
        passed = bool(passes(trace, SAVER, count(trace, SAVER), promise)[0])
        assert standing(trace, SAVER, promise).holds == passed
