"""Promises of a single fraction of sums, such as micro F1: against loops, a plain mean, and draws from known truth."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from pilotfish.errors import BudgetError, UsageError
from pilotfish.plan.certificate import Promise, begun, certify, find_test, grouped, last_kept, standing, wsr
from pilotfish.plan.certificate.fraction import BASE_SHARE, CELL, Bets, Parts, drop_evidence, evidence, lower_bound
from pilotfish.plan.path import PolicyPath, threshold_path
from pilotfish.plan.trace import Trace
from pilotfish.tasks import Metric
from pilotfish.tasks.label_metrics import f1_counts, f1_parts, micro_f1

DELTA = 0.1
F1 = Metric("micro_f1", "micro F1", "ratio", value=micro_f1, parts=f1_parts)
SHARE = Metric(  # of one per sample: a mean
    "share",
    "share",
    "ratio",
    value=lambda sums: sums[..., 0] / sums.sum(axis=-1),
    parts=lambda states: (states[:, 0], states[:, 1], 1.0, 1.0),
)


def labelled(rng: np.random.Generator, n: int, classes: int, *wrong: float) -> list[np.ndarray]:
    """Counts of models that have each class of n samples wrong this often, all about the same samples."""
    truth = rng.uniform(size=(n, classes)) < 0.3
    dice = rng.uniform(size=(n, classes))  # shared: a worse model is wrong wherever a better one is
    return [f1_counts(truth ^ (dice < each), truth) for each in wrong]


def trace_of(metric: Metric, states: list[np.ndarray], values: np.ndarray | None = None, **more: Any) -> Trace:
    n = len(states[0])
    quality = np.ones((len(states), n))
    exits = np.ones((len(states) - 1, n)) if values is None else values
    costs = tuple(10.0**k for k in range(len(states)))
    named: dict[str, Any] = {"metric": metric, "states": tuple(states), "base_states": states[-1], **more}
    return Trace(exits, ("identity",) * len(exits), quality, quality[-1], costs, costs[-1], **named)


ALL_EXIT = PolicyPath(np.array([[-np.inf]]))
KINDS = ["drop", "agreement", "share"]


@pytest.mark.parametrize("kind", ["share", "agreement"])
@pytest.mark.parametrize("limit", [0.55, 0.6, 0.62, 0.66])
def test_where_every_sample_has_one_denominator_it_is_the_bet_on_a_mean(kind: str, limit: float) -> None:
    rng = np.random.default_rng(3)
    q = rng.beta(2, 1, 400)
    trace = trace_of(SHARE, [np.stack([q, 1 - q], axis=1), np.stack([q, 1 - q], axis=1)])
    target = limit if kind == "share" else 1 - limit
    expected = wsr.rejects(1 - q[grouped.drawn_order(400)], 1 - limit, DELTA)
    assert Bets(trace, ALL_EXIT, Promise(kind, target, DELTA, "wsr")).kept(0) is expected


def test_evidence_is_a_bet_sample_by_sample() -> None:
    rng = np.random.default_rng(1)
    counts, classes, f = labelled(rng, 60, 4, 0.2)[0], 4, 0.6
    good, bad, most_good, most_bad = f1_parts(counts)
    low, span = -f * classes, f * classes + (1 - f) * 2 * classes
    wealth, best, total, squares, variance = 0.0, -math.inf, 0.5, 0.25, 0.25
    for i, y in enumerate((2 * counts[:, 0] - f * (2 * counts[:, 0] + counts[:, 1] + counts[:, 2])).tolist(), 1):
        x, mean = ((1 - f) * 2 * classes - y) / span, (1 - f) * 2 * classes / span
        nu = min(math.sqrt(2 * math.log(1 / DELTA) / (60 * variance)), 0.9 / (1 - mean))
        wealth += math.log(1 + nu / span * y)
        assert 1 + nu / span * low > 0
        best = max(best, wealth)
        total += x
        squares += (x - total / (i + 1)) ** 2
        variance = squares / (i + 1)
    assert evidence(Parts(good, bad, (most_good, most_bad)), f, DELTA) == pytest.approx(best, abs=1e-9)


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_no_base_fraction_within_the_interval_has_less_evidence_than_is_counted(seed: int, broken: bool) -> None:
    """The ends of the cells are enough: the log of the wealth is concave between them."""
    rng = np.random.default_rng(seed)
    saver, base = (Parts(*f1_parts(c)[:2], f1_parts(c)[2:]) for c in labelled(rng, 300, 5, 0.12, 0.1))
    within, drop = (0.71, 0.87), 0.05
    least = drop_evidence(saver, base, drop, within, DELTA, broken)
    sign = -1 if broken else 1
    for cell in range(14, 18):
        edges = np.array([cell, cell + 1]) * CELL
        f = edges - drop
        low = (-f * 5 - (1 - edges) * 10).min()
        high = ((1 - f) * 10 + edges * 5).max()
        low, high = (-high, -low) if broken else (low, high)
        y = [
            sign * (saver.good - (b - drop) * saver.all - (base.good - b * base.all))
            for b in (edges.mean(), *np.linspace(max(edges[0], within[0]), min(edges[1], within[1]), 25))
        ]
        bets = wsr.bets((high - y[0]) / (high - low), high / (high - low), DELTA) / (high - low)
        assert (1 + bets * low > 0).all()
        wealth = np.stack([np.cumsum(np.log1p(bets * one)) for one in y[1:]])
        assert wealth.min(axis=0).max() >= least - 1e-9


@pytest.mark.parametrize("kind", ["drop", "micro_f1", "agreement"])
def test_a_promise_of_micro_f1_is_rarely_broken_where_it_is_just_false(kind: str) -> None:
    rng, draws, n = np.random.default_rng(0), 200, 300
    wrong = (0.1, 0.1) if kind == "micro_f1" else (0.13, 0.1 if kind == "drop" else 0.0)
    population = trace_of(F1, labelled(rng, 20_000, 6, *wrong))
    saver, base = (float(micro_f1(states.sum(axis=0))) for states in population.states)
    false = {"drop": base - saver - 1e-3, "micro_f1": saver + 1e-3, "agreement": 1 - saver - 1e-3}[kind]
    promise = Promise(kind, false, DELTA, "wsr")
    kept = sum(
        last_kept(population.take(rng.integers(0, 20_000, n)), ALL_EXIT, promise) is not None for _ in range(draws)
    )
    assert kept / draws <= DELTA + 3 * math.sqrt(DELTA * (1 - DELTA) / draws)


@pytest.mark.parametrize("kind", ["drop", "micro_f1", "agreement"])
def test_a_promise_of_micro_f1_that_holds_by_far_is_granted_and_the_other_way_round_is_broken(kind: str) -> None:
    rng = np.random.default_rng(4)
    trace = trace_of(F1, labelled(rng, 4000, 6, 0.15, 0.0 if kind == "agreement" else 0.1))
    saver, base = (float(micro_f1(states.sum(axis=0))) for states in trace.states)
    true = {"drop": base - saver, "micro_f1": saver, "agreement": 1 - saver}[kind]
    sign = -1 if kind == "micro_f1" else 1
    good = standing(trace, ALL_EXIT, Promise(kind, true + 0.06 * sign, DELTA, "wsr"))
    bad = standing(trace, ALL_EXIT, Promise(kind, true - 0.06 * sign, DELTA, "wsr"))
    assert (good.holds, good.broken, bad.holds, bad.broken) == (True, False, False, True)
    assert sign * (good.bound - true) > 0
    assert good.needed is not None


def test_bounds_are_the_edge_of_what_is_rejected() -> None:
    rng = np.random.default_rng(5)
    trace = trace_of(F1, labelled(rng, 800, 4, 0.12, 0.1))
    for kind in ("drop", "micro_f1"):
        bets = Bets(trace, ALL_EXIT, Promise(kind, 0.5, DELTA, "wsr"))
        bound, step = bets.bound(0), 1e-4 if kind == "drop" else -1e-4
        own = bets.answers(0)
        assert bets.rejects(own, bound + step)
        assert not bets.rejects(own, bound - step)


def test_the_interval_of_the_base_holds_its_fraction() -> None:
    rng, missed = np.random.default_rng(6), 0
    population = labelled(rng, 20_000, 4, 0.1)[0]
    true = float(micro_f1(population.sum(axis=0)))
    for _ in range(100):
        own = Parts(*f1_parts(population[rng.integers(0, 20_000, 200)])[:2], (8.0, 4.0))
        missed += not lower_bound(own, DELTA / 2) <= true <= 1 - lower_bound(own.other_way, DELTA / 2)
    assert missed <= 19  # 3 standard errors above one in ten
    assert 0 < BASE_SHARE < 0.5


@pytest.mark.parametrize("scale", [1, 2])
def test_groups_are_bet_on_as_sums(scale: int) -> None:
    """Groups of one are single samples; samples that all come twice are no more than they were."""
    rng = np.random.default_rng(7)
    states = labelled(rng, 900, 4, 0.11, 0.1)
    single = trace_of(F1, states)
    twice = trace_of(
        F1, [np.repeat(s, scale, axis=0) for s in states], groups=np.repeat(np.arange(900), scale), cap=scale
    )
    for kind, target in (("drop", 0.1), ("micro_f1", 0.7)):
        promise = Promise(kind, target, DELTA, "wsr")
        found = [certify(t, ALL_EXIT, promise, 0.9) for t in (single, twice)]
        assert found[0].bound == pytest.approx(found[1].bound, abs=1e-6)
        assert found[1].to_json()["test"] == "wsr"
        assert found[1].to_json()["asymptotic"] is False
        assert found[1].groups == 900


def test_the_order_of_records_wins_nothing() -> None:
    broken = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        base = labelled(rng, 1000, 5, 0.05)[0]
        worse = base.copy()
        last = np.flatnonzero((np.arange(1000) >= 800) & (base[:, 0] > 0) & (rng.uniform(size=1000) < 0.5))
        worse[last, 2] += worse[last, 0]
        worse[last, 0] = 0
        true = float(micro_f1(base.sum(axis=0)) - micro_f1(worse.sum(axis=0)))
        broken += (
            last_kept(trace_of(F1, [worse, base]), ALL_EXIT, Promise("drop", true * 0.98, DELTA, "wsr")) is not None
        )
    assert broken <= 6  # of 20


def test_too_few_samples_are_told_with_about_how_many_do() -> None:
    rng = np.random.default_rng(8)
    states = labelled(rng, 400, 20, 0.03, 0.03)
    trace = trace_of(F1, states, np.random.default_rng(9).uniform(size=(1, 400)))
    path = threshold_path(np.linspace(1, 0, 30)[:, None])
    with pytest.raises(
        BudgetError, match=r"400 samples cannot certify a drop of 0.1 points of micro F1 at 90%"
    ) as error:
        certify(trace, path, Promise("drop", 0.001, DELTA, "wsr"), 0.9)
    assert "unless the savers gain; --test jackknife makes do with fewer, and is asymptotic" in str(error.value)
    needed = int(str(error.value).split("about ")[1].split(" ")[0].replace(",", ""))
    many = trace_of(F1, [np.resize(s, (int(1.2 * needed), 4)) for s in states])
    assert last_kept(many, ALL_EXIT, Promise("drop", 0.001, DELTA, "wsr")) == 0
    with pytest.raises(BudgetError, match="not even the base reaches 99%"):
        certify(trace, path, Promise("micro_f1", 0.99, DELTA, "wsr"), 0.9)
    with pytest.raises(BudgetError, match="no number of samples can certify a drop of 0"):
        certify(trace, path, Promise("drop", 0.0, DELTA, "wsr"), 0.9)


def test_exit_nobody_is_certain_and_some_policies_of_a_path_are_tested() -> None:
    rng = np.random.default_rng(10)
    trace = trace_of(F1, labelled(rng, 3000, 3, 0.13, 0.1), rng.uniform(size=(1, 3000)))
    path = threshold_path(np.linspace(1, 0, 200)[:, None])
    promise = Promise("drop", 0.03, DELTA, "wsr")
    found = certify(trace, path, promise, 0.9)
    assert 0 < found.index < 200
    assert found.index % 5 == 0  # one in five of 201
    assert found.bound <= 0.03
    kept = [Bets(trace, path, promise).kept(i) for i in range(5, 201, 5)]
    assert found.index == 5 * kept.index(False)


def test_where_nothing_lost_would_not_do_the_sequence_begins_where_the_cascade_gained_on_other_samples() -> None:
    rng = np.random.default_rng(11)
    values = rng.uniform(size=(1, 2000))
    easy, (wrong, right) = values[0] > 0.4, labelled(rng, 2000, 6, 0.2, 0.1)  # where the saver is sure it is better
    both = [np.where(easy[:, None], right, wrong), np.where(easy[:, None], wrong, right)]
    trace, path = trace_of(F1, both, values), threshold_path(np.linspace(1, 0, 200)[:, None])
    few, fit = trace.take(np.arange(250)), trace.take(np.arange(1000, 2000))
    promise = Promise("drop", 0.01, DELTA, "wsr")
    with pytest.raises(BudgetError, match="250 samples cannot certify a drop of 1 points"):
        certify(few, path, promise, 0.9)
    begins = begun(path, fit, few, promise)
    assert begins.begin == pytest.approx(120, abs=3)
    assert certify(few, begins, promise, 0.9).index >= begins.begin
    for other in (Promise("micro_f1", 0.5, DELTA, "wsr"), Promise("drop", 0.3, DELTA, "wsr")):
        assert begun(path, fit, few, other) is path  # from "exit nobody" on


@pytest.mark.parametrize("bounds", [(1.0, 4.0), (8.0, 0.5), (0.0, 0.0)])
def test_bounds_that_samples_exceed_are_refused(bounds: tuple[float, float]) -> None:
    false = dataclasses.replace(F1, parts=lambda states: (*f1_parts(states)[:2], *bounds))
    trace = trace_of(false, labelled(np.random.default_rng(0), 300, 4, 0.2, 0.1))
    with pytest.raises(UsageError, match=r"correct the bounds of Metric\.parts"):
        last_kept(trace, ALL_EXIT, Promise("drop", 0.1, DELTA, "wsr"))


def test_auto_bets_on_a_fraction() -> None:
    assert [find_test(test, F1, False) for test in ("auto", "wsr", "jackknife")] == ["wsr", "wsr", "jackknife"]
    for test in ("exact", "paired_cp"):
        with pytest.raises(UsageError, match=rf"test {test} counts right and wrong answers, and micro F1 is a ratio"):
            find_test(test, F1, False)
