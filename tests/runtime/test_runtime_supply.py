"""Decoding in threads: order, one bad sample alone, and nothing held that nobody needs."""

from __future__ import annotations

import dataclasses
import math
import random
import threading
import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotfish.errors import UnreadableSample
from pilotfish.models import Preprocessing
from pilotfish.runtime import Answers, Engine, EngineStage
from pilotfish.runtime.single import answer_one, prepared
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


class Scribbles(Lookup):
    """Writes into its inputs, as a callable of the user's may."""

    def run(self, batch: np.ndarray) -> np.ndarray:
        found = super().run(batch)
        batch[...] = -1
        return found


HALF, OTHER = (dataclasses.replace(TENSOR, **changed) for changed in ({"dtype": "bfloat16"}, {"decoder": "turbojpeg"}))
INT8 = dataclasses.replace(TENSOR, dtype="int8", backend="openvino")


@pytest.mark.parametrize(
    ("chains", "made"),
    [
        ([INT8, TENSOR], [0]),
        ([HALF, INT8, TENSOR], [0]),
        ([OTHER, INT8, TENSOR], [0, 1]),
        ([INT8, TENSOR, OTHER], [0, 2]),
        ([TENSOR, OTHER, INT8], [0, 1, 2]),
    ],
)
@pytest.mark.parametrize("size", [1, 3])
def test_stages_that_differ_in_precision_alone_share_their_inputs(
    chains: list[Preprocessing], made: list[int], size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    n, k = 24, len(chains)
    logits = [np.eye(n, dtype=np.float32) * (9 - j) for j in range(k)]
    forced = np.arange(n) % k
    calls: list[Preprocessing] = []
    plain = Preprocessing.__call__
    monkeypatch.setattr(Preprocessing, "__call__", lambda self, x: (calls.append(self), plain(self, x).copy())[1])
    stages = [EngineStage(str(j), Scribbles(logits[j]), size) for j in range(k)]
    supply = DecodingSupply(number, n, chains, 2)
    answers = Engine(stages, by_max_prob([0.0] * (k - 1)), forced).run(supply)
    assert answers.errors == {}
    assert answers.prediction.tolist() == list(range(n))
    assert np.array_equal(answers.stage, forced)
    assert Counter(calls) == Counter(chains[j] for j in made for _ in range(int((forced >= j).sum())))
    calls.clear()
    in_force = by_max_prob([0.0] * (k - 1))
    for i in range(n):
        answer = answer_one(stages, in_force, prepared(lambda i=i: number(i), chains), int(forced[i]))  # type: ignore[misc]
        assert (answer.prediction, answer.stage) == (i, forced[i])
    assert Counter(calls) == Counter(chains[j] for j in made for _ in range(int((forced >= j).sum())))
