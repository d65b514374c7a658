"""Metrics of many labels against definitions written out."""

from __future__ import annotations

import numpy as np
import pytest

from pilotfish.tasks.label_metrics import (
    RankedLabels,
    average_precision_along,
    best_threshold,
    class_average_precision,
    class_counts,
    class_f1,
    f1_counts,
    macro_f1,
    mean_average_precision,
    micro_f1,
    sample_f1,
)


def f1(decision: np.ndarray, truth: np.ndarray) -> float:
    both = int(decision.sum() + truth.sum())
    return 2 * int((decision & truth).sum()) / both if both else 1.0


def average_precision(probs: np.ndarray, truth: np.ndarray) -> float:
    """The area under precision over recall, by every threshold in turn."""
    area = found = 0.0
    for threshold in np.unique(probs)[::-1]:
        said = probs >= threshold
        hits = (said & truth).sum()
        area += (hits - found) / truth.sum() * hits / said.sum()
        found = hits
    return area


def made(seed: int, n: int = 60, classes: int = 5, steps: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Coarse probabilities, with many ties, and labels that they say something about; the last class never occurs."""
    rng = np.random.default_rng(seed)
    truth = rng.random((n, classes)) < 0.3
    truth[:, -1] = False
    probs = np.clip(0.5 * truth + 0.7 * rng.random((n, classes)), 0, 1)
    return np.round(probs * steps).astype(np.float32) / steps, truth


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_f1_of_sums_is_f1_of_the_samples_together(seed: int) -> None:
    probs, truth = made(seed)
    said = probs >= 0.6
    classes = [c for c in range(truth.shape[1]) if (said[:, c] | truth[:, c]).any()]
    by_class = [f1(said[:, c], truth[:, c]) for c in classes]
    assert micro_f1(f1_counts(said, truth).sum(axis=0)) == pytest.approx(f1(said, truth), abs=1e-12)
    assert macro_f1(class_counts(said, truth).sum(axis=0)) == pytest.approx(np.mean(by_class), abs=1e-12)
    assert class_f1(class_counts(said, truth).sum(axis=0))[classes] == pytest.approx(by_class, abs=1e-12)
    assert sample_f1(said, truth) == pytest.approx([f1(a, b) for a, b in zip(said, truth, strict=True)], abs=1e-12)


def test_nothing_to_find_and_nothing_found_is_right_and_absent_classes_count_for_nothing() -> None:
    none, one = np.zeros((3, 4), bool), np.eye(4, dtype=bool)[[0, 0, 0]]
    assert micro_f1(f1_counts(none, none).sum(axis=0)) == 1
    assert macro_f1(class_counts(none, none).sum(axis=0)) == 1
    assert macro_f1(class_counts(one, one).sum(axis=0)) == 1
    assert np.isnan(class_f1(class_counts(one, one).sum(axis=0))[1:]).all()
    assert sample_f1(none, none).tolist() == [1, 1, 1]
    assert micro_f1(f1_counts(one, none).sum(axis=0)) == 0
    assert sample_f1(none, one).tolist() == [0, 0, 0]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_threshold_is_the_best_of_all(seed: int) -> None:
    probs, truth = made(seed)
    found = best_threshold(probs, truth)
    every = [*np.unique(probs), 2.0]
    assert f1(probs >= found, truth) == max(f1(probs >= t, truth) for t in every)
    spoilt, more = np.vstack([probs, np.full((1, 5), np.nan, np.float32)]), np.vstack([truth, np.ones((1, 5), bool)])
    assert best_threshold(spoilt, more) == found


def test_without_a_true_label_the_threshold_stays() -> None:
    assert best_threshold(np.full((4, 3), 0.2, np.float32), np.zeros((4, 3), bool)) == 0.5


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_average_precision_of_every_routing(seed: int) -> None:
    (one, truth), (other, _), (last, _) = made(seed), made(seed + 10), made(seed + 20)
    states = [RankedLabels(probs, truth) for probs in (one, other, last)]
    rng = np.random.default_rng(seed)
    for models in (1, 2, 3):
        for _ in range(4):
            by = rng.integers(0, models, len(truth))
            answer = np.stack([one, other, last])[by, np.arange(len(truth))]
            expected = [average_precision(answer[:, c], truth[:, c]) for c in range(4)]
            found = class_average_precision(states[:models], by)
            assert found[:4] == pytest.approx(expected, abs=1e-12)
            assert np.isnan(found[4])
            assert mean_average_precision(states[:models], by) == pytest.approx(np.mean(expected), abs=1e-12)
    path = np.cumsum(rng.random((40, len(truth))) < 0.02, axis=0).clip(max=2)  # ever more samples move on
    path[:, rng.permutation(len(truth))[:5]] = -1
    for i in range(20, 40):
        path[i, rng.permutation(len(truth))[:2]] = -1
    every = average_precision_along(states, path)
    assert every == pytest.approx([mean_average_precision(states, by) for by in path], abs=1e-12)
    left = path[-1] >= 0
    mixed = np.stack([one, other, last])[path[-1], np.arange(len(truth))]
    kept = mean_average_precision([RankedLabels(mixed[left], truth[left])], np.zeros(int(left.sum()), np.int64))
    assert every[-1] == pytest.approx(kept, abs=1e-12)
    rows = rng.permutation(len(truth))[:20]
    part = mean_average_precision([one.take(rows) for one in states], by[rows])
    assert part == pytest.approx(mean_average_precision([RankedLabels(answer[rows], truth[rows])], by[:20] * 0))
