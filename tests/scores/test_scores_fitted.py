"""Fitted scores: what they learn, that they never see a sample's own label, and that running gives the same numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pilotfish.cascade import Budget
from pilotfish.errors import RecordsError
from pilotfish.plan.evidence import auto_score
from pilotfish.records import Outputs, Records, RecordsMeta, Run, from_logits, from_probabilities
from pilotfish.records.records import string_ids
from pilotfish.scores import SCORES, Evidence, calibrated, can_fit, compute, cross_fit, fit_score, score
from pilotfish.scores.learned import RIDGE, features
from pilotfish.scores.linear import Design, fit_linear, predict_linear

CLASSES = 6
FITTED = sorted(name for name, kind in SCORES.items() if kind.fit is not None)


def world(seed: int, n: int = 1500, liar: int | None = 2, heat: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """(logits, labels): a classifier whose answers *liar* are wrong half of the time, however sure it is."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, CLASSES, n)
    z = rng.normal(size=(n, CLASSES))
    z[np.arange(n), label] += 2.5
    answer = z.argmax(axis=1)
    if liar is not None:
        fooled = (answer == liar) & (rng.uniform(size=n) < 0.5)
        label = np.where(fooled, (label + 1) % CLASSES, label)
    return (z * heat).astype(np.float32), label


def evidence_of(z: np.ndarray, label: np.ndarray, base_skill: float = 0.97, seed: int = 9) -> Evidence:
    base_right = np.random.default_rng(seed).uniform(size=len(label)) < base_skill
    outputs = from_logits(z, top_k=CLASSES)
    return Evidence(outputs, label, outputs.prediction == label, base_right, base_right * 1.0, CLASSES)


def exits(values: np.ndarray, saver: np.ndarray, base: np.ndarray, drop: float = 0.01) -> float:
    order = np.argsort(-values, kind="stable")
    gain = np.cumsum(saver[order].astype(int) - base[order].astype(int))
    kept = np.flatnonzero(gain >= -drop * len(values))
    return (kept[-1] + 1) / len(values) if len(kept) else 0.0


@pytest.mark.parametrize("name", sorted({*FITTED} - {"temperature"}))
def test_a_class_that_lies_is_found_out(name: str) -> None:
    found, new = evidence_of(*world(0)), evidence_of(*world(1), seed=10)
    values = compute(fit_score(SCORES[name], found), new.outputs).values
    plain = score("max_prob", new.outputs).values
    lead = exits(values, new.right, new.base_right) - exits(plain, new.right, new.base_right)
    assert lead > 0.02


def test_temperature_is_where_the_likelihood_is_largest() -> None:
    z, label = world(3, liar=None, heat=3.0)
    fitted = float(fit_score(SCORES["temperature"], evidence_of(z, label)).parameters["temperature"][0])

    def nll(t: float) -> float:
        scaled = z.astype(np.float64) / t
        top = scaled.max(axis=1, keepdims=True)
        log_p = scaled - top - np.log(np.exp(scaled - top).sum(axis=1, keepdims=True))
        return -float(log_p[np.arange(len(label)), label].sum())

    grid = np.geomspace(0.3, 10, 400)
    best = float(min(grid.tolist(), key=nll))
    assert fitted == pytest.approx(best, rel=0.02)
    assert fitted == pytest.approx(3.0 / 2.5, rel=0.15)  # of logits with unit noise and a lead of 2.5, times 3


def test_the_solver_is_ridge_logistic_regression() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(0)
    dense, group = rng.normal(size=(400, 3)), rng.integers(0, 4, 400)
    target = (dense[:, 0] + 0.5 * (group == 2) + rng.normal(size=400) > 0).astype(float)
    fitted = fit_linear(Design(dense, (group,), (4,)), target, 5.0, "logistic")
    z = (dense - dense.mean(axis=0)) / dense.std(axis=0)
    theirs = linear_model.LogisticRegression(C=1 / 5.0, tol=1e-10, max_iter=5000)
    theirs.fit(np.hstack([z, np.eye(4)[group]]), target)
    expected = theirs.decision_function(np.hstack([z, np.eye(4)[group]]))
    assert predict_linear(dense, (group,), fitted) == pytest.approx(expected, abs=2e-3)


def test_learned_right_is_ridge_logistic_regression_on_its_features() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    found = evidence_of(*world(11, n=500))
    ours = compute(fit_score(SCORES["learned_right"], found), found.outputs).values
    dense, groups = features(found.outputs)
    std = dense.std(axis=0)
    z = (dense - dense.mean(axis=0)) / np.where(std > 1e-12, std, 1.0)
    design = np.hstack([z, *(np.eye(CLASSES)[g] for g in groups)])
    theirs = linear_model.LogisticRegression(C=1 / RIDGE, tol=1e-10, max_iter=10000).fit(design, found.right)
    chance = 1 / (1 + np.exp(-ours))
    assert chance == pytest.approx(theirs.predict_proba(design)[:, 1], abs=1e-3)


def test_dirichlet_is_the_optimum_of_its_penalised_likelihood() -> None:
    optimize = pytest.importorskip("scipy.optimize")
    z, label = world(12, n=600)
    found = evidence_of(z, label)
    fitted = fit_score(SCORES["dirichlet"], found).parameters
    logits = z.astype(np.float64)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    assert log_p.min() > calibrated.FLOOR

    def objective(matrix: np.ndarray, bias: np.ndarray) -> float:
        u = log_p @ matrix + bias
        log_q = u - np.logaddexp.reduce(u, axis=1)[:, None]
        nll = -float(log_q[np.arange(len(label)), label].sum())
        free = np.trace(matrix) / CLASSES  # the best multiple of the identity is not penalised
        off = matrix - free * np.eye(CLASSES)
        return nll + calibrated.RIDGE / 2 * float((off**2).sum()) + calibrated.RIDGE_BIAS / 2 * float(bias @ bias)

    def of(theta: np.ndarray) -> float:
        return objective(theta[:-CLASSES].reshape(CLASSES, CLASSES), theta[-CLASSES:])

    start = np.concatenate([np.eye(CLASSES).ravel(), np.zeros(CLASSES)])
    direct = optimize.minimize(of, start, method="BFGS", options={"gtol": 1e-2})  # slopes by differences
    best = objective(fitted["matrix"], fitted["bias"])
    assert best < of(start)
    assert best == pytest.approx(direct.fun, rel=1e-5)
    expected = log_p @ direct.x[:-CLASSES].reshape(CLASSES, CLASSES) + direct.x[-CLASSES:]
    q = np.exp(expected - np.logaddexp.reduce(expected, axis=1)[:, None])
    chance = 1 / (1 + np.exp(-compute(fit_score(SCORES["dirichlet"], found), found.outputs).values))
    assert chance == pytest.approx(q[np.arange(len(label)), found.outputs.prediction], abs=3e-3)


def test_per_class_gives_the_class_that_lies_a_higher_threshold() -> None:
    found = evidence_of(*world(13, n=3000), base_skill=1.0)
    fitted = fit_score(SCORES["per_class"], found)
    assert fitted.parameters["offsets0"][:CLASSES].argmin() == 2
    assert fitted.parameters["weights"][0] > 0
    # where the base is no better there is nothing to learn: all classes are alike
    z, label = world(14, n=3000, liar=None)
    offsets = fit_score(SCORES["per_class"], evidence_of(z, label, base_skill=1.0)).parameters["offsets0"][:CLASSES]
    assert np.ptp(offsets) < 1.0


@pytest.mark.parametrize("name", FITTED)
def test_no_sample_is_scored_by_a_model_that_saw_its_label(name: str) -> None:
    z, label = world(4, n=400)
    before = cross_fit(SCORES[name], evidence_of(z, label)).scored.values
    changed = label.copy()
    changed[7] = (changed[7] + 1) % CLASSES
    after = cross_fit(SCORES[name], evidence_of(z, changed)).scored.values
    assert after[7] == before[7]
    assert (after != before).sum() > 100  # others' models did see it


@pytest.mark.parametrize("name", FITTED)
def test_the_score_of_records_is_the_score_when_running(name: str, tmp_path: Path) -> None:
    """Fitted on records read back from Parquet, computed on fresh logits reduced as the engine reduces them."""
    z, label = world(5, n=300)
    outputs = from_logits(z, top_k=4)
    meta = RecordsMeta("m", "val", n_classes=CLASSES)
    Run(tmp_path).write(Records(string_ids(np.arange(300)), label, outputs, meta))
    kept = Run(tmp_path).read("m").outputs
    base_right = np.ones(300, bool)
    found = fit_score(
        SCORES[name], Evidence(kept, label, kept.prediction == label, base_right, base_right * 1.0, CLASSES)
    )
    running = compute(found, from_logits(z, top_k=found.top_k)).values
    assert (running == compute(found, kept).values).all()


@pytest.mark.parametrize("name", ["per_class", "learned_right", "learned_gain", "learned_base_gain", "learned"])
def test_a_bare_confidence_will_do(name: str) -> None:
    rng = np.random.default_rng(6)
    confidence, answer = rng.uniform(size=600), rng.integers(0, 3, 600)
    right = rng.uniform(size=600) < np.where(answer == 1, 0.3, confidence)
    outputs = Outputs(answer.astype(np.int64), confidence=confidence)
    base = np.ones(600, bool)
    found = Evidence(outputs, np.where(right, answer, 3 + 0 * answer), right, base, base * 1.0, 4)
    values = compute(fit_score(SCORES[name], found), outputs).values
    assert values[answer == 1].mean() < values[answer != 1].mean()
    assert not can_fit(SCORES["dirichlet"], found)


def test_energy_is_no_score_of_imported_probabilities() -> None:
    p = np.random.default_rng(0).dirichlet(np.ones(CLASSES), 80)
    outputs = from_probabilities(p, top_k=CLASSES)
    ones = np.ones(80, bool)
    found = Evidence(outputs, outputs.prediction, ones, ones, ones * 1.0, CLASSES)
    assert not can_fit(SCORES["energy"], found)
    with pytest.raises(RecordsError, match="energy needs the log-sum-exp of logits"):
        cross_fit(SCORES["energy"], found)


@pytest.mark.parametrize("name", ["temperature", "dirichlet"])
def test_what_needs_probabilities_says_so(name: str) -> None:
    outputs = Outputs(np.zeros(80, np.int64), confidence=np.linspace(0, 1, 80))
    ones = np.ones(80, bool)
    found = Evidence(outputs, outputs.prediction, ones, ones, ones * 1.0, 3)
    assert not can_fit(SCORES[name], found)
    with pytest.raises(RecordsError, match=rf"{name} needs (log-)?(probabilities|logits)"):
        fit_score(SCORES[name], found)


@pytest.mark.parametrize("name", FITTED)
def test_nothing_reaches_a_threshold_of_infinity(name: str) -> None:
    """Certain, masked and broken outputs after a fit on usual ones; a temperature below 1 only makes them larger."""
    z, label = world(15, n=400, liar=None, heat=0.3)
    fitted = fit_score(SCORES[name], evidence_of(z, label))
    odd = np.zeros((5, CLASSES), np.float32)
    odd[0, 1:], odd[1, 0], odd[2, 0], odd[3, 1], odd[4] = -np.inf, 3e38, 800.0, np.nan, -np.inf
    values = compute(fitted, from_logits(odd, top_k=CLASSES)).values
    assert not (values >= np.inf).any()
    assert np.isnan(values).tolist() == [False, False, False, True, True]


@pytest.mark.parametrize("name", ["dirichlet", "learned", "learned_right", "temperature", "entropy"])
@pytest.mark.parametrize("top_k", [2, 5, 20])
def test_records_may_hold_more_classes_or_fewer_than_the_engine_keeps(name: str, top_k: int) -> None:
    rng = np.random.default_rng(16)
    label = rng.integers(0, 25, 300)
    z = rng.normal(size=(300, 25)).astype(np.float32)
    z[np.arange(300), label] += 2
    kept = from_logits(z, top_k=top_k)
    ones = np.ones(300, bool)
    fitted = fit_score(SCORES[name], Evidence(kept, label, kept.prediction == label, ones, ones * 1.0, 25))
    assert fitted.top_k == min(top_k, 10)
    running = compute(fitted, from_logits(z, top_k=fitted.top_k)).values
    assert (running == compute(fitted, kept).values).all()


def test_too_few_samples_are_refused() -> None:
    z, label = world(7, n=30)
    with pytest.raises(RecordsError, match="30 samples are too few to fit the score learned"):
        fit_score(SCORES["learned"], evidence_of(z, label))


def test_auto_takes_a_better_score_and_names_it() -> None:
    found = evidence_of(*world(8, n=3000))
    fitted, choice = auto_score(found, Budget("max_drop", 0.01))
    assert choice.chosen == fitted.score.name != "max_prob"
    lead, error = choice.advantage[choice.chosen]
    assert lead > error > 0


def test_auto_stays_with_max_prob_where_nothing_is_to_be_learned() -> None:
    rng = np.random.default_rng(0)
    chosen = []
    for seed in range(5):
        z, label = world(20 + seed, n=600, liar=None)
        found = evidence_of(z, label, base_skill=0.99, seed=seed)
        fitted, _ = auto_score(found, Budget("max_drop", 0.01))
        new = evidence_of(*world(40 + seed, n=4000, liar=None), base_skill=0.99, seed=rng.integers(1000))
        chosen.append(
            exits(compute(fitted.score, new.outputs).values, new.right, new.base_right)
            - exits(score("max_prob", new.outputs).values, new.right, new.base_right)
        )
    assert np.mean(chosen) > -0.02


@pytest.mark.parametrize("name", ["dirichlet", "learned"])
def test_records_of_more_classes_than_the_engine_keeps_score_as_it_does(name: str) -> None:
    rng = np.random.default_rng(11)
    label = rng.integers(0, 15, 400)
    z = rng.normal(size=(400, 15)).astype(np.float32)
    z[np.arange(400), label] += 2
    kept = from_logits(z, top_k=15)
    base = np.ones(400, bool)
    found = fit_score(SCORES[name], Evidence(kept, label, kept.prediction == label, base, base * 1.0, 15))
    running = compute(found, from_logits(z, top_k=found.top_k)).values
    assert (running == compute(found, kept).values).all()
