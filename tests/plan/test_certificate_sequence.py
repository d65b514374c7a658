"""How far along a path a promise goes, who may see which samples, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta

from pilotfish.errors import BudgetError, UsageError
from pilotfish.plan import rank_savers, tune
from pilotfish.plan.certificate import TESTS, Promise, certify, exact, grouped, last_kept, wsr
from pilotfish.plan.evaluate import outcomes
from pilotfish.plan.path import PolicyPath, sets_path, threshold_path
from pilotfish.plan.sweep import sweep
from pilotfish.plan.trace import Trace
from pilotfish.records import Run
from support.runs import records

DELTA = 0.1


def trace_of(seed: int, n: int, stages: int = 2, skill: float = 0.9) -> Trace:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(stages - 1, n))
    easy = 1 / (1 + np.exp(-2 * values - 1))
    right = np.stack([*(rng.uniform(size=n) < easy[k] for k in range(stages - 1)), rng.uniform(size=n) < skill])
    costs = tuple(float(10**k) for k in range(stages))
    return Trace(values, ("identity",) * (stages - 1), right, right[-1], costs, costs[-1])


def path_of(trace: Trace, policies: int) -> PolicyPath:
    quantiles = np.linspace(1, 0, policies)
    return threshold_path(np.stack([np.quantile(v, quantiles) for v in trace.values], axis=1))


def keeps(trace: Trace, path: PolicyPath, i: int, promise: Promise) -> bool:
    """One policy and one test, in plain words."""
    answered_by, gap = outcomes(trace, path.policy(i))
    n, lost, won = len(trace), int((gap > 0).sum()), int((gap < 0).sum())

    def high(k: int, delta: float) -> float:
        return 1.0 if k == n else float(beta.ppf(1 - delta, k + 1, n - k))

    def low(k: int, delta: float) -> float:
        return 0.0 if k == 0 else float(beta.ppf(delta, k, n - k + 1))

    if promise.kind == "agreement":
        return high(lost + won, promise.delta) <= promise.target
    if promise.kind == "accuracy":
        return low(int(trace.base_quality.sum()) - lost + won, promise.delta) >= promise.target
    if promise.kind == "cost":
        through = trace.through
        if trace.stages == 2:
            deferred = high(int((answered_by == 1).sum()), promise.delta)
            return through[0] + deferred * (through[1] - through[0]) <= promise.target * (1 + 1e-12)
        order = grouped.drawn_order(n)
        return wsr.upper_bound(through[answered_by[order]] / through[-1], promise.delta) * through[-1] <= promise.target
    if all(bounds == (math.inf,) for bounds in path.policy(i)):
        return True
    if promise.test == "paired_cp":
        return high(lost, promise.delta / 2) - low(won, promise.delta / 2) <= promise.target
    if promise.test == "wsr":
        return wsr.rejects((gap[grouped.drawn_order(n)] + 1) / 2, (promise.target + 1) / 2, promise.delta)
    return bool(exact.rejects(lost, won, n, promise.target, promise.delta))


KINDS = [
    *(Promise("drop", 0.05, DELTA, test) for test in TESTS),
    Promise("agreement", 0.3, DELTA),
    Promise("accuracy", 0.8, DELTA),
    Promise("cost", 8.0, DELTA),
]


@pytest.mark.parametrize("stages", [2, 3])
@pytest.mark.parametrize("promise", KINDS, ids=lambda p: f"{p.kind} {p.test}")
def test_it_is_the_last_before_the_first_failure(promise: Promise, stages: int) -> None:
    for seed in range(4):
        trace = trace_of(seed, 400, stages)
        path = path_of(trace, 30)
        order = list(range(len(path)))
        if promise.kind == "cost":
            order.reverse()
            promise = Promise("cost", 0.7 * float(trace.through[-1]), DELTA)
        last = None
        for i in order:
            if not keeps(trace, path, i, promise):
                break
            last = i
        assert last_kept(trace, path, promise) == last


@given(st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_the_bound_is_within_the_target(seed: int) -> None:
    trace = trace_of(seed, 500)
    for promise in KINDS[:5]:
        try:
            found = certify(trace, path_of(trace, 20), promise, 0.9)
        except BudgetError:
            continue
        assert found.bound >= promise.target if promise.kind == "accuracy" else found.bound <= promise.target


@pytest.mark.parametrize("test", TESTS)
def test_to_exit_nobody_always_passes_for_a_drop(test: str) -> None:
    """However bad the savers are: every policy but the first loses nearly all."""
    trace = trace_of(0, 800)
    bad = Trace(trace.values, trace.scales, np.stack([~trace.base_quality, trace.base_quality]), trace.base_quality)
    path = path_of(bad, 10).take(np.array([0, *range(2, 11)]))  # without the policy that lets one sample exit
    found = certify(bad, path, Promise("drop", 0.01, DELTA, test), 0.9)  # type: ignore[arg-type]
    assert (found.index, found.bound) == (0, 0.0)


def test_exit_sets_are_certified_as_thresholds_are() -> None:
    trace = trace_of(0, 600)
    cuts = np.quantile(trace.values[0], [0.9, 0.7, 0.5, 0.3])
    plain = threshold_path(cuts[:, None])
    sets = sets_path([((t, 50.0, 60.0),) for t in cuts.tolist()], 2, "delta", cuts)  # nothing lies beyond 50
    promise = Promise("drop", 0.05, DELTA)
    assert sets.exit_sets is not None
    assert last_kept(trace, sets, promise) == last_kept(trace, plain, promise)


def test_too_few_samples_are_told_how_many_would_do() -> None:
    trace = trace_of(0, 200)
    with pytest.raises(
        BudgetError, match=r"200 samples cannot certify a drop of 0.5 points .* at least 460 are needed"
    ):
        certify(trace, path_of(trace, 5), Promise("drop", 0.005, DELTA), 0.9)
    with pytest.raises(BudgetError, match="no number of samples can certify a drop of 0"):
        certify(trace, path_of(trace, 5), Promise("drop", 0.0, DELTA), 0.9)
    with pytest.raises(UsageError, match="unknown test 'exakt'; nearest names: exact"):
        certify(trace, path_of(trace, 5), Promise("drop", 0.05, DELTA, "exakt"), 0.9)  # type: ignore[arg-type]


def test_refusals_say_what_could_be_promised() -> None:
    trace = trace_of(0, 400)
    with pytest.raises(BudgetError, match="not even the base reaches 99%"):
        certify(trace, path_of(trace, 5), Promise("accuracy", 0.99, DELTA), 0.9)
    with pytest.raises(BudgetError, match=r"no operating point costs at most 0\.5"):
        certify(trace, path_of(trace, 5), Promise("cost", 0.5, DELTA), 0.9)


# --- through tune and savers


def pool(folder: Path, n: int = 3000, seed: int = 0, savers: int = 3, labelled: bool = True) -> Run:
    """Savers of falling skill whose confidence tells where they are right."""
    rng = np.random.default_rng(seed)
    run, label = Run(folder), rng.integers(0, 5, n)
    for k in range(savers):
        confidence = rng.uniform(size=n)
        right = rng.uniform(size=n) < 0.55 + 0.45 * confidence - 0.05 * k
        answer = np.where(right, label, (label + 1) % 5)
        kept = label if labelled else None
        run.write(records(f"s{k}", answer, label=kept, outputs={"confidence": confidence}, costs={"macs": 1.0 + k}))
    answer = np.where(rng.uniform(size=n) < 0.97, label, (label + 1) % 5)
    run.write(records("b", answer, label=label if labelled else None, costs={"macs": 20.0}))
    return run


def test_the_document_of_a_guarantee(tmp_path: Path) -> None:
    found = tune(pool(tmp_path), ["s0", "b"], max_drop=0.02, guarantee=0.9)
    document = found.to_json()
    assert {"kind", "target", "confidence", "bound", "n"} <= set(document["guarantee"])
    assert document["guarantee"]["kind"] == "drop"
    assert document["guarantee"]["bound"] <= 0.02
    assert document["split"] == {"fit": 0, "certify": 1500, "evaluation": 1500}
    assert found.calibration.n == document["guarantee"]["n"] == 1500
    assert found.calibration.exit_ratio[0] > 0.05


def test_without_labels_agreement_is_certified(tmp_path: Path) -> None:
    found = tune(pool(tmp_path, labelled=False), ["s0", "b"], max_drop=0.1, guarantee=0.9)
    assert found.guarantee is not None
    assert found.guarantee["kind"] == "agreement"


def test_costs_and_accuracies_are_certified(tmp_path: Path) -> None:
    run = pool(tmp_path)
    cost = tune(run, ["s0", "b"], max_cost="60%", guarantee=0.9)
    assert cost.guarantee is not None
    assert (cost.guarantee["kind"], cost.guarantee["target"]) == ("cost", 12.0)
    assert cost.guarantee["bound"] <= 12.0 * (1 + 1e-9)
    accuracy = tune(run, ["s0", "s1", "b"], min_accuracy=0.9, guarantee=0.9)
    assert accuracy.guarantee is not None
    assert accuracy.guarantee["bound"] >= 0.9
    assert accuracy.split == {"fit": 750, "certify": 750, "evaluation": 1500}


def test_what_is_fitted_is_fitted_on_other_samples_than_certified(tmp_path: Path) -> None:
    """Turning certified labels around changes neither scores nor path; only how far the certificate goes."""
    run = pool(tmp_path / "a")
    settings = {"max_drop": 0.03, "guarantee": 0.9, "score": "learned_right"}
    before = tune(run, ["s0", "b"], **settings)
    assert before.split["fit"] == before.split["certify"] == 750
    order = np.random.default_rng(0).permutation(3000)
    calibration = np.sort(order[1500:])
    shuffled = np.random.default_rng([0, 1]).permutation(calibration)
    certified = np.sort(shuffled[750:])
    base, saver = run.read("b"), run.read("s0")
    label = base.label.copy()
    label[certified] = (label[certified] + 2) % 5
    other = Run(tmp_path / "b")
    for one in (base, saver):
        other.write(type(one)(one.ids, label, one.outputs, one.meta))
    after = tune(other, ["s0", "b"], **settings)
    for key, fitted in before.artefact.scores[0].parameters.items():
        assert (after.artefact.scores[0].parameters[key] == fitted).all()
    assert after.evaluation is not None
    assert before.evaluation is not None
    assert after.evaluation.base_accuracy == before.evaluation.base_accuracy


def test_savers_that_compete_share_the_chance_of_error(tmp_path: Path) -> None:
    run = pool(tmp_path)
    found = rank_savers(run, "b", max_drop=0.03, guarantee=0.9)
    assert found.guarantee == {"confidence": 0.9, "savers": 3, "n": 1500, "test": "exact"}
    for one in found.savers:
        assert one.certified is not None
        trace_bound = one.certified["bound"]
        assert trace_bound <= 0.03
    single = tune(run, ["s0", "b"], max_drop=0.03, guarantee=0.9)
    many = tune(run, ["s0", "b"], max_drop=0.03, guarantee=0.9, savers_tried=50)
    assert many.calibration.exit_ratio[0] <= single.calibration.exit_ratio[0]
    assert any("at most 10%; it holds for stages that were chosen without them" in note for note in single.notes)
    assert any("at most 10%; it holds for the best of 50 savers that were compared" in note for note in many.notes)


@pytest.mark.parametrize(
    ("choice", "named"),
    [({"test": "wsr"}, "--test wsr"), ({"test": "exact"}, "--test exact"), ({"savers_tried": 3}, "--savers-tried 3")],
)
def test_what_belongs_to_a_guarantee_is_named_where_there_is_none(
    choice: dict[str, Any], named: str, tmp_path: Path
) -> None:
    run = pool(tmp_path)
    said = [note for note in tune(run, ["s0", "b"], max_drop=0.03, **choice).notes if "belongs to a guarantee" in note]
    assert len(said) == 1
    assert said[0].startswith(named)
    promised = tune(run, ["s0", "b"], max_drop=0.03, guarantee=0.9, **choice)
    assert not any("belongs to a guarantee" in note for note in promised.notes)


def turned(run: Run, folder: Path, models: list[str], rows: np.ndarray) -> Run:
    """The same records with other labels on some rows."""
    other = Run(folder)
    for name in models:
        one = run.read(name)
        label = one.label.copy()
        label[rows] = (label[rows] + 2) % 5
        other.write(type(one)(one.ids, label, one.outputs, one.meta))
    return other


@pytest.mark.parametrize(
    ("settings", "changes"),
    [
        ({"test": "wsr"}, False),  # a pair's thresholds are scores: labels do not matter for the path
        ({"method": "pcee-ws"}, True),  # its diagrams are made of labels
    ],
)
def test_labels_that_fit_reach_the_certificate_through_the_path_alone(
    settings: dict[str, str], changes: bool, tmp_path: Path
) -> None:
    run = pool(tmp_path / "a")
    held = np.random.default_rng(0).permutation(3000)
    evaluated, calibration = held[:1500], np.sort(held[1500:])
    fitted = np.random.default_rng([0, 1]).permutation(calibration)[:750]
    asked = {"max_drop": 0.03, "guarantee": 0.9, **settings}
    before = tune(run, ["s0", "b"], **asked)
    judged = tune(turned(run, tmp_path / "b", ["s0", "b"], evaluated), ["s0", "b"], **asked)
    assert judged.guarantee == before.guarantee
    assert judged.artefact.operating_point == before.artefact.operating_point
    assert judged.evaluation != before.evaluation
    other = tune(turned(run, tmp_path / "c", ["s0", "b"], fitted), ["s0", "b"], **asked)
    assert (other.artefact.operating_point != before.artefact.operating_point) is changes
    assert changes or other.guarantee == before.guarantee


def test_savers_are_ranked_on_other_samples_than_they_are_certified_on(tmp_path: Path) -> None:
    run, n = pool(tmp_path / "a"), 3000
    certified = np.random.default_rng([0, 1]).permutation(n)[n // 2 :]
    before = rank_savers(run, "b", max_drop=0.03, guarantee=0.9)
    other = turned(run, tmp_path / "b", ["s0", "s1", "s2", "b"], certified)
    after = rank_savers(other, "b", max_drop=0.03, guarantee=0.9)
    for one, two in zip(before.savers, after.savers, strict=True):
        assert (one.saver, one.exit_ratio, one.threshold) == (two.saver, two.exit_ratio, two.threshold)
    assert [s.certified for s in before.savers] != [s.certified for s in after.savers]
    rows, third = np.sort(certified), (1 - 0.9) / 3
    for one in before.savers:
        saver, base = run.read(one.saver), run.read("b")
        right = np.stack([m.outputs.prediction[rows] == m.label[rows] for m in (saver, base)])
        trace = Trace(np.asarray(saver.outputs.confidence)[rows][None], ("identity",), right, right[1])
        path = threshold_path(sweep(trace.values[0], *right).thresholds[:, None])
        alone = certify(trace, path, Promise("drop", 0.03, third), 0.9)
        assert one.certified is not None
        assert one.certified["bound"] == alone.bound
        assert one.certified["exit_ratio"] == (trace.values[0] >= path.thresholds[alone.index, 0]).mean()


@pytest.mark.parametrize("bad", [{"guarantee": 0.0}, {"guarantee": 1.0}, {"guarantee": 90.0}])
def test_a_confidence_is_between_0_and_1(bad: dict[str, float], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a guarantee is a confidence between 0 and 1"):
        tune(pool(tmp_path, n=200), ["s0", "b"], max_drop=0.1, **bad)


def test_the_promise_holds_in_most_draws() -> None:
    """A small world whose truth is known: 200 calibration sets, each certified, judged on the population."""
    population = trace_of(7, 20_000)
    promise, broken = Promise("drop", 0.03, DELTA), 0
    for i in range(200):
        rows = np.random.default_rng([3, i]).integers(0, len(population), 800)
        sample = population.take(rows)
        path = threshold_path(sweep(sample.values[0], sample.quality[0], sample.quality[1]).thresholds[:, None])
        index = last_kept(sample, path, promise)
        assert index is not None
        _, gap = outcomes(population, path.policy(index))
        broken += gap.mean() > 0.03
    assert broken / 200 <= DELTA + 2 * math.sqrt(DELTA * (1 - DELTA) / 200)


@pytest.mark.parametrize("test", TESTS)
def test_a_mixture_that_agreed_with_the_base_so_far_promises_no_zero(test: str) -> None:
    """Nobody exits and no sample differed: for the base alone that is certain, for a mixture it is a finding."""
    n = 1000
    right = np.ones((2, n), bool)
    nobody = threshold_path(np.array([[math.inf]]))
    plain = Trace(np.zeros((1, n)), ("identity",), right, right[1])
    mixed = Trace(np.zeros((1, n)), ("identity",), right, right[1], mixed=True)
    promise = Promise("drop", 0.01, DELTA, test)  # type: ignore[arg-type]
    assert certify(plain, nobody, promise, 0.9).bound == 0.0
    assert 0.001 < certify(mixed, nobody, promise, 0.9).bound <= 0.01
    assert mixed.take(np.arange(5)).mixed
