"""Decoding in threads: order, one bad sample alone, and nothing held that nobody needs."""

from __future__ import annotations

import math
import random
import threading
import time

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotfish.errors import UnreadableSample
from pilotfish.models import Preprocessing
from pilotfish.runtime import Answers, Engine, EngineStage
from pilotfish.runtime.supply import DecodingSupply
from support.engine import Lookup, by_max_prob, plain_cascade, stages_of

TENSOR = Preprocessing(kind="tensor", size=None, resize=None, mean=(), std=())


def number(i: int) -> np.ndarray:
    return np.array([i], np.float32)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(0, 30),
    k=st.sampled_from([1, 2, 3]),
    sizes=st.lists(st.integers(1, 7), min_size=3, max_size=3),
    bad=st.sets(st.integers(0, 29)),
    late=st.sets(st.integers(0, 29)),
    threshold=st.sampled_from([-math.inf, 0.5, 1.5, math.inf]),
    workers=st.integers(1, 4),
)
def test_a_bad_sample_fails_alone(
    n: int, k: int, sizes: list[int], bad: set[int], late: set[int], threshold: float, workers: int
) -> None:
    """*bad* samples cannot be read; the tensors of *late* ones cannot be made for the second stage."""
    logits = [np.random.default_rng(j).standard_normal((max(n, 1), 3)).astype(np.float32) * 2 for j in range(k)]

    def read(i: int) -> np.ndarray:
        if i in bad:
            raise UnreadableSample(f"{i} is bad")
        return number(i)

    def second(sample: np.ndarray) -> np.ndarray:
        if int(sample[0]) in late:
            raise UnreadableSample(f"{int(sample[0])} is late")
        return sample

    chains = [TENSOR, second, TENSOR][:k]
    supply = DecodingSupply(read, n, chains, workers)  # type: ignore[arg-type]
    answers = Engine(stages_of(logits, sizes[:k]), by_max_prob([threshold] * (k - 1))).run(supply)
    for i in range(n):
        expected = plain_cascade(logits, [threshold] * (k - 1), i)
        assert expected is not None
        if i in bad:
            assert answers.errors[i] == f"{i} is bad"
        elif i in late and expected.stage > 0:
            assert answers.errors[i] == f"{i} is late"
        else:
            assert i not in answers.errors
            assert (answers.prediction[i], answers.stage[i]) == (expected.prediction, expected.stage)


def test_answers_keep_their_place_however_long_samples_take() -> None:
    chance, n = random.Random(0), 64

    def read(i: int) -> np.ndarray:
        time.sleep(chance.random() * 0.003)
        return number(i)

    logits = [np.eye(n, dtype=np.float32) * scale for scale in (9.0, 8.0)]
    forced = np.arange(n) % 2
    supply = DecodingSupply(read, n, [TENSOR, TENSOR], 8)
    answers = Engine(stages_of(logits, [5, 3]), by_max_prob([0.0]), forced).run(supply)
    assert answers.prediction.tolist() == list(range(n))
    assert np.array_equal(answers.stage, forced)


def test_reading_runs_only_a_little_ahead() -> None:
    """A million inputs do not become a million decoded images."""
    begun, most = 0, 0
    lock, done = threading.Lock(), []

    def read(i: int) -> np.ndarray:
        nonlocal begun
        with lock:
            begun += 1
        return number(i)

    class Slow(Lookup):
        def run(self, batch: np.ndarray) -> np.ndarray:
            nonlocal most
            time.sleep(0.001)
            most = max(most, begun - len(done))
            done.extend(batch[:, 0].tolist())
            return super().run(batch)

    n, size = 400, 4
    stages = stages_of([np.zeros((n, 2), np.float32)], [size])
    stages = [type(stages[0])("slow", Slow(np.zeros((n, 2), np.float32)), size)]
    supply = DecodingSupply(read, n, [TENSOR], 4)
    answers: Answers = Engine(stages, by_max_prob([])).run(supply)
    assert len(done) == n == (answers.stage == 0).sum()
    assert most <= 6 * size


def test_inputs_of_different_shapes_are_batched_with_their_like() -> None:
    shapes: list[tuple[int, ...]] = []

    class Sizes(Lookup):
        def run(self, batch: np.ndarray) -> np.ndarray:
            shapes.append(batch.shape)
            return super().run(batch)

    n = 12
    stage = EngineStage("sizes", Sizes(np.eye(n, dtype=np.float32)), 6)
    supply = DecodingSupply(lambda i: np.full(1 + i % 2, i), n, [TENSOR], 2)
    answers = Engine([stage], by_max_prob([])).run(supply)
    assert answers.prediction.tolist() == list(range(n))
    assert sorted(shapes) == [(3, 1), (3, 1), (3, 2), (3, 2)]
