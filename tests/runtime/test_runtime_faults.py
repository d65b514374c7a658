"""What goes wrong in the middle of a run costs the samples that caused it, and nobody else's answer."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.errors import EngineClosed, ModelError, ModelMemoryError, UnreadableSample
from pilotfish.models import Preprocessing
from pilotfish.models.model import model_errors
from pilotfish.runtime import Answers, Engine, EngineStage
from pilotfish.runtime.lanes import Lanes
from pilotfish.runtime.supply import DecodingSupply, TensorSupply
from support.engine import Lookup, by_max_prob, plain_cascade, stages_of

TENSOR = Preprocessing(kind="tensor", size=None, resize=None, mean=(), std=())
N = 40
LOGITS = [np.random.default_rng(seed).standard_normal((N, 4)).astype(np.float32) * 3 for seed in (0, 1)]


class Touchy(Lookup):
    """Raises whatever *error* makes on a batch that holds one of *bad*."""

    def __init__(self, logits: np.ndarray, bad: set[int], error: Callable[[], Exception]) -> None:
        super().__init__(logits)
        self.bad, self.error = bad, error

    def run(self, batch: np.ndarray) -> np.ndarray:
        with model_errors("the model", batch):
            rows = batch.reshape(len(batch), -1)[:, 0].astype(int)
            if self.bad & set(rows.tolist()):
                raise self.error()
            return super().run(batch)


class Small(Lookup):
    """Has memory for *most* samples at a time."""

    def __init__(self, logits: np.ndarray, most: int) -> None:
        super().__init__(logits)
        self.most = most

    def run(self, batch: np.ndarray) -> np.ndarray:
        with model_errors("the device", batch):
            if len(batch) > self.most:
                raise RuntimeError(f"CUDA out of memory. Tried to allocate {len(batch)} GiB")
            return super().run(batch)


def numbers(n: int) -> TensorSupply:
    rows = np.arange(n, dtype=np.float32)[:, None]
    return TensorSupply([rows, rows])


def check(answers: Answers, failed: dict[int, str], n: int = N, threshold: float = 1.0) -> None:
    """Every sample has the plain cascade's answer, or the error expected of it."""
    for i in range(n):
        if i in failed:
            assert failed[i] in answers.errors[i]
            assert (answers.prediction[i], answers.stage[i]) == (-1, -1)
        else:
            expected = plain_cascade(LOGITS, [threshold], i)
            assert expected is not None
            assert (answers.prediction[i], answers.stage[i]) == (expected.prediction, expected.stage)
    assert set(answers.errors) == set(failed)


@given(
    bad=st.sets(st.integers(1, N - 1), max_size=6),
    late=st.sets(st.integers(1, N - 1), max_size=6),
    sizes=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    lanes=st.integers(1, 3),
    kind=st.sampled_from([ValueError, KeyError, RuntimeError, ZeroDivisionError]),
)
def test_one_sample_that_a_model_fails_on_fails_alone(
    bad: set[int], late: set[int], sizes: tuple[int, int], lanes: int, kind: type[Exception]
) -> None:
    survivors = [i for i in range(N) if (p := plain_cascade(LOGITS, [1.0], i)) and p.stage == 1 and i not in bad]
    late &= set(survivors[1:])  # the stage has worked before it fails
    models = [Touchy(LOGITS[0], bad, lambda: kind("bad luck")), Touchy(LOGITS[1], late, lambda: kind("bad luck"))]
    stages = [EngineStage(f"s{k}", m, size, lanes) for k, (m, size) in enumerate(zip(models, sizes, strict=True))]
    first_batches_fail = not any(set(range(i, min(i + sizes[0], N))) - bad for i in range(0, N, sizes[0]))
    if first_batches_fail:
        return
    answers = Engine(stages, by_max_prob([1.0])).run(numbers(N))
    check(answers, dict.fromkeys(bad | late, "bad luck"))


def test_a_sample_fails_alone_while_the_first_batch_is_still_computed() -> None:
    later = threading.Event()

    class Slow(Touchy):
        def run(self, batch: np.ndarray) -> np.ndarray:
            if 0 in batch[:, 0]:
                assert later.wait(30)
            if 9 in batch[:, 0]:  # sample 1 has failed long ago
                later.set()
            return super().run(batch)

    slow = Slow(LOGITS[0], {1}, lambda: ValueError("bad luck"))
    stages = [EngineStage("saver", slow, 1, 2), EngineStage("base", Lookup(LOGITS[1]), 1, 2)]
    check(Engine(stages, by_max_prob([-math.inf])).run(numbers(N)), {1: "bad luck"}, threshold=-math.inf)


def test_a_stage_that_never_works_ends_the_run() -> None:
    broken = EngineStage("base", Touchy(LOGITS[1], set(range(N)), lambda: ValueError("no such kernel")), 4)
    with pytest.raises(ModelError, match=r"the model failed on a batch of shape .*ValueError: no such kernel"):
        Engine([stages_of(LOGITS, [4, 4])[0], broken], by_max_prob([math.inf])).run(numbers(N))


def test_rows_that_a_model_loses_now_and_then_cost_their_batch() -> None:
    class Forgetful(Lookup):
        def run(self, batch: np.ndarray) -> np.ndarray:
            rows = batch[:, 0].astype(int)
            found = super().run(batch)
            return found[:-1] if 17 in rows and len(rows) > 1 else found

    stages = [EngineStage("saver", Forgetful(LOGITS[0]), 8), EngineStage("base", Lookup(LOGITS[1]), 8)]
    check(Engine(stages, by_max_prob([1.0])).run(numbers(N)), {})  # halved until the model keeps every row


@pytest.mark.parametrize("most", [4, 7])
def test_a_batch_without_memory_is_halved_and_stays_halved(most: int) -> None:
    model = Small(LOGITS[0], most)
    stages = [EngineStage("saver", model, 8), EngineStage("base", Lookup(LOGITS[1]), 8)]
    check(Engine(stages, by_max_prob([1.0])).run(numbers(N)), {})
    assert max(map(len, model.batches)) == 4
    assert sum(len(batch) == 4 for batch in model.batches) == N // 4


def test_a_half_without_memory_is_shed() -> None:
    class Shrinking(Small):
        """Somebody else takes the memory after the second batch."""

        def run(self, batch: np.ndarray) -> np.ndarray:
            self.most = 8 if len(self.batches) < 2 else 1
            return super().run(batch)

    model = Shrinking(LOGITS[0], 8)
    stages = [EngineStage("saver", model, 8), EngineStage("base", Lookup(LOGITS[1]), 8)]
    answers = Engine(stages, by_max_prob([1.0])).run(numbers(N))
    check(answers, dict.fromkeys(range(16, 28), "out of memory"))  # from then on a batch is small enough


def test_memory_that_is_out_for_good_ends_the_run() -> None:
    with pytest.raises(ModelMemoryError, match="out of memory"):
        Engine([EngineStage("base", Small(LOGITS[1], 0), 8)], by_max_prob([])).run(numbers(N))


@pytest.mark.parametrize("threshold", [-math.inf, math.inf])
def test_numbers_that_are_none_and_denormals(threshold: float) -> None:
    samples: dict[int, np.ndarray] = {
        3: np.array([np.nan], np.float32),
        7: np.array([np.inf]),
        11: np.array([-np.inf]),
        13: np.array([1e300]),
        17: np.array(["text"]),
    }
    tiny = np.finfo(np.float32).smallest_subnormal  # a denormal is a number like any other

    def read(i: int) -> np.ndarray:
        return samples.get(i, np.array([i, tiny], np.float32))

    supply = DecodingSupply(read, N, [TENSOR, TENSOR], workers=2)
    answers = Engine(stages_of(LOGITS, [5, 3]), by_max_prob([threshold])).run(supply)
    expected = dict.fromkeys((3, 7, 11, 13), "NaN or infinities")
    check(answers, {**expected, 17: "cannot be a model's input"}, threshold=threshold)


def test_whatever_reading_raises_the_run_goes_on() -> None:
    raised: dict[int, Exception] = {
        2: UnreadableSample("2 is cut short"),
        9: OSError(5, "Input/output error"),
        10: MemoryError(),
        20: AssertionError("hook"),
        39: RecursionError("deep"),
    }

    def read(i: int) -> np.ndarray:
        if i in raised:
            raise raised[i]
        return np.array([i], np.float32)

    supply = DecodingSupply(read, N, [TENSOR, TENSOR], workers=3)
    answers = Engine(stages_of(LOGITS, [4, 4]), by_max_prob([1.0])).run(supply)
    check(answers, {2: "2 is cut short", 9: "Input/output", 10: "not enough memory", 20: "hook", 39: "deep"})


def test_what_an_iterable_raises_reaches_the_caller() -> None:
    def items() -> object:
        yield from range(5)
        raise ConnectionError("the camera is gone")

    supply = DecodingSupply(lambda i: np.array([i], np.float32), items(), [TENSOR, TENSOR], workers=2)  # type: ignore[arg-type]
    with pytest.raises(ConnectionError, match="the camera is gone"):
        Engine(stages_of(LOGITS, [4, 4]), by_max_prob([1.0])).run(supply)


def test_a_fault_of_the_engine_itself_ends_it_and_reaches_whoever_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise AssertionError("a fault of ours")

    monkeypatch.setattr(Lanes, "_commit", broken)
    engine = Engine(stages_of(LOGITS, [4, 4]), by_max_prob([1.0]), supply=numbers(N))
    futures = [engine.submit(0)]
    with contextlib.suppress(EngineClosed):
        futures += [engine.submit(i) for i in range(1, 8)]
    for future in futures:
        with pytest.raises((AssertionError, EngineClosed)):
            future.result(timeout=30)
    with pytest.raises(EngineClosed):
        engine.submit(9)
    with pytest.raises(AssertionError, match="a fault of ours"):
        Engine(stages_of(LOGITS, [4, 4]), by_max_prob([1.0])).run(numbers(N))
