"""Fitted scores: what they learn, that they never see a sample's own label, and that running gives the same numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pilotfish.cascade import Budget
from pilotfish.errors import RecordsError
from pilotfish.plan.evidence import auto_score
from pilotfish.records import Outputs, Records, RecordsMeta, Run, from_logits
from pilotfish.records.records import string_ids
from pilotfish.scores import FITTED, Evidence, can_fit, compute, cross_fit, fit_score, score
from pilotfish.scores.diagram import binned, smoothed
from pilotfish.scores.linear import Design, fit_linear, predict_linear

CLASSES = 6


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


@pytest.mark.parametrize("name", sorted(set(FITTED) - {"temperature"}))
def test_a_class_that_lies_is_found_out(name: str) -> None:
    found, new = evidence_of(*world(0)), evidence_of(*world(1), seed=10)
    values = compute(fit_score(name, found), new.outputs).values
    plain = score("max_prob", new.outputs).values
    lead = exits(values, new.right, new.base_right) - exits(plain, new.right, new.base_right)
    assert lead > 0.02


def test_temperature_is_where_the_likelihood_is_largest() -> None:
    z, label = world(3, liar=None, heat=3.0)
    fitted = float(fit_score("temperature", evidence_of(z, label)).parameters["temperature"][0])

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


@pytest.mark.parametrize("name", sorted(FITTED))
def test_no_sample_is_scored_by_a_model_that_saw_its_label(name: str) -> None:
    z, label = world(4, n=400)
    before = cross_fit(name, evidence_of(z, label)).scored.values
    changed = label.copy()
    changed[7] = (changed[7] + 1) % CLASSES
    after = cross_fit(name, evidence_of(z, changed)).scored.values
    assert after[7] == before[7]
    assert (after != before).sum() > 100  # others' models did see it


@pytest.mark.parametrize("name", sorted(FITTED))
def test_the_score_of_records_is_the_score_when_running(name: str, tmp_path: Path) -> None:
    """Fitted on records read back from Parquet, computed on fresh logits reduced as the engine reduces them."""
    z, label = world(5, n=300)
    outputs = from_logits(z, top_k=4)
    meta = RecordsMeta("m", "val", n_classes=CLASSES)
    Run(tmp_path).write(Records(string_ids(np.arange(300)), label, outputs, meta))
    kept = Run(tmp_path).read("m").outputs
    base_right = np.ones(300, bool)
    found = fit_score(name, Evidence(kept, label, kept.prediction == label, base_right, base_right * 1.0, CLASSES))
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
    values = compute(fit_score(name, found), outputs).values
    assert values[answer == 1].mean() < values[answer != 1].mean()
    assert not can_fit("dirichlet", found)


def test_too_few_samples_are_refused() -> None:
    z, label = world(7, n=30)
    with pytest.raises(RecordsError, match="30 samples are too few to fit the score learned"):
        fit_score("learned", evidence_of(z, label))


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


# --- reliability diagrams


def test_a_diagram_is_the_share_of_right_answers_per_bin() -> None:
    rng = np.random.default_rng(0)
    values, right = rng.uniform(size=500), rng.uniform(size=500) < 0.7
    found = binned(values, right, "identity", 10, "width", None)
    for b in range(10):
        inside = [bool(r) for v, r in zip(values, right, strict=True) if b / 10 <= v < (b + 1) / 10]
        assert found.accuracy[b] == pytest.approx(sum(inside) / len(inside))
    assert found.at(np.array([0.25, np.nan]))[0] == found.accuracy[2]
    sparse = binned(np.array([0.05] * 4 + [0.95] * 9), np.ones(13, bool), "identity", 10, "width", None)
    assert np.isneginf(sparse.accuracy[:9]).all()
    assert sparse.accuracy[9] == 1.0


def test_the_lower_bound_is_clopper_pearsons() -> None:
    beta = pytest.importorskip("scipy.stats").beta
    values = np.repeat([0.1, 0.6], 20)
    right = np.array([True] * 5 + [False] * 15 + [True] * 19 + [False])
    found = binned(values, right, "identity", 2, "width", 0.9)
    assert found.accuracy == pytest.approx([beta.ppf(0.1, 5, 16), beta.ppf(0.1, 19, 2)])


def test_neighbours_are_counted_on_both_sides() -> None:
    rng = np.random.default_rng(1)
    values, right = np.sort(rng.uniform(size=60)), rng.uniform(size=60) < 0.5
    found = smoothed(values, right, "identity", "neighbours", 7, 0.1, None)
    for i in range(60):
        window = right[max(0, i - 7) : i + 8]
        assert found.at(values[i : i + 1])[0] == pytest.approx(window.mean())
    isotonic = smoothed(values, right, "identity", "isotonic", 7, 0.1, None)
    assert (np.diff(isotonic.accuracy) >= -1e-12).all()


@pytest.mark.parametrize("name", ["dirichlet", "learned"])
def test_records_of_more_classes_than_the_engine_keeps_score_as_it_does(name: str) -> None:
    rng = np.random.default_rng(11)
    label = rng.integers(0, 15, 400)
    z = rng.normal(size=(400, 15)).astype(np.float32)
    z[np.arange(400), label] += 2
    kept = from_logits(z, top_k=15)
    base = np.ones(400, bool)
    found = fit_score(name, Evidence(kept, label, kept.prediction == label, base, base * 1.0, 15))
    running = compute(found, from_logits(z, top_k=found.top_k)).values
    assert (running == compute(found, kept).values).all()
