"""What no better than chance means, which order of the classes explains it, and that healthy models raise no alarm."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pilotfish.errors import RecordsError
from pilotfish.records import import_file, judge, judge_records, open_run
from support.runs import REAL_DATA

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "imagenet_lite"


def answers(n: int, classes: int, skill: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(labels, predictions): right with the chance *skill*, else any class."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, classes, n)
    return label, np.where(rng.random(n) < skill, label, rng.integers(0, classes, n))


def text_order(first: int, classes: int) -> np.ndarray:
    return np.array(sorted(range(first, classes + first), key=str)) - first


@pytest.mark.parametrize(("n", "k"), [(60, 10), (60, 14), (60, 15), (60, 16), (200, 43), (200, 44), (200, 60)])
def test_the_test_against_chance_is_the_exact_binomial_one(n: int, k: int) -> None:
    label = np.arange(n) % 6
    prediction = np.where(np.arange(n) < k, label, (label + 1 + np.arange(n) % 5) % 6)
    assert (label == prediction).sum() == k
    shares = [Fraction(Counter(x.tolist())[c], n) for x in (label, prediction) for c in range(6)]
    p = float(sum(a * b for a, b in zip(shares[:6], shares[6:], strict=True)))
    tail = sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k, n + 1))
    found = judge(label, prediction, 6)
    assert found.chance == pytest.approx(p)
    assert found.bad == (tail >= 0.05)
    assert ("no better than chance" in (found.note or "")) == found.bad


@pytest.mark.parametrize("seed", range(3))
def test_random_answers_are_no_better_than_chance(seed: int) -> None:
    label, _ = answers(300, 10, 0, seed)
    found = judge(label, np.random.default_rng(99 + seed).integers(0, 10, 300), 10)
    assert found.bad
    assert found.note is not None
    assert "would give" not in found.note


@pytest.mark.parametrize(
    ("moved", "said"),
    [
        (lambda y: y + 1, "labels shifted by -1 would give 9"),
        (lambda y: y - 1, "labels shifted by +1 would give 9"),
        (lambda y: np.argsort(text_order(0, 12))[y], "labels read as places in text order (0, 1, 10, 11, 2, …)"),
        (lambda y: text_order(0, 12)[y], "the model's classes in text order (0, 1, 10, 11, 2, …)"),
        (lambda y: np.argsort(text_order(1, 12))[y], "labels read as places in text order (1, 10, 11, 12, 2, …)"),
        (lambda y: text_order(1, 12)[y], "the model's classes in text order (1, 10, 11, 12, 2, …)"),
        (lambda y: text_order(1, 12)[y] + 1, "the model's classes in text order (1, 10, 11, 12, 2, …)"),
        (lambda y: np.array([3, 1, 4, 0, 5, 9, 2, 6, 11, 7, 10, 8])[y], "another order of the classes ("),
        (lambda y: np.array([1, 0, 2, 3, 5, 4, 7, 6, 8, 9, 10, 11])[y], "another order of the classes ("),
    ],
)
def test_the_order_that_explains_it_is_named(moved, said: str) -> None:  # type: ignore[no-untyped-def]
    label, prediction = answers(400, 12, 0.95)
    label = moved(label)
    keep = label >= 0
    found = judge(label[keep], prediction[keep], 12)
    assert found.bad
    assert said in str(found.note)


def test_seventeen_percent_is_above_chance_and_wrong_all_the_same() -> None:
    label = np.repeat(np.arange(12), 6)
    found = judge(label, text_order(0, 12)[label], 12)
    assert found.accuracy == pytest.approx(1 / 6)
    assert found.bad
    assert found.note == (
        "accuracy 16.7% (72 samples); labels read as places in text order (0, 1, 10, 11, 2, …) would give 100.0% "
        "(were folders sorted as text?)"
    )


@pytest.mark.parametrize(
    ("label", "prediction", "bad", "said"),
    [
        ([3] * 80, [3] * 80, False, None),  # one class: its accuracy is the chance level, whatever it is
        ([3] * 80, [3] * 40 + [5] * 40, False, None),
        ([3] * 80, [4] * 80, False, "none of the 80 samples, all with label 3, is predicted right"),
        ([0, 1] * 40, [1] * 80, True, "it predicts class 1 for all of them"),
        ([0, 1] * 40, [1, 0] * 40, True, "(0 → 1, 1 → 0) would give 100.0%"),
        ([0] * 495 + [1] * 5, [0] * 490 + [1] * 8 + [0] * 2, False, None),  # 3 of 5 rare ones found: not by chance
        ([-1] * 80, [0] * 80, False, None),
        ([10**15, 3] * 50, [10**15, 3] * 50, False, None),
    ],
)
def test_few_classes_and_none(label: list[int], prediction: list[int], bad: bool, said: str | None) -> None:
    found = judge(np.array(label), np.array(prediction))
    assert found.bad is bad
    assert (found.note is None) if said is None else (said in str(found.note))


@pytest.mark.parametrize("n", [5, 20, 49])
def test_fewer_than_fifty_samples_give_a_note_only(n: int) -> None:
    label = np.arange(n) % 5
    found = judge(label, (label + 1 + np.arange(n) % 2) % 5, 5)
    assert not found.bad
    assert f"on {n} samples only" in str(found.note)
    assert judge(label, label, 5).note is None


@pytest.mark.parametrize(("n", "classes"), list(itertools.product((50, 300, 2000), (2, 10, 100))))
def test_weak_but_honest_models_raise_no_alarm_about_the_order(n: int, classes: int) -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        label = rng.integers(0, classes, n)
        logits = rng.normal(0, 0.5, (classes, classes))[label] + rng.gumbel(size=(n, classes))
        logits[np.arange(n), label] += rng.uniform(1, 4)
        assert "would give" not in str(judge(label, logits.argmax(1), classes).note)


def test_the_models_of_the_examples_raise_no_alarm() -> None:
    run = open_run(EXAMPLES)
    found = [judge_records(run.read(model)) for model in run.models()]
    assert len(found) == 12
    assert all(verdict.n == 500 and verdict.note is None for verdict in found)


@pytest.mark.skipif(not (REAL_DATA / "cifar10_test.npz").is_file(), reason="needs shared data")
@pytest.mark.parametrize(("name", "classes"), [("cifar10_test", 10), ("cifar100_test", 100)])
def test_real_models_raise_no_alarm(name: str, classes: int) -> None:
    data = np.load(REAL_DATA / f"{name}.npz")
    label = data["label"].astype(np.int64)
    for prediction in (*data["probs"].argmax(-1), *data["classes"].astype(np.int64)):
        for rows in (np.arange(10_000), *np.random.default_rng(0).permutation(10_000)[:1200].reshape(4, 300)):
            assert judge(label[rows], prediction[rows], classes).note is None
        assert "labels shifted by -1" in str(judge(label + 1, prediction).note)


@pytest.mark.parametrize("what", ["probs", "logits"])
def test_imported_labels_numbered_from_1_are_named(what: str, tmp_path: Path) -> None:
    values = np.eye(4)[[0, 1, 2, 3]] * 0.97 + 0.01
    np.savez(tmp_path / "m.npz", **{what: values if what == "probs" else 20 * values, "label": np.arange(1, 5)})
    with pytest.raises(RecordsError, match=r"label of row 3 is 4, .* numbered from 1"):
        import_file(tmp_path / "m.npz", "m")
