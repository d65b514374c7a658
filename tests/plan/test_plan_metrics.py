"""Metrics that are no accuracy, against loops: real-valued means, ratios of sums, ranks; measured, chosen, promised."""

from __future__ import annotations

import dataclasses
import itertools
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pilotfish.cascade import Budget, Performance, Rule, choose, decide
from pilotfish.errors import BudgetError, UsageError
from pilotfish.plan import tune
from pilotfish.plan.certificate import Promise, certify, check_promise, find_test, grouped, hindsight, last_kept, wsr
from pilotfish.plan.certificate.promise_tests import of_sums
from pilotfish.plan.check_promise import check_promise as evaluate_promise
from pilotfish.plan.evaluate import count, evaluate, measure
from pilotfish.plan.evidence import plain_stage_scores
from pilotfish.plan.methods import METHODS
from pilotfish.plan.path import PolicyPath, route, threshold_path
from pilotfish.plan.trace import Trace, make_trace
from pilotfish.records import Run, align, from_probabilities, read_table
from pilotfish.report.policy import describe_guarantee
from pilotfish.tasks import CLASSES, Metric, Task
from support.runs import records

DELTA = 0.1
CLOSENESS = Metric("closeness", "closeness")
F1 = Metric("micro_f1", "micro F1", "ratio", value=lambda sums: 2 * sums[..., 0] / np.maximum(sums.sum(axis=-1), 1))


class Ranked:
    """Scores and hits of one model's answers, a sample each."""

    def __init__(self, score: np.ndarray, hit: np.ndarray) -> None:
        self.score, self.hit = score, hit

    def take(self, rows: np.ndarray) -> Ranked:
        return Ranked(self.score[rows], self.hit[rows])


def average_precision(states: tuple[Ranked, ...], answered_by: np.ndarray) -> float:
    columns = np.arange(len(answered_by))
    score = np.stack([s.score for s in states])[answered_by, columns]
    hit = np.stack([s.hit for s in states])[answered_by, columns][np.argsort(-score, kind="stable")]
    found = np.cumsum(hit)
    return float((found / (columns + 1))[hit].sum() / max(found[-1], 1))


RANK = Metric("map", "mAP", "rank", value=average_precision)
METRICS = [CLOSENESS, F1, RANK]


def trace_of(metric: Metric, seed: int = 0, n: int = 120, stages: int = 2, **more: Any) -> Trace:
    """Later stages are better; scores have ties, and one sample none."""
    rng = np.random.default_rng(seed)
    quality = np.clip(rng.uniform(size=(stages, n)) + 0.2 * np.arange(stages)[:, None], 0, 1)
    values = np.round(quality[:-1] + 0.3 * rng.normal(size=(stages - 1, n)), 1)
    values[0, 0] = np.nan
    states: tuple[Any, ...] = ()
    if metric.kind == "ratio":
        counts = rng.poisson(2, (stages, n, 2)).astype(float)  # counts: (2 TP) and what else the ratio divides by
        states = tuple(np.stack([c[:, 0] * (1 + k), c[:, 0] * (1 + k) + c[:, 1]], axis=1) for k, c in enumerate(counts))
    if metric.kind == "rank":
        states = tuple(Ranked(rng.uniform(size=n), rng.uniform(size=n) < q) for q in quality)
    costs = tuple(10.0**k for k in range(stages))
    base = states[-1] if states else None
    named: dict[str, Any] = {"metric": metric, "states": states, "base_states": base, **more}
    return Trace(values, ("identity",) * (stages - 1), quality, quality[-1], costs, costs[-1], **named)


def by_loop(trace: Trace, stage: list[int]) -> float:
    """The metric's value where sample i is answered by stage[i]."""
    if trace.metric.kind == "mean":
        return math.fsum(trace.quality[k, i] for i, k in enumerate(stage)) / len(stage)
    if trace.metric.kind == "ratio":
        rows = [trace.states[k][i] for i, k in enumerate(stage)]
        return 2 * sum(r[0] for r in rows) / max(sum(r[0] + r[1] for r in rows), 1)
    ranked = sorted(((-trace.states[k].score[i], bool(trace.states[k].hit[i])) for i, k in enumerate(stage)))
    hits, total = 0, 0.0
    for place, (_, hit) in enumerate(ranked, 1):
        hits += hit
        total += hit * hits / place
    return total / max(hits, 1)


def answers(trace: Trace, thresholds: tuple[float, ...]) -> list[int]:
    last = trace.stages - 1
    return [next((k for k in range(last) if trace.values[k, i] >= thresholds[k]), last) for i in range(len(trace))]


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.kind)
@pytest.mark.parametrize("stages", [2, 3])
def test_measuring_a_path_is_a_loop_over_samples(metric: Metric, stages: int) -> None:
    trace = trace_of(metric, stages=stages)
    cuts = [np.inf, 1.2, 0.9, 0.5, -np.inf]
    grid = np.array(list(itertools.product(cuts, repeat=stages - 1)))
    found, base = measure(trace, threshold_path(grid)), by_loop(trace, [stages - 1] * len(trace))
    assert found.metric == metric.name
    for i, row in enumerate(grid):
        stage = answers(trace, tuple(row))
        assert found.value[i] == pytest.approx(by_loop(trace, stage), abs=1e-12)
        assert found.drop[i] == pytest.approx(base - by_loop(trace, stage), abs=1e-12)
        assert found.exit_ratio[i] == pytest.approx([stage.count(k) / len(trace) for k in range(stages)])
        one = evaluate(trace, tuple((t,) for t in row))
        assert (one.value, one.drop, one.base_value) == pytest.approx((found.value[i], found.drop[i], base), abs=1e-12)
        assert one.drop_interval[0] <= one.drop <= one.drop_interval[1]
        assert (one.metric, one.asymptotic) == (metric.name, metric.kind != "mean")
        assert Performance.modern(one.to_json()) == one.to_json()
        assert "accuracy" not in one.to_json()


def test_quality_of_zero_and_one_counts_as_right_and_wrong_do() -> None:
    rng = np.random.default_rng(3)
    right = rng.uniform(size=(2, 300)) < np.array([[0.7], [0.8]])
    binary = Trace(rng.uniform(size=(1, 300)), ("identity",), right, right[1])
    real = dataclasses.replace(binary, quality=right.astype(float), base_quality=right[1].astype(float))
    path = threshold_path(np.linspace(1, 0, 30)[:, None])
    one, other = count(binary, path), count(real, path)
    assert one.lost.dtype == np.int64
    assert np.array_equal(one.lost, other.lost)
    assert np.array_equal(one.won, other.won)
    whole, summed = evaluate(binary, ((0.5,),)), evaluate(real, ((0.5,),))
    assert summed.drop == pytest.approx(whole.drop)
    assert summed.drop_interval == pytest.approx(whole.drop_interval, abs=2e-3)  # Student's against the normal


def test_choosing_looks_at_the_whole_path_where_drops_are_not_monotone() -> None:
    trace = trace_of(F1, seed=5, n=60)
    path = threshold_path(np.unique(trace.values[0][1:])[::-1][:, None])
    frontier = measure(trace, path)
    assert (np.diff(frontier.drop) < 0).any()
    budget = Budget("max_drop", float(np.median(frontier.drop)))
    fitting = [i for i in range(len(path)) if frontier.drop[i] <= budget.value + 1e-12]
    assert frontier.effort[choose(frontier, budget)] == min(frontier.effort[i] for i in fitting)


@pytest.mark.parametrize("groups", [None, np.repeat(np.arange(200), 3)])
def test_the_jackknife_of_a_mean_is_the_interval_of_a_mean(groups: np.ndarray | None) -> None:
    as_ratio = Metric("share", "share", "ratio", value=lambda sums: sums[..., 0] / np.maximum(sums[..., 1], 1))
    trace = trace_of(CLOSENESS, n=600, groups=groups, cap=1 if groups is None else 3)
    states = tuple(np.stack([q, np.ones_like(q)], axis=1) for q in trace.quality)
    ratio = dataclasses.replace(trace, metric=as_ratio, states=states, base_states=states[-1])
    mean, jack = (evaluate(t, ((0.8,),)).drop_interval for t in (trace, ratio))
    assert jack[1] - jack[0] == pytest.approx(mean[1] - mean[0], rel=0.25)
    assert jack == pytest.approx(mean, abs=0.015)


# --- promises


PROMISES = [Promise("drop", 0.05, DELTA, "wsr"), Promise("agreement", 0.25, DELTA), Promise("closeness", 0.65, DELTA)]


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.kind)
def test_real_quality_is_promised_by_bets_on_what_is_lost(promise: Promise) -> None:
    trace = trace_of(CLOSENESS, n=900)
    path = threshold_path(np.quantile(trace.values[0][1:], np.linspace(1, 0, 25))[:, None])
    kept, order = [], grouped.drawn_order(len(trace))
    for i in range(len(path)):
        quality = trace.quality[route(trace, path.policy(i)), np.arange(len(trace))][order]
        gap = trace.base_quality[order] - quality
        if promise.kind == "drop":  # from -1 to 1
            kept.append(i == 0 or wsr.rejects((gap + 1) / 2, (promise.target + 1) / 2, DELTA))
        elif promise.kind == "agreement":
            kept.append(wsr.rejects(np.abs(gap), promise.target, DELTA))
        else:
            kept.append(wsr.rejects(1 - quality, 1 - promise.target, DELTA))
    expected = kept.index(False) - 1 if False in kept else len(kept) - 1
    assert 0 < expected < len(path) - 1
    assert last_kept(trace, path, promise) == expected
    found = certify(trace, path, promise, 0.9)
    assert (found.index, found.n) == (expected, 900)
    assert found.bound >= promise.target if promise.at_least else found.bound <= promise.target
    assert (found.to_json()["kind"], found.to_json()["asymptotic"]) == (promise.kind, False)


def test_groups_of_real_quality_are_promised_by_their_sums() -> None:
    single = trace_of(CLOSENESS, n=900)
    apart = dataclasses.replace(single, groups=np.arange(900), cap=1)
    for promise in PROMISES:
        path = threshold_path(np.array([[1.5], [1.2]]))
        bounds = [certify(t, path.take(np.array([0, 1])), promise, 0.9).bound for t in (single, apart)]
        assert bounds[0] == pytest.approx(bounds[1], abs=1e-12)


def test_a_promise_of_real_quality_is_rarely_broken() -> None:
    broken = 0
    for seed in range(150):
        rng = np.random.default_rng(seed)
        saver, base = np.clip(rng.normal(0.68, 0.1, 400), 0, 1), np.clip(rng.normal(0.7, 0.1, 400), 0, 1)
        trace = Trace(np.ones((1, 400)), ("identity",), np.stack([saver, base]), base, metric=CLOSENESS)
        path = PolicyPath(np.array([[0.0]]))  # everybody exits, at a true drop of .02
        broken += last_kept(trace, path, Promise("drop", 0.019, DELTA, "wsr")) is not None
    assert broken / 150 <= DELTA + 3 * math.sqrt(DELTA * (1 - DELTA) / 150)


@pytest.mark.parametrize("kind", ["drop", "agreement", "closeness"])
def test_a_promise_does_not_depend_on_the_order_that_samples_are_stored_in(kind: str) -> None:
    """Classes come one after the other in most folders, and a saver may be good at the first of them only."""
    n, broken, target = 2000, 0, {"drop": 0.01, "agreement": 0.01, "closeness": 0.94}[kind]
    for seed in range(20):
        rng = np.random.default_rng(seed)
        hard = np.sort(rng.integers(0, 10, n)) >= 6  # the class of each sample, as a folder has them
        base = np.full(n, 0.95)
        saver = np.where(rng.random(n) < np.where(hard, 0.035, 0), 0.1, base)  # a true drop of .0119
        trace = Trace(np.ones((1, n)), ("identity",), np.stack([saver, base]), base, metric=CLOSENESS)
        broken += last_kept(trace, PolicyPath(np.array([[0.0]])), Promise(kind, target, DELTA, "wsr")) is not None
    assert broken <= 6  # of 20; by the order of the records nearly all of them were


def test_too_few_numbers_for_a_promise_are_told_with_what_would_do() -> None:
    trace = trace_of(CLOSENESS, n=100)
    with pytest.raises(BudgetError, match=r"at least 542 are needed; with 100 the smallest that could be is 2\.\d\d"):
        check_promise(Promise("drop", 0.005, DELTA, "wsr"), 100, trace)
    check_promise(Promise("drop", 0.03, DELTA, "wsr"), 100, trace)
    with pytest.raises(BudgetError, match=r"at least \d+ are needed"):
        check_promise(Promise("agreement", 0.01, DELTA, "wsr"), 100, trace)


def test_auto_takes_the_test_that_fits_the_metric() -> None:
    assert find_test("auto", CLASSES.metric, True) == "exact"
    assert [find_test(test, CLASSES.metric, True) for test in ("exact", "paired_cp", "wsr")] == [
        "exact",
        "paired_cp",
        "wsr",
    ]
    assert find_test("auto", CLOSENESS, False) == find_test("wsr", CLOSENESS, False) == "wsr"


@pytest.mark.parametrize("test", ["exact", "paired_cp"])
def test_tests_of_counts_refuse_numbers_by_name(test: str) -> None:
    with pytest.raises(UsageError, match=rf"test {test} counts right and wrong answers, and closeness is a number"):
        find_test(test, CLOSENESS, False)


@pytest.mark.parametrize("method", ["pcee", "pcee-ws"])
def test_diagrams_take_numbers_and_refuse_bounds_of_counts_by_name(method: str) -> None:
    trace, one = trace_of(CLOSENESS, n=400), METHODS[method]
    assert len(one.path(trace, Budget("max_drop", 0.05), one.options())) > 5
    with pytest.raises(UsageError, match="a lower bound counts right and wrong answers, and closeness is a number"):
        one.path(trace, Budget("max_drop", 0.05), one.options(lower_bound=0.9))


@pytest.mark.parametrize("metric", [F1, RANK], ids=lambda metric: metric.kind)
def test_ratios_and_ranks_of_no_single_fraction_have_a_jackknife(metric: Metric) -> None:
    assert find_test("auto", metric, False) == find_test("jackknife", metric, False) == "jackknife"
    for test in ("exact", "paired_cp"):
        with pytest.raises(UsageError, match=rf"test {test} counts right and wrong answers, and {metric.says} is a r"):
            find_test(test, metric, False)
    with pytest.raises(UsageError, match=f"test wsr bets on means and on single fractions.*and {metric.says} is n"):
        find_test("wsr", metric, False)
    with pytest.raises(UsageError, match="test jackknife holds for many samples only, and accuracy has tests that"):
        find_test("jackknife", CLASSES.metric, True)


# --- the whole flow


N = 400


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Classes 0 … 4 of which the saver is mostly one off, and surer where it is not."""
    rng, run = np.random.default_rng(0), Run(tmp_path)
    label = rng.integers(0, 5, N)
    off = rng.uniform(size=N) < 0.4
    saver = np.where(off, np.where(label < 4, label + 1, 3), label)
    sure = np.where(off, 0.5, 0.7) + 0.3 * rng.uniform(size=N)
    run.write(records("s", saver, label=label, outputs={"confidence": sure}, costs={"macs": 1.0}))
    run.write(records("b", np.where(rng.uniform(size=N) < 0.1, 4 - label, label), label=label, costs={"macs": 10.0}))
    return run


def closeness(outputs: Any, truth: np.ndarray) -> np.ndarray:
    return 1 - np.abs(outputs.prediction - truth) / 4


def close_counts(outputs: Any, truth: np.ndarray) -> np.ndarray:
    return np.stack([2.0 * (outputs.prediction == truth), 2.0 * (outputs.prediction != truth)], axis=1)


@pytest.fixture
def tasked(monkeypatch: pytest.MonkeyPatch) -> Any:
    def use(metric: Metric) -> Task:
        task = dataclasses.replace(CLASSES, name="toy", metric=metric, quality=closeness)

        def tabled(*arguments: Any) -> Any:
            return dataclasses.replace(read_table(*arguments), task=task)

        monkeypatch.setattr(sys.modules[tune.__module__], "read_table", tabled)
        return task

    return use


@pytest.mark.parametrize("budget", [{"max_drop": 0.05}, {"min_metric": 0.8}, {"max_cost": "60%"}], ids=str)
@pytest.mark.parametrize("guarantee", [None, 0.9])
def test_tuning_says_the_metrics_own_name(run: Run, tasked: Any, budget: Any, guarantee: float | None) -> None:
    tasked(CLOSENESS)
    found = tune(run, ["s", "b"], **budget, guarantee=guarantee, holdout=0.4, allow_bad_base=True)
    document = found.to_json()
    assert (document["calibration"]["metric"], found.artefact.frontier.metric) == ("closeness", "closeness")
    assert "accuracy" not in str(document)
    assert 0 < found.calibration.exit_ratio[0] <= 1
    if guarantee is not None:
        kind = {"max_drop": "drop", "min_metric": "closeness", "max_cost": "cost"}[next(iter(budget))]
        assert document["guarantee"]["kind"] == kind
        assert kind == "cost" or document["guarantee"]["test"] == "wsr"
        assert any(note.startswith("guarantee: ") for note in found.notes)


def test_a_least_value_that_cannot_be_met_is_told_in_the_metrics_name(run: Run, tasked: Any) -> None:
    tasked(CLOSENESS)
    with pytest.raises(BudgetError, match=r"has closeness at least 99.9%; the best closeness that can be reached is"):
        tune(run, ["s", "b"], min_metric=0.999, holdout=0)


def test_a_ratio_is_tuned_with_an_interval_that_is_called_asymptotic(run: Run, tasked: Any) -> None:
    tasked(dataclasses.replace(F1, states=close_counts))
    found = tune(run, ["s", "b"], max_drop=0.05)
    assert found.evaluation is not None
    assert found.evaluation.to_json()["asymptotic"] is True
    assert any("micro F1 is no mean over samples" in note for note in found.notes)


@pytest.mark.parametrize("budget", [{"max_drop": 0.2}, {"min_metric": 0.5}], ids=str)
@pytest.mark.parametrize("test", ["auto", "wsr"])
def test_a_guarantee_of_a_ratio_says_whether_it_is_asymptotic(run: Run, tasked: Any, budget: Any, test: str) -> None:
    parts = {"parts": lambda states: (states[:, 0], states[:, 1], 2.0, 2.0)} if test == "wsr" else {}
    tasked(dataclasses.replace(F1, states=close_counts, value=lambda s: s[..., 0] / s.sum(axis=-1), **parts))
    found = tune(run, ["s", "b"], **budget, guarantee=0.9, holdout=0, test=test)
    assert found.guarantee is not None
    asymptotic = test == "auto"
    assert found.guarantee["test"] == ("jackknife" if asymptotic else "wsr")
    assert found.guarantee["asymptotic"] is asymptotic
    said = "asymptotic" in describe_guarantee(found.guarantee, "macs")
    assert said is asymptotic
    assert any(note.startswith("guarantee (asymptotic)") for note in found.notes) is asymptotic
    assert found.calibration.exit_ratio[0] > 0
    assert found.split["fit"] == found.split["certify"] == N // 2


@pytest.mark.parametrize("budget", [{"max_drop": 0.2}, {"min_metric": 0.5}], ids=str)
@pytest.mark.parametrize("test", ["auto", "wsr"])
def test_a_guarantee_of_a_ratio_is_judged_later_by_the_test_that_gave_it(
    run: Run, tasked: Any, budget: Any, test: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = {"parts": lambda states: (states[:, 0], states[:, 1], 2.0, 2.0)} if test == "wsr" else {}
    task = tasked(dataclasses.replace(F1, states=close_counts, value=lambda s: s[..., 0] / s.sum(axis=-1), **parts))
    found = tune(run, ["s", "b"], **budget, guarantee=0.9, holdout=0, test=test)
    table = dataclasses.replace(read_table(run, ["s"], "b", "val", None), task=task)
    used: list[str] = []

    def seen(trace: Trace, promise: Promise) -> Any:
        used.append(promise.test)
        return of_sums(trace, promise)

    monkeypatch.setattr(hindsight, "of_sums", seen)
    good = evaluate_promise(found.artefact, table)
    assert (good.verdict, set(used)) == ("holds", {"jackknife" if test == "auto" else "wsr"})
    assert any("asymptotic" in note for note in good.notes)
    base = table.outputs["b"].prediction
    moved = np.random.default_rng(2).uniform(size=N) < (0 if "max_drop" in budget else 0.65)
    others = dataclasses.replace(table, reference=np.where(moved, (base + 1) % 5, base))  # the saver is often wrong
    bad = evaluate_promise(found.artefact, others)
    assert bad.verdict == "broken" or (test == "wsr" and "max_drop" in budget)  # which takes more samples than these
    assert bad.p is not None
    assert bad.p < 0.5


def test_states_are_of_the_answers_and_the_bases_of_the_base_alone() -> None:
    rng = np.random.default_rng(1)
    label, probabilities = rng.integers(0, 3, 60), rng.dirichlet(np.ones(3), (2, 60))
    outputs = [vars(from_probabilities(p)) for p in probabilities]
    columns = [{k: v for k, v in o.items() if k != "prediction" and v is not None} for o in outputs]
    models = [
        records(name, o["prediction"], label=label, outputs=c)
        for name, o, c in zip("sb", outputs, columns, strict=True)
    ]
    task = dataclasses.replace(CLASSES, metric=dataclasses.replace(F1, states=close_counts))
    table = dataclasses.replace(align(models[:1], models[1]), task=task)
    scores = plain_stage_scores(table, ("s", "b"), "max_prob")
    trace = make_trace(table, ("s", "b"), Rule("average"), scores, None, None)
    both = [table.outputs["s"], table.outputs["b"]]
    mixed = decide(Rule("average"), scores, 1, both, 2, task).outputs
    assert (mixed.prediction != both[1].prediction).any()
    assert np.array_equal(trace.states[1], close_counts(mixed, label))
    assert np.array_equal(trace.base_states, close_counts(both[1], label))
