"""The batch engine against the definition of a cascade."""

from __future__ import annotations

import math
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pilotfish.errors import ModelError
from pilotfish.records import from_logits
from pilotfish.runtime import Answers, Engine, EngineStage
from pilotfish.runtime.supply import TensorSupply
from support.engine import Lookup, by_max_prob, plain_cascade, stages_of

THRESHOLDS = st.one_of(st.sampled_from([math.inf, -math.inf, 0.0]), st.floats(-8, 8))


def tensors(n: int, stages: int) -> TensorSupply:
    return TensorSupply([np.arange(n, dtype=np.float32)[:, None]] * stages)


def run(logits: list[np.ndarray], sizes: list[int], thresholds: list[float]) -> tuple[Answers, list[Lookup]]:
    stages = stages_of(logits, sizes)
    answers = Engine(stages, by_max_prob(thresholds)).run(tensors(len(logits[0]), len(logits)))
    return answers, [stage.backend for stage in stages]


@st.composite
def cascades(draw: st.DrawFn) -> tuple[list[np.ndarray], list[int], list[float]]:
    """Logits of 2 or 3 stages for a few samples, some not finite; batch sizes; thresholds, some exactly at a score."""
    k, n, classes = draw(st.sampled_from([2, 3])), draw(st.integers(0, 25)), draw(st.integers(2, 4))
    numbers = st.one_of(st.floats(-6, 6, width=32), st.sampled_from([np.nan, np.inf, 0.0, 1.0, 100.0, -100.0]))
    logits = [draw(hnp.arrays(np.float32, (n, classes), elements=numbers)) for _ in range(k)]
    sizes = draw(st.lists(st.integers(1, 9), min_size=k, max_size=k))
    thresholds = draw(st.lists(THRESHOLDS, min_size=k - 1, max_size=k - 1))
    if n and draw(st.booleans()):  # exactly at a sample's score
        scores = from_logits(logits[0]).log_odds
        assert scores is not None
        thresholds[0] = float(np.nan_to_num(scores[draw(st.integers(0, n - 1))], nan=1.0))
    return logits, sizes, thresholds


@settings(max_examples=300, deadline=None)
@given(cascades())
def test_every_answer_is_that_of_the_definition(case: tuple[list[np.ndarray], list[int], list[float]]) -> None:
    logits, sizes, thresholds = case
    answers, backends = run(logits, sizes, thresholds)
    for i in range(len(logits[0])):
        expected = plain_cascade(logits, thresholds, i)
        if expected is None:
            assert answers.errors[i] == f"the outputs of s{len(logits) - 1} are not finite"
            assert (answers.prediction[i], answers.stage[i]) == (-1, -1)
            assert np.isnan(answers.confidence[i])
        else:
            assert i not in answers.errors
            assert (answers.prediction[i], answers.stage[i]) == (expected.prediction, expected.stage)
            assert answers.confidence[i] == expected.confidence
    asked = [sorted(chain.from_iterable(backend.batches)) for backend in backends]
    reached = [plain_stage(logits, thresholds, i) for i in range(len(logits[0]))]
    for k, rows in enumerate(asked):
        assert rows == [i for i, last in enumerate(reached) if last >= k]  # each sample once, and only as far as needed


def plain_stage(logits: list[np.ndarray], thresholds: list[float], i: int) -> int:
    found = plain_cascade(logits, thresholds, i)
    return len(logits) - 1 if found is None else found.stage


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 60), st.integers(1, 8), st.integers(1, 8), st.randoms(use_true_random=False))
def test_batches_are_full_until_nothing_is_left(n: int, first: int, second: int, chance: object) -> None:
    """No padding row, and a later stage waits for a whole batch of its own size."""
    confident = np.array([[chance.choice([0.0, 9.0]), 0.0] for _ in range(n)], np.float32)  # type: ignore[attr-defined]
    _, (saver, base) = run([confident, np.ones((n, 2), np.float32) * [2, 1]], [first, second], [1.0])
    assert [len(batch) for batch in saver.batches[:-1]] == [first] * (len(saver.batches) - 1)
    assert [len(batch) for batch in base.batches[:-1]] == [second] * max(0, len(base.batches) - 1)
    unsure = [i for i in range(n) if confident[i, 0] == 0]
    assert list(chain.from_iterable(base.batches)) == unsure  # in the order they came


@pytest.mark.parametrize(("threshold", "stage"), [(-math.inf, 0), (math.inf, 1)])
def test_everybody_and_nobody(threshold: float, stage: int) -> None:
    logits = [np.random.default_rng(k).standard_normal((50, 3)).astype(np.float32) * 50 for k in (0, 1)]
    answers, (_, base) = run(logits, [8, 4], [threshold])
    assert (answers.stage == stage).all()
    assert np.array_equal(answers.prediction, logits[stage].argmax(1))
    assert answers.exit_ratio(2) == [1.0 - stage, float(stage)]
    assert bool(base.batches) == (stage == 1)  # when everybody exits, the base is never called


def test_certainty_beyond_float_precision_still_does_not_meet_plus_infinity() -> None:
    certain = np.array([[3e38, -3e38], [np.float32(1e30), 0]], np.float32)
    answers, _ = run([certain, np.ones((2, 2), np.float32) * [0, 1]], [2, 2], [math.inf])
    assert answers.stage.tolist() == [1, 1]


@given(st.lists(st.integers(0, 2), max_size=30), st.lists(THRESHOLDS, min_size=2, max_size=2), st.integers(1, 7))
@settings(max_examples=100, deadline=None)
def test_a_mask_decides_whatever_the_scores_say(mask: list[int], thresholds: list[float], size: int) -> None:
    n = len(mask)
    logits = [np.random.default_rng(k).standard_normal((n, 4)).astype(np.float32) for k in range(3)]
    stages = stages_of(logits, [size, size + 1, 2])
    answers = Engine(stages, by_max_prob(thresholds), np.array(mask, np.int64)).run(tensors(n, 3))
    assert answers.stage.tolist() == mask
    assert answers.prediction.tolist() == [int(logits[k][i].argmax()) for i, k in enumerate(mask)]
    assert answers.errors == {}


def test_one_stage_alone_answers_everything() -> None:
    logits = np.random.default_rng(0).standard_normal((11, 3)).astype(np.float32)
    answers = Engine(stages_of([logits], [4]), by_max_prob([])).run(tensors(11, 1))
    assert (answers.stage == 0).all()
    assert np.array_equal(answers.prediction, logits.argmax(1))
    assert answers.exit_ratio(1) == [1.0]


def test_no_samples_are_no_answers() -> None:
    answers, _ = run([np.zeros((0, 2), np.float32)] * 2, [4, 4], [0.0])
    assert len(answers.prediction) == 0
    assert answers.exit_ratio(2) == [0.0, 0.0]


def test_a_stage_that_loses_a_row_is_named() -> None:
    class Short(Lookup):
        def run(self, batch: np.ndarray) -> np.ndarray:
            return super().run(batch)[:-1]

    logits = np.zeros((8, 3), np.float32)
    stages = [EngineStage("saver", Lookup(logits), 4), EngineStage("base", Short(logits), 4)]
    with pytest.raises(
        ModelError, match=r"base: expected floating-point logits of shape \(4, C\).*found float32 \(3, 3\)"
    ):
        Engine(stages, by_max_prob([math.inf])).run(tensors(8, 2))
