"""Asymptotic limits by a jackknife, of ratios and ranks: against plain leave-one-out, and draws from known truth."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import t as student

from pilotfish.errors import BudgetError
from pilotfish.plan.certificate import Promise, certify, check_promise, last_kept, standing
from pilotfish.plan.certificate.jackknife import FEWEST, RANK_BLOCKS, Jackknife
from pilotfish.plan.evaluate import blocks_of
from pilotfish.plan.path import PolicyPath, threshold_path
from pilotfish.plan.trace import Trace
from pilotfish.tasks import Metric
from pilotfish.tasks.label_metrics import RankedLabels, class_counts, macro_f1, mean_average_precision

DELTA, CLASSES = 0.1, 3
MACRO = Metric("macro_f1", "macro F1", "ratio", value=macro_f1)
MAP = Metric("map", "mAP", "rank", value=mean_average_precision)
METRICS = [MACRO, MAP]
ALL_EXIT = PolicyPath(np.array([[-np.inf]]))


def trace_of(metric: Metric, n: int, seed: int = 0, groups: np.ndarray | None = None) -> Trace:
    """A saver whose probabilities are noisier than the base's."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(size=(n, CLASSES)) < 0.4
    probs = [np.clip(0.5 + 0.3 * (truth - 0.5) + s * rng.normal(size=(n, CLASSES)), 0, 1) for s in (0.25, 0.18)]
    if metric is MACRO:
        states: Any = tuple(class_counts(p >= 0.5, truth) for p in probs)
    else:
        states = tuple(RankedLabels(p, truth) for p in probs)
    quality = np.ones((2, n))
    values = np.abs(probs[0] - 0.5).mean(axis=1)[None]
    cap = 1 if groups is None else int(np.bincount(groups).max())
    return Trace(
        values, ("identity",), quality, quality[1], (1.0, 10.0), 10.0, metric=metric, states=states,
        base_states=states[1], groups=groups, cap=cap,
    )  # fmt: skip


def value(trace: Trace, rows: np.ndarray, stage: int) -> float:
    some = trace.take(rows)
    if trace.metric is MACRO:
        return float(macro_f1(some.states[stage].sum(axis=0)))
    return mean_average_precision(some.states, np.full(len(some), stage))


@pytest.mark.parametrize("groups", [None, np.repeat(np.arange(150), 2)], ids=["alone", "groups"])
@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
@pytest.mark.parametrize("kind", ["drop", "own"])
def test_a_limit_is_students_over_parts_left_out(metric: Metric, groups: np.ndarray | None, kind: str) -> None:
    trace = trace_of(metric, 300, groups=groups)
    everybody, count = np.arange(300), RANK_BLOCKS if metric is MAP else 100
    parts = blocks_of(trace, count)
    assert groups is None or all(len(set(parts.block[groups == g])) == 1 for g in range(150))

    def lost(rows: np.ndarray) -> float:
        saver = value(trace, rows, 0)
        return value(trace, rows, 1) - saver if kind == "drop" else 1 - saver

    left = np.array([lost(np.flatnonzero(parts.block != one)) for one in range(count)])
    error = math.sqrt((count - 1) / count * ((left - left.mean()) ** 2).sum())
    bias = (count - 1) * (left.mean() - lost(everybody))
    limit = lost(everybody) - min(bias, 0) + student.ppf(1 - DELTA, count - 1) * error
    name = "drop" if kind == "drop" else metric.name
    test = Jackknife(trace, ALL_EXIT, Promise(name, 0.5, DELTA, "jackknife"))
    assert test.bound(0) == pytest.approx(limit if kind == "drop" else 1 - limit, abs=1e-9)
    for off in (-1e-3, 1e-3):
        target = limit + off if kind == "drop" else 1 - limit - off
        one = Jackknife(trace, ALL_EXIT, Promise(name, target, DELTA, "jackknife"))
        assert one.kept(0) == (off > 0)
        assert one.p_value(0) == pytest.approx(
            student.cdf((limit + off - lost(everybody) + max(bias, 0)) / error, count - 1), abs=1e-6
        )


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_just_false_promise_is_kept_about_as_often_as_it_may(metric: Metric) -> None:
    population, draws = trace_of(metric, 8000, seed=1), 40 if metric is MAP else 100
    true = value(population, np.arange(8000), 1) - value(population, np.arange(8000), 0)
    promise, rng = Promise("drop", true - 1e-3, DELTA, "jackknife"), np.random.default_rng(2)
    kept = sum(last_kept(population.take(rng.integers(0, 8000, 300)), ALL_EXIT, promise) == 0 for _ in range(draws))
    assert kept / draws <= DELTA + 3 * math.sqrt(DELTA * (1 - DELTA) / draws)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_path_is_tested_evenly_until_a_policy_fails(metric: Metric) -> None:
    trace = trace_of(metric, 600)
    path = threshold_path(np.quantile(trace.values[0], np.linspace(1, 0, 100))[:, None])
    promise = Promise("drop", 0.03, DELTA, "jackknife")
    found = certify(trace, path, promise, 0.9)
    assert (found.to_json()["test"], found.to_json()["asymptotic"]) == ("jackknife", True)
    assert 0 < found.index < 100
    assert found.index % 4 == 0
    test = Jackknife(trace, path, promise)
    assert all(test.kept(i) for i in range(4, found.index + 1, 4))
    assert not test.kept(found.index + 4)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_promise_is_judged_in_both_directions(metric: Metric) -> None:
    trace = trace_of(metric, 800)
    saver, base = (value(trace, np.arange(800), k) for k in (0, 1))
    for name, true, worse in (("drop", base - saver, 1), (metric.name, saver, -1)):
        good = standing(trace, ALL_EXIT, Promise(name, true + 0.07 * worse, DELTA, "jackknife"))
        bad = standing(trace, ALL_EXIT, Promise(name, true - 0.07 * worse, DELTA, "jackknife"))
        assert (good.holds, good.broken, bad.holds, bad.broken) == (True, False, False, True)
    nobody = PolicyPath(np.array([[np.inf]]))
    assert standing(trace, nobody, Promise("drop", 0.0, DELTA, "jackknife")).holds


@pytest.mark.parametrize("groups", [None, np.repeat(np.arange(90), 2)], ids=["samples", "groups"])
def test_few_samples_have_no_limit(groups: np.ndarray | None) -> None:
    n, unit = (FEWEST - 10, "samples") if groups is None else (180, "groups")
    trace = trace_of(MACRO, n, groups=groups)
    promise = Promise("drop", 0.9, DELTA, "jackknife")
    with pytest.raises(BudgetError, match=rf"^90 {unit} are too few for a jackknife.* at least 100 are needed"):
        check_promise(promise, n, trace)
    assert not standing(trace, ALL_EXIT, promise).holds
    one = trace_of(MACRO, 1)
    assert not standing(one, ALL_EXIT, promise).holds
