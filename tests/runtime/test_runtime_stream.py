"""Streams of any length: constant memory, exact order and identity, and the answers of the plain definition."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pilotfish.models import Preprocessing
from pilotfish.records import from_logits
from pilotfish.runtime import Answers, Cascade, Engine, EngineStage
from pilotfish.runtime.supply import DecodingSupply
from pilotfish.scores import score
from support.engine import Whole, by_max_prob

if TYPE_CHECKING:
    from conftest import Pair

TENSOR = Preprocessing(kind="tensor", size=None, resize=None, mean=(), std=())
MANY = 30_000
BAND = 5e-4  # of a probability: how far a decision may move with the batch size
W = [np.random.default_rng(seed).standard_normal((16, 5)).astype(np.float32) for seed in (0, 1)]


class Linear(Whole):
    """A matrix product, whose last bits depend on the batch size as those of real models do."""

    name = "linear"

    def __init__(self, weights: np.ndarray) -> None:
        self.weights = weights

    def run(self, batch: np.ndarray) -> np.ndarray:
        found: np.ndarray = batch @ self.weights
        return found


def sample(i: int) -> np.ndarray:
    found: np.ndarray = np.random.default_rng(i).standard_normal(16, dtype=np.float32)
    return found


def test_many_inputs() -> None:
    held: list[int] = []

    def items() -> Iterator[int]:
        for i in range(MANY):
            if i in (MANY // 5, MANY - 1):
                held.append(tracemalloc.get_traced_memory()[0])
            yield i

    stages = [EngineStage("saver", Linear(W[0]), 64, lanes=2), EngineStage("base", Linear(W[1]), 24)]
    threshold = 1.0
    engine = Engine(stages, by_max_prob([threshold]))
    supply = DecodingSupply(sample, items(), [TENSOR, TENSOR], workers=2)
    prediction, stage = np.empty(MANY, np.int64), np.empty(MANY, np.int64)
    tracemalloc.start()
    done = 0
    for part in engine.stream(supply):
        assert not part.errors
        prediction[done : done + len(part)], stage[done : done + len(part)] = part.prediction, part.stage
        done += len(part)
    tracemalloc.stop()
    assert done == MANY
    assert held[1] < held[0] + 2**19  # half a megabyte of slack: the inputs alone would take three times that

    x = np.stack([sample(i) for i in range(MANY)])
    outputs = [from_logits(x @ w) for w in W]
    log_odds = score("max_prob", outputs[0]).values
    exits = log_odds >= threshold
    plain = np.where(exits, outputs[0].prediction, outputs[1].prediction)
    flipped = np.flatnonzero(stage != np.where(exits, 0, 1))
    p = 1 / (1 + np.exp(-log_odds[flipped]))
    assert (np.abs(p - 1 / (1 + np.exp(-threshold))) <= BAND).all()
    assert len(flipped) < 10
    same = np.setdiff1d(np.arange(MANY), flipped)
    closest = [np.sort(x @ w, axis=1) for w in W]
    lead = np.where(exits, *[top[:, -1] - top[:, -2] for top in closest])
    assert (prediction[same] == plain[same])[lead[same] > 1e-5].all()
    assert 0.2 < exits.mean() < 0.95  # both stages were at work


def test_a_window_that_is_full_waits_for_nobody() -> None:
    """One survivor among many exits: it may not hold the stream back until a batch of its like has come together."""
    logits = np.tile(np.array([9.0, 0, 0, 0, 0], np.float32), (5000, 1))
    logits[3] = 0

    class Look(Whole):
        name = "look"

        def run(self, batch: np.ndarray) -> np.ndarray:
            found: np.ndarray = logits[batch[:, 0].astype(int)]
            return found

    stages = [EngineStage("saver", Look(), 8), EngineStage("base", Look(), 64)]
    engine = Engine(stages, by_max_prob([1.0]), window=128)
    supply = DecodingSupply(lambda i: np.array([i], np.float32), 5000, [TENSOR, TENSOR], workers=1)
    found = Answers.join(list(engine.stream(supply)))
    assert np.flatnonzero(found.stage).tolist() == [3]
    assert len(found) == 5000


def test_stream_takes_paths_bytes_images_and_arrays(pair: Pair, photos: list[Path]) -> None:
    from PIL import Image

    cascade = Cascade.load(pair.cascade, allow_python=pair.allowed)
    expected = cascade.predict(pair.images[:4])
    mixed: list[Any] = [photos[0], photos[1].read_bytes(), Image.open(photos[2]), pair.images[3], 5, b"no image"]
    found = list(cascade.stream(iter(mixed)))
    assert [a.input for a in found] == [str(photos[0]), "1", "2", "3", "4", "5"]
    assert [(a.prediction, a.stage) for a in found[:4]] == [(a.prediction, a.stage) for a in expected]
    assert found[4].error == "expected a path, bytes, an image or an array, found int"
    assert "not an image of an allowed format" in str(found[5].error)


def test_stream_answers_before_the_inputs_end(pair: Pair) -> None:
    cascade = Cascade.load(pair.cascade, allow_python=pair.allowed)
    endless = (pair.images[i % 100] for i in itertools.count())
    first = list(itertools.islice(cascade.stream(endless), 50))
    expected = cascade.predict(pair.images[:50])
    assert [(a.prediction, a.stage) for a in first] == [(a.prediction, a.stage) for a in expected]


@pytest.mark.parametrize("n", [0, 1])
def test_streams_of_nearly_nothing(n: int, pair: Pair) -> None:
    cascade = Cascade.load(pair.cascade, allow_python=pair.allowed)
    assert len(list(cascade.stream(pair.images[i] for i in range(n)))) == n


def test_one_input_has_the_answer_it_has_among_others(pair: Pair, photos: list[Path]) -> None:
    cascade = Cascade.load(pair.cascade, allow_python=pair.allowed)
    together = cascade.predict(photos)
    for one, photo in zip(together, photos, strict=True):
        (alone,) = cascade.predict([photo])
        assert (alone.prediction, alone.stage, alone.error) == (one.prediction, one.stage, None)
        assert alone.confidence == pytest.approx(one.confidence, abs=1e-6)
    (broken,) = cascade.predict([photos[0].parent / "none.png"])
    assert "there is no such file" in str(broken.error)
