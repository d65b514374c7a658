"""Bounds and tests of certificates against scipy, exact sums over all outcomes, and plain loops of the recipes."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binom

from pilotfish.plan.certificate import exact, fewest_samples, lower, paired_upper, upper, wsr

DELTA = 0.1


@given(st.integers(1, 3000), st.data())
def test_clopper_pearson_is_scipys(n: int, data: st.DataObject) -> None:
    k, delta = data.draw(st.integers(0, n)), data.draw(st.sampled_from([0.01, 0.05, 0.1, 0.5]))
    assert float(upper(k, n, delta)) == pytest.approx(1.0 if k == n else beta.ppf(1 - delta, k + 1, n - k), rel=1e-9)
    assert float(lower(k, n, delta)) == pytest.approx(0.0 if k == 0 else beta.ppf(delta, k, n - k + 1), rel=1e-9)


@pytest.mark.parametrize(("n", "k"), [(10, 0), (10, 3), (200, 1), (500, 20)])
def test_the_upper_bound_is_where_so_few_events_become_unlikely(n: int, k: int) -> None:
    p = float(upper(k, n, DELTA))
    assert sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1)) == pytest.approx(DELTA, rel=1e-6)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 500))
def test_the_paired_bound_spends_half_on_each_count(lost: int, won: int, same: int) -> None:
    n = lost + won + same
    expected = float(upper(lost, n, DELTA / 2)) - float(lower(won, n, DELTA / 2))
    assert float(paired_upper(lost, won, n, DELTA)) == expected
    assert expected >= (lost - won) / n


@pytest.mark.parametrize(("test", "expected"), [("exact", 460), ("paired_cp", 598), ("wsr", 542)])
def test_the_fewest_samples_that_can_certify_half_a_point(test: str, expected: int) -> None:
    assert fewest_samples(0.005, DELTA, test) == expected


@pytest.mark.parametrize("drop", [0.002, 0.01, 0.05])
def test_the_fewest_samples_are_the_first_that_pass(drop: float) -> None:
    passes = {
        "exact": lambda n: bool(exact.rejects(0, 0, n, drop, DELTA)),
        "paired_cp": lambda n: float(paired_upper(0, 0, n, DELTA)) <= drop,
        "wsr": lambda n: wsr.rejects(np.full(n, 0.5), (drop + 1) / 2, DELTA),
    }
    for test, kept in passes.items():
        n = fewest_samples(drop, DELTA, test)
        assert kept(n)
        assert not kept(n - 1)


# --- betting


def plain_wealth(x: list[float], mean: float, delta: float, c: float = 0.9) -> list[float]:
    """The recipe in words: each bet knows the samples before it alone."""
    n, wealth, found = len(x), 0.0, []
    for i in range(1, n + 1):
        seen = x[: i - 1]
        averages = [(0.5 + sum(x[:j])) / (j + 1) for j in range(1, i)]
        variance = (0.25 + sum((x[j] - averages[j]) ** 2 for j in range(len(seen)))) / (len(seen) + 1)
        bet = min(math.sqrt(2 * math.log(1 / delta) / (n * variance)), c / (1 - mean))
        wealth += math.log(1 - bet * (x[i - 1] - mean))
        found.append(wealth)
    return found


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=40), st.sampled_from([0.5025, 0.51, 0.6]))
def test_the_wealth_is_that_of_the_recipe(x: list[float], mean: float) -> None:
    assert wsr.log_wealth(np.array(x), mean, DELTA) == pytest.approx(plain_wealth(x, mean, DELTA), rel=1e-9, abs=1e-12)


def test_a_bet_does_not_know_what_comes() -> None:
    x = np.random.default_rng(0).choice([0.0, 0.5, 1.0], 300)
    other = x.copy()
    other[200:] = 1 - other[200:]
    assert (wsr.log_wealth(x, 0.51, DELTA)[:200] == wsr.log_wealth(other, 0.51, DELTA)[:200]).all()


def test_betting_rarely_rejects_what_is_true() -> None:
    rng = np.random.default_rng(0)
    drop, n = 0.02, 400
    rejected = sum(
        wsr.rejects(rng.choice([0, 0.5, 1], n, p=[0.04, 0.9, 0.06]), (drop + 1) / 2, DELTA) for _ in range(400)
    )
    assert rejected / 400 <= DELTA + 3 * math.sqrt(DELTA * (1 - DELTA) / 400)


def test_the_upper_bound_of_a_mean_is_where_it_is_rejected() -> None:
    x = np.random.default_rng(1).uniform(0, 1, 500)
    bound = wsr.upper_bound(x, DELTA)
    assert wsr.rejects(x, bound, DELTA)
    assert not wsr.rejects(x, bound - 1e-3, DELTA)
    assert x.mean() < bound < x.mean() + 0.1


# --- the exact test


def log_likelihood(q: float, lost: int, won: int, n: int, drop: float) -> float:
    parts = [(lost, q + drop), (won, q), (n - lost - won, 1 - 2 * q - drop)]
    return sum(k * math.log(p) if p > 0 else (0.0 if k == 0 else -math.inf) for k, p in parts)


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 300), st.sampled_from([0.005, 0.02, 0.1]))
@settings(max_examples=60)
def test_the_statistic_is_standardised_by_the_likeliest_nuisance(lost: int, won: int, same: int, drop: float) -> None:
    n = lost + won + same
    if n == 0:
        return
    grid = np.linspace(0, (1 - drop) / 2, 20_001)
    best = max(grid.tolist(), key=lambda q: log_likelihood(q, lost, won, n, drop))
    expected = (won - lost + n * drop) / math.sqrt(n * (2 * best + drop - drop**2))
    assert float(exact.statistic(lost, won, n, drop)) == pytest.approx(expected, rel=2e-2, abs=1e-6)


class Trinomial:
    """Every outcome (lost, won) of n samples, and which the test rejects; chances are plain sums over them."""

    def __init__(self, n: int, drop: float, critical: float) -> None:
        outcomes = [(b, c) for b, c in itertools.product(range(n + 1), repeat=2) if b + c <= n]
        kept = [(b, c) for b, c in outcomes if float(exact.statistic(b, c, n, drop)) >= critical]
        self.lost, self.won = np.array(kept).T
        self.same = n - self.lost - self.won
        self.ways = np.array([float(math.comb(n, b) * math.comb(n - b, c)) for b, c in kept])

    def rejected(self, p10: float, p01: float) -> float:
        same = max(1 - p10 - p01, 0.0)
        return float((self.ways * p10**self.lost * p01**self.won * same**self.same).sum())


@pytest.mark.parametrize(("n", "drop", "delta"), [(20, 0.1, 0.1), (30, 0.2, 0.1), (45, 0.3, 0.05), (60, 0.05, 0.1)])
def test_what_is_false_is_rejected_with_chance_delta_at_most(n: int, drop: float, delta: float) -> None:
    """On the edge of the hypothesis, also between the nuisances that were tried, and on a grid inside it."""
    critical = exact.critical_value(n, drop, delta)
    every = Trinomial(n, drop, critical)
    between = np.random.default_rng(0).uniform(0, (1 - drop) / 2, 100)
    edge = [every.rejected(q + drop, q) for q in [*np.linspace(0, (1 - drop) / 2, 301), *between]]
    assert max(edge) <= delta
    assert exact.size(n, drop, critical) == pytest.approx(max(edge), abs=exact.SAFETY)
    tried = exact.nuisances(n, drop)
    assert exact.chances(n, drop, critical, tried) == pytest.approx([every.rejected(q + drop, q) for q in tried])
    for gap in np.linspace(drop, 1, 25):
        assert max(every.rejected(q + gap, q) for q in np.linspace(0, (1 - gap) / 2, 25)) <= delta


@pytest.mark.parametrize(("n", "drop", "delta"), [(300, 0.1, 0.05), (1000, 0.01, 0.1), (2000, 0.01, 0.1)])
def test_no_nuisance_between_those_tried_exceeds_delta(n: int, drop: float, delta: float) -> None:
    """Near its end the chance moves fast with the nuisance: too coarse a grid lets some exceed delta there."""
    critical = exact.critical_value(n, drop, delta)
    fine = np.concatenate([np.linspace(0, (1 - drop) / 2, 700), np.linspace(0.48 - drop / 2, (1 - drop) / 2, 300)])
    assert exact.chances(n, drop, critical, fine).max() <= delta


def test_the_critical_value_is_no_larger_than_it_must_be() -> None:
    for n, drop in ((50, 0.3), (300, 0.1), (1000, 0.01)):
        critical = exact.critical_value(n, drop, DELTA)
        assert exact.size(n, drop, critical) <= DELTA - exact.SAFETY
        assert exact.size(n, drop, critical - 2e-3) > DELTA - exact.SAFETY


@pytest.mark.parametrize(("n", "drop"), [(460, 0.005), (1000, 0.005), (2000, 0.01), (50, 0.1)])
def test_with_no_answer_won_it_is_the_binomial_test_or_stricter(n: int, drop: float) -> None:
    rejected = [lost for lost in range(n) if exact.rejects(lost, 0, n, drop, DELTA)]
    assert rejected == list(range(len(rejected)))
    assert binom.cdf(max(rejected), n, drop) <= DELTA


@given(st.integers(0, 60), st.integers(0, 60), st.sampled_from([(600, 0.01), (1000, 0.02)]))
@settings(max_examples=40, deadline=None)
def test_fewer_lost_or_more_won_is_never_worse(lost: int, won: int, setting: tuple[int, float]) -> None:
    n, drop = setting
    if exact.rejects(lost, won, n, drop, DELTA):
        assert exact.rejects(max(lost - 1, 0), won, n, drop, DELTA)
        assert exact.rejects(lost, won + 1, n, drop, DELTA)


@pytest.mark.parametrize(("n", "drop"), [(40, 0.2), (400, 0.02)])
def test_what_is_rejected_has_no_holes(n: int, drop: float) -> None:
    lost, won = np.meshgrid(np.arange(41), np.arange(41), indexing="ij")
    possible = lost + won <= n
    rejected = exact.rejects(lost, won, n, drop, DELTA) & possible
    for i, j in np.argwhere(rejected):
        assert rejected[: i + 1, j].all()
        assert rejected[i, j:][possible[i, j:]].all()


@pytest.mark.parametrize(("lost", "won", "n"), [(0, 0, 500), (5, 3, 1000), (40, 35, 2000), (12, 3, 800)])
def test_the_bound_is_the_smallest_drop_that_is_certified(lost: int, won: int, n: int) -> None:
    bound = exact.upper_bound(lost, won, n, DELTA)
    assert bool(exact.rejects(lost, won, n, bound * 1.01, DELTA))
    assert not bool(exact.rejects(lost, won, n, bound * 0.97, DELTA))
    assert (lost - won) / n < bound < float(paired_upper(lost, won, n, DELTA))


def test_nothing_certifies_no_drop_and_everything_certifies_all() -> None:
    assert not exact.rejects(np.array([0]), np.array([5]), 1000, 0.0, DELTA).any()
    assert exact.rejects(np.array([900]), np.array([0]), 1000, 1.0, DELTA).all()
