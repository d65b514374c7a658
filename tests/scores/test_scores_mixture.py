"""Averaged probabilities from the best classes of records, against dense averages."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.errors import RecordsError
from pilotfish.records import Outputs, from_logits, from_probabilities
from pilotfish.scores.mixture import mix


def softmax(z: np.ndarray) -> np.ndarray:
    raw = np.exp(z - z.max(axis=1, keepdims=True))
    return np.asarray(raw / raw.sum(axis=1, keepdims=True))


def models(seed: int, count: int, classes: int, n: int = 40) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(n, classes)).astype(np.float32) * rng.uniform(0.5, 5) for _ in range(count)]


def stored(logits: list[np.ndarray], top_k: int) -> list[Outputs]:
    return [from_logits(z, top_k=top_k) for z in logits]


@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(2, 10))
def test_with_all_classes_stored_it_is_the_dense_average(seed: int, count: int, classes: int) -> None:
    logits = models(seed, count, classes)
    weights = np.random.default_rng(seed).dirichlet(np.ones(count)).tolist()
    dense = sum(w * softmax(z.astype(np.float64)) for w, z in zip(weights, logits, strict=True))
    found = mix(stored(logits, classes), weights)
    ranked = np.sort(dense, axis=1)
    clear = ranked[:, -1] - ranked[:, -2] > 1e-6
    assert (found.prediction == dense.argmax(axis=1))[clear].all()
    best = ranked[:, -1]
    assert found.log_odds == pytest.approx(np.log(best / (dense.sum(axis=1) - best)), abs=1e-4)
    kept = np.exp(np.asarray(found.top_logits, np.float64))[:, :classes]
    assert kept == pytest.approx(ranked[:, ::-1][:, : kept.shape[1]], abs=1e-6)


def test_equal_sums_go_to_the_lower_class() -> None:
    a, b = np.array([[0.2, 0.3, 0.5]]), np.array([[0.2, 0.5, 0.3]])
    for pair in ((a, b), (b, a)):
        found = mix([from_probabilities(p, top_k=3) for p in pair], [0.5, 0.5])
        assert found.prediction[0] == 1
        assert np.asarray(found.top_classes)[0, :3].tolist() == [1, 2, 0]


@pytest.mark.parametrize("top_k", [1, 2, 3, 5])
def test_what_was_not_stored_is_no_more_than_the_last_that_was(top_k: int) -> None:
    logits, weights = models(1, 3, 12, n=500), [0.2, 0.3, 0.5]
    dense = [softmax(z.astype(np.float64)) for z in logits]
    whole = sum(w * p for w, p in zip(weights, dense, strict=True))
    bound = sum(w * np.sort(p, axis=1)[:, -top_k] for w, p in zip(weights, dense, strict=True))
    found = mix(stored(logits, top_k), weights)
    chosen = whole[np.arange(500), found.prediction]
    assert (whole.max(axis=1) - chosen <= bound + 1e-6).all()  # the answer is nearly the best
    top = 1 / (1 + np.exp(-np.asarray(found.log_odds)))
    assert (top <= whole.max(axis=1) + 1e-6).all()
    assert (top >= whole.max(axis=1) - bound - 1e-6).all()


def test_a_whole_weight_is_that_model_alone() -> None:
    logits = models(2, 2, 6)
    first, second = stored(logits, 6)
    for weights, alone in (([1.0, 0.0], first), ([0.0, 1.0], second)):
        found = mix([first, second], weights)
        assert (found.prediction == alone.prediction).all()
        assert found.log_odds == pytest.approx(alone.log_odds, rel=1e-6, abs=1e-6)


def test_a_model_whose_outputs_are_not_finite_has_no_say() -> None:
    logits = models(3, 2, 5)
    logits[0][::2] = np.nan
    logits[1][:4] = np.inf
    found = mix(stored(logits, 5), [0.7, 0.3])
    both = np.arange(40) % 2 == 0
    assert np.isnan(np.asarray(found.log_odds)).tolist() == [bool(both[i] and i < 4) for i in range(40)]
    one, other = both & (np.arange(40) >= 4), ~both & (np.arange(40) < 4)
    assert (found.prediction[one] == logits[1][one].argmax(axis=1)).all()
    assert (found.prediction[other] == logits[0][other].argmax(axis=1)).all()


def test_the_one_that_is_left_answers_even_where_its_weight_is_nothing() -> None:
    logits = models(4, 2, 5)
    logits[0][:7] = np.nan
    found = mix(stored(logits, 5), [1.0, 0.0])
    assert (found.prediction[:7] == logits[1][:7].argmax(axis=1)).all()
    assert np.isfinite(np.asarray(found.log_odds)).all()


def test_records_without_probabilities_cannot_be_averaged() -> None:
    classes = np.zeros(3, np.int64)
    for bare in (Outputs(classes), Outputs(classes, confidence=np.ones(3))):
        with pytest.raises(RecordsError, match="an ensemble needs logits or probabilities"):
            mix([bare, bare], [0.5, 0.5])
