"""The living engine: inputs that come one by one. Where order matters, models wait to be let go."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, wait
from itertools import chain
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotfish.cascade import InForce
from pilotfish.errors import DeadlineError, EngineClosed, QueueFull, UnreadableSample, UsageError
from pilotfish.models import Preprocessing
from pilotfish.runtime import Engine, EngineStage
from pilotfish.runtime.single import OneAnswer
from pilotfish.runtime.supply import DecodingSupply, TensorSupply
from support.engine import Lookup, Whole, by_max_prob, plain_cascade

TENSOR = Preprocessing(kind="tensor", size=None, resize=None, mean=(), std=())
N = 24
LOGITS = [np.random.default_rng(seed).standard_normal((N, 4)).astype(np.float32) * 3 for seed in (0, 1)]
EXITS = [i for i in range(N) if (p := plain_cascade(LOGITS, [1.0], i)) and p.stage == 0]
STAYS = [i for i in range(N) if i not in EXITS]
LONG = 60  # seconds: a test that waits for so long has failed


class Gate(Lookup):
    """Says that it has begun, and goes on when it is let go."""

    def __init__(self, logits: np.ndarray, is_open: bool = False) -> None:
        super().__init__(logits)
        self.begun, self.go = threading.Semaphore(0), threading.Event()
        if is_open:
            self.go.set()

    def run(self, batch: np.ndarray) -> np.ndarray:
        self.begun.release()
        assert self.go.wait(LONG)
        return super().run(batch)


def read(i: int) -> np.ndarray:
    if i < 0:
        raise UnreadableSample(f"{i} cannot be read")
    return np.array([i], np.float32)


def engine_of(saver: Whole, base: Whole, *, size: int = 4, lanes: int = 1, **options: Any) -> Engine:
    stages = [EngineStage("saver", saver, size, lanes), EngineStage("base", base, size, lanes)]
    supply = DecodingSupply(read, (), [TENSOR, TENSOR], 2)
    return Engine(stages, by_max_prob([1.0]), supply=supply, **options)


def expected(i: int) -> OneAnswer:
    plain = plain_cascade(LOGITS, [1.0], i)
    assert plain is not None
    return OneAnswer(plain.prediction, plain.confidence, plain.stage)


def answered(future: Future[OneAnswer], i: int) -> None:
    found = future.result(LONG)
    assert found[:1] + found[2:] == expected(i)[:1] + expected(i)[2:]
    assert found.confidence == pytest.approx(expected(i).confidence)


def test_a_lone_input_waits_for_nobody() -> None:
    with engine_of(Lookup(LOGITS[0]), Lookup(LOGITS[1]), size=64) as engine:
        for i in (EXITS[0], STAYS[0], EXITS[1]):
            answered(engine.submit(i), i)


@pytest.mark.parametrize("wait_ms", [1e9, [1e9, 0.0], [1e9, 1e9]])
def test_inputs_wait_for_company_as_long_as_they_are_told_to(wait_ms: Any) -> None:
    saver = Lookup(LOGITS[0])
    with engine_of(saver, Lookup(LOGITS[1]), max_wait_ms=wait_ms) as engine:
        futures = [engine.submit(i) for i in EXITS[:3]]
        assert not any(future.done() for future in futures)
        futures.append(engine.submit(EXITS[3]))  # now the batch is full
        for i, future in zip(EXITS, futures, strict=False):
            answered(future, i)
        assert [sorted(batch) for batch in saver.batches] == [EXITS[:4]]
        last = engine.submit(STAYS[0])
    answered(last, STAYS[0])  # the engine was closed in good order, and waited for no more company


def test_a_partial_batch_runs_when_its_oldest_has_waited() -> None:
    with engine_of(Lookup(LOGITS[0]), Lookup(LOGITS[1]), max_wait_ms=5) as engine:
        answered(engine.submit(STAYS[0]), STAYS[0])


@pytest.mark.parametrize("wait_ms", [-1, [0.0], [0.0, math.nan], [0, 0, 0]])
def test_waits_that_make_no_sense(wait_ms: Any) -> None:
    with pytest.raises(UsageError, match="max_wait_ms takes one number of 0 or more, or one for each of 2 stages"):
        engine_of(Lookup(LOGITS[0]), Lookup(LOGITS[1]), max_wait_ms=wait_ms)


def test_no_lane_idles_while_anything_is_queued() -> None:
    base = Gate(LOGITS[1])
    with engine_of(Lookup(LOGITS[0]), base, size=8, lanes=2) as engine:
        stuck = engine.submit(STAYS[0])
        assert base.begun.acquire(timeout=LONG)
        for i in EXITS[:3]:  # one by one through the other lane
            answered(engine.submit(i), i)
        other = engine.submit(STAYS[1])
        assert base.begun.acquire(timeout=LONG)  # the base runs it beside the first, and not after it
        base.go.set()
        answered(stuck, STAYS[0])
        answered(other, STAYS[1])


def test_an_exit_does_not_wait_for_its_batch_mates() -> None:
    base = Gate(LOGITS[1])
    mixed = [EXITS[0], STAYS[0], EXITS[1], STAYS[1]]
    with engine_of(Lookup(LOGITS[0]), base, max_wait_ms=[1e9, 0]) as engine:
        futures = [engine.submit(i) for i in mixed]
        answered(futures[0], EXITS[0])
        answered(futures[2], EXITS[1])
        assert not futures[1].done()
        assert not futures[3].done()
        base.go.set()


def test_full_batches_while_there_is_a_backlog() -> None:
    """With one lane busy, what comes meanwhile shares batches: the base's full ones first, partial ones last."""
    saver, base = Gate(LOGITS[0]), Lookup(LOGITS[1])
    inputs = np.arange(N, dtype=np.float32)[:, None]
    stages = [EngineStage("saver", saver, 4), EngineStage("base", base, 4)]
    with Engine(stages, by_max_prob([1.0]), supply=TensorSupply([inputs, inputs])) as engine:
        futures = {i: engine.submit(i) for i in STAYS[:1]}
        assert saver.begun.acquire(timeout=LONG)
        futures |= {i: engine.submit(i) for i in (*EXITS[:4], *STAYS[1:5])}
        saver.go.set()
        for i, future in futures.items():
            answered(future, i)
    assert [len(batch) for batch in saver.batches] == [1, 4, 4]
    assert [len(batch) for batch in base.batches] == [4, 1]


class Slow(Lookup):
    """A stage that takes its time."""

    def run(self, batch: np.ndarray) -> np.ndarray:
        time.sleep(0.005)
        return super().run(batch)


def test_exits_do_not_queue_behind_the_base() -> None:
    order: list[int] = []
    with engine_of(Lookup(LOGITS[0]), Slow(LOGITS[1]), size=1, queue=100) as engine:
        answered(engine.submit(STAYS[0]), STAYS[0])  # now it is known how long both take
        futures = [(i, engine.submit(i)) for i in [*STAYS[:10], *EXITS[:10]] * 2]
        for i, future in futures:
            future.add_done_callback(lambda _, i=i: order.append(i))  # type: ignore[misc]
        for i, future in futures:
            answered(future, i)
    assert sum(i in EXITS for i in order[:22]) == 20


def test_the_base_is_not_passed_over_for_ever() -> None:
    with engine_of(Lookup(LOGITS[0]), Slow(LOGITS[1]), size=1, queue=100) as engine:
        answered(engine.submit(STAYS[0]), STAYS[0])
        last, exits = engine.submit(STAYS[1]), deque(engine.submit(i) for i in EXITS[:8])
        while not last.done():  # the saver has always something to do
            exits.popleft().result(LONG)
            exits.append(engine.submit(EXITS[0]))
        answered(last, STAYS[1])


def test_time_runs_out_in_a_queue() -> None:
    saver = Gate(LOGITS[0])
    with engine_of(saver, Lookup(LOGITS[1])) as engine:
        first = engine.submit(EXITS[0])
        assert saver.begun.acquire(timeout=LONG)
        late = [engine.submit(i, deadline=deadline) for i, deadline in ((EXITS[1], 0.0), (EXITS[2], 0.01))]
        fine = engine.submit(EXITS[3], deadline=LONG)
        for future in late:  # while the only lane is still at work
            with pytest.raises(DeadlineError, match="no answer within the time"):
                future.result(LONG)
        saver.go.set()
        answered(first, EXITS[0])
        answered(fine, EXITS[3])
    assert not {EXITS[1], EXITS[2]} & set(chain.from_iterable(saver.batches))


def test_time_runs_out_between_two_stages() -> None:
    saver, base = Gate(LOGITS[0]), Lookup(LOGITS[1])
    with engine_of(saver, base) as engine:
        late, exits = (engine.submit(i, deadline=0.05) for i in (STAYS[0], EXITS[0]))
        assert saver.begun.acquire(timeout=LONG)
        time.sleep(0.06)
        saver.go.set()
        with pytest.raises(DeadlineError):
            late.result(LONG)
        assert wait([exits], LONG).done
    assert base.batches == []


def test_a_cancelled_input_is_in_no_further_batch() -> None:
    saver, base = Gate(LOGITS[0]), Gate(LOGITS[1])
    with engine_of(saver, base) as engine:
        running = engine.submit(STAYS[0])
        assert saver.begun.acquire(timeout=LONG)
        queued, other = engine.submit(STAYS[1]), engine.submit(EXITS[0])
        assert queued.cancel()
        saver.go.set()
        assert base.begun.acquire(timeout=LONG)
        assert running.cancel()  # it is being computed, and nobody will be told
        base.go.set()
        answered(other, EXITS[0])
    for future in (queued, running):
        with pytest.raises(CancelledError):
            future.result(LONG)
    assert wait([queued, running], LONG).not_done == set()
    assert STAYS[1] not in chain.from_iterable(saver.batches)


def test_a_full_queue_says_so() -> None:
    saver = Gate(LOGITS[0])
    with engine_of(saver, Lookup(LOGITS[1]), queue=3) as engine:
        futures = [engine.submit(i) for i in EXITS[:3]]
        with pytest.raises(QueueFull, match="the queue is full: 3 inputs are under way"):
            engine.submit(EXITS[3])
        assert futures[2].cancel()
        futures[2] = engine.submit(EXITS[2])  # there is room again
        saver.go.set()
        for i, future in zip(EXITS, futures, strict=False):
            answered(future, i)
        answered(engine.submit(EXITS[3]), EXITS[3])


@pytest.mark.parametrize("drain", [True, False])
def test_closing(drain: bool) -> None:
    saver = Gate(LOGITS[0])
    engine = engine_of(saver, Lookup(LOGITS[1]), size=1)
    futures = [engine.submit(STAYS[0])]
    assert saver.begun.acquire(timeout=LONG)
    futures += [engine.submit(i) for i in EXITS[:2]]
    closing = threading.Thread(target=engine.close, args=(drain,))
    closing.start()
    end = time.monotonic() + LONG
    while not engine._lanes.draining:
        assert time.monotonic() < end
        time.sleep(0.001)
    with pytest.raises(EngineClosed, match="takes no more inputs"):
        engine.submit(EXITS[2])
    if not drain:
        with pytest.raises(EngineClosed, match="before this input was answered"):
            futures[1].result(LONG)
    saver.go.set()
    closing.join(LONG)
    assert not closing.is_alive()
    assert not any(thread.is_alive() for thread in engine._lanes.threads)
    for i, future in zip((STAYS[0], EXITS[0], EXITS[1]), futures, strict=False):
        if drain:
            answered(future, i)
        else:
            with pytest.raises(EngineClosed):
                future.result(LONG)
    engine.close()  # once more does no harm


def test_closing_waits_no_longer_than_it_is_told_to() -> None:
    saver = Gate(LOGITS[0])
    engine = engine_of(saver, Lookup(LOGITS[1]), size=1)
    engine.submit(EXITS[0])
    assert saver.begun.acquire(timeout=LONG)
    futures = [engine.submit(i) for i in EXITS[:2]]
    threading.Timer(0.2, saver.go.set).start()
    engine.close(timeout=0.01)
    with pytest.raises(EngineClosed):
        futures[1].result(LONG)


def test_an_engine_that_nobody_holds_ends_its_threads() -> None:
    engine = engine_of(Lookup(LOGITS[0]), Lookup(LOGITS[1]))
    answered(engine.submit(0), 0)
    threads = list(engine._lanes.threads)
    assert threads
    del engine
    for thread in threads:
        thread.join(LONG)
        assert not thread.is_alive()


def test_an_input_keeps_the_operating_point_that_it_began_with() -> None:
    saver = Gate(LOGITS[0])
    points: dict[float, InForce] = {t: by_max_prob([t]) for t in (-math.inf, math.inf)}
    with engine_of(saver, Lookup(LOGITS[1])) as engine:
        engine.in_force = points[-math.inf]
        before = [engine.submit(i) for i in range(3)]
        assert saver.begun.acquire(timeout=LONG)
        engine.in_force = points[math.inf]
        after = [engine.submit(i) for i in range(3)]
        own = engine.submit(3, in_force=points[-math.inf])
        saver.go.set()
        assert [future.result(LONG).stage for future in before] == [0, 0, 0]
        assert [future.result(LONG).stage for future in after] == [1, 1, 1]
        assert own.result(LONG).stage == 0


@pytest.mark.parametrize("error", [ValueError, KeyError, MemoryError])
def test_what_fails_fails_alone(error: type[Exception]) -> None:
    from pilotfish.models.model import model_errors

    class Touchy(Lookup):
        def run(self, batch: np.ndarray) -> np.ndarray:
            with model_errors("the base", batch):
                if STAYS[1] in batch[:, 0]:
                    raise error("bad luck")
                return super().run(batch)

    with engine_of(Lookup(LOGITS[0]), Touchy(LOGITS[1]), max_wait_ms=[1e9, 1e9]) as engine:
        futures = {i: engine.submit(i) for i in (-1, *STAYS[:4], *EXITS[:3])}
    unread = futures[-1].result(LONG)
    assert "-1 cannot be read" in str(unread.error)
    assert type(unread.prediction) is int  # as that of an answer: documents take no numpy scalars
    for i in (*STAYS[:4], *EXITS[:3]):
        if i == STAYS[1]:
            assert "bad luck" in str(futures[i].result(LONG).error)
        elif error is not MemoryError or i in EXITS:
            answered(futures[i], i)


def test_a_callback_may_submit() -> None:
    with engine_of(Lookup(LOGITS[0]), Lookup(LOGITS[1])) as engine:
        second: list[Future[OneAnswer]] = []
        done = threading.Event()

        def then(_: Future[OneAnswer]) -> None:
            second.append(engine.submit(STAYS[0]))
            done.set()

        engine.submit(EXITS[0]).add_done_callback(then)
        assert done.wait(LONG)
        answered(second[0], STAYS[0])


def test_a_paced_stream_is_answered_input_by_input() -> None:
    """The next input comes when the last was answered: whoever waits for a full batch waits for ever."""
    told: list[int] = []
    more = threading.Semaphore(1)

    def inputs() -> Iterator[int]:
        for i in range(10):
            assert more.acquire(timeout=LONG)
            yield i

    stages = [EngineStage("saver", Lookup(LOGITS[0]), 8, 2), EngineStage("base", Lookup(LOGITS[1]), 8, 2)]
    with Engine(stages, by_max_prob([1.0])) as engine:
        for part in engine.stream(DecodingSupply(read, inputs(), [TENSOR, TENSOR], 2)):
            told += part.prediction.tolist()
            more.release(len(part))
    assert told == [expected(i).prediction for i in range(10)]


def test_a_stream_that_is_left_and_one_that_fails_end() -> None:
    def inputs() -> Iterator[int]:
        yield from range(N)
        raise ConnectionError("the camera is gone")

    with engine_of(Lookup(LOGITS[0]), Lookup(LOGITS[1])) as engine:
        supply = DecodingSupply(read, inputs(), [TENSOR, TENSOR], 2)
        next(iter(engine.stream(supply)))  # and no more
        with pytest.raises(ConnectionError, match="the camera is gone"):
            list(engine.stream(DecodingSupply(read, inputs(), [TENSOR, TENSOR], 2)))
        answered(engine.submit(0), 0)  # it lives on
        assert engine._lanes.runs == []


def test_inputs_that_come_one_by_one_have_every_core() -> None:
    """The first one may have company behind it; whatever has some goes through the lanes."""
    lane, alone, base = Gate(LOGITS[0], is_open=True), Lookup(LOGITS[0]), Lookup(LOGITS[1])
    stages = [EngineStage("saver", lane, 4, alone=alone), EngineStage("base", base, 4)]
    inputs = np.arange(N, dtype=np.float32)[:, None]
    with Engine(stages, by_max_prob([1.0]), supply=TensorSupply([inputs, inputs])) as engine:
        for i in EXITS[:3]:
            answered(engine.submit(i), i)
        assert (lane.batches, alone.batches) == ([EXITS[:1]], [[EXITS[1]], [EXITS[2]]])
        engine.run(TensorSupply([inputs, inputs]))
        assert alone.batches == [[EXITS[1]], [EXITS[2]]]


@pytest.mark.parametrize("lanes", [1, 2, 3])
def test_what_shares_a_batch_depends_on_the_inputs_alone(lanes: int) -> None:
    """Of a known number of inputs, however long anything takes: a dynamically quantised model answers by the batch."""
    chance = np.random.default_rng(0)

    class Uneven(Lookup):
        def run(self, batch: np.ndarray) -> np.ndarray:
            time.sleep(chance.random() * 0.002)
            return super().run(batch)

    def slow(i: int) -> np.ndarray:
        time.sleep(chance.random() * 0.001)
        return read(i)

    found = []
    for _ in range(3):
        models = [Uneven(np.tile(z, (3, 1))) for z in LOGITS]
        stages = [EngineStage("saver", models[0], 4, lanes), EngineStage("base", models[1], 3, lanes)]
        Engine(stages, by_max_prob([1.0])).run(DecodingSupply(slow, 3 * N - 1, [TENSOR, TENSOR], 3))
        found.append([sorted(model.batches) for model in models])
    assert found[0] == found[1] == found[2]
    assert max(map(len, found[0][1])) == 3


class Trunk:
    """A network with two exits: the features are the inputs, and a later exit takes nothing else."""

    name = "trunk"

    def __init__(self, logits: np.ndarray) -> None:
        self.logits = logits

    def step(self, inputs: np.ndarray | None, carry: Any = None) -> tuple[np.ndarray, Any]:
        rows = inputs if inputs is not None else carry[0]
        return self.logits[rows[:, 0].astype(int)], (rows,)


ACTIONS = st.one_of(
    st.tuples(st.just("submit"), st.integers(-2, N - 1), st.sampled_from([None, None, None, 0.0, 0.001, LONG])),
    st.tuples(st.just("cancel"), st.integers(0, 40)),
    st.tuples(st.just("rest"), st.floats(0, 0.002)),
    st.tuples(st.just("run"), st.integers(0, 9)),
)


@settings(max_examples=60, deadline=None)
@given(
    actions=st.lists(ACTIONS, max_size=40),
    size=st.integers(1, 5),
    lanes=st.integers(1, 2),
    queue=st.integers(1, 30),
    wait_ms=st.sampled_from([0.0, 0.5, [0.0, 2.0]]),
    shares=st.booleans(),
    drain=st.booleans(),
)
def test_every_future_is_answered_once_whatever_happens(
    actions: list[Any], size: int, lanes: int, queue: int, wait_ms: Any, shares: bool, drain: bool
) -> None:
    told: dict[Future[OneAnswer], int] = {}
    keys: dict[Future[OneAnswer], int] = {}
    cancelled: set[Future[OneAnswer]] = set()
    models: list[Any] = [Trunk(z) if shares else Lookup(z) for z in LOGITS]
    stages = [EngineStage(f"s{k}", m, size, lanes, shares=shares and k > 0) for k, m in enumerate(models)]
    supply = DecodingSupply(read, (), [TENSOR, TENSOR], 2)
    engine = Engine(stages, by_max_prob([1.0]), supply=supply, max_wait_ms=wait_ms, queue=queue)

    def tell(future: Future[OneAnswer]) -> None:
        told[future] = told.get(future, 0) + 1

    for action, *arguments in actions:
        if action == "submit":
            try:
                future = engine.submit(arguments[0], deadline=arguments[1])
            except QueueFull:
                continue
            keys[future] = arguments[0]
            future.add_done_callback(tell)
        elif action == "cancel" and len(keys) > arguments[0]:
            future = list(keys)[arguments[0]]
            if future.cancel():
                cancelled.add(future)
        elif action == "rest":
            time.sleep(arguments[0])
        elif action == "run":
            inputs = np.arange(arguments[0], dtype=np.float32)[:, None]
            found = engine.run(TensorSupply([inputs, inputs]))
            assert found.prediction.tolist() == [expected(i).prediction for i in range(arguments[0])]
    engine.close(drain)
    assert wait(keys, LONG).not_done == set()
    assert all(told[future] == 1 for future in keys)
    assert engine._futures is not None
    assert engine._futures.under_way == 0
    for future, key in keys.items():
        if future in cancelled:
            assert future.cancelled()
        elif (error := future.exception()) is not None:
            assert isinstance(error, DeadlineError) or (isinstance(error, EngineClosed) and not drain)
        elif key < 0:
            assert "cannot be read" in str(future.result().error)
        else:
            answered(future, key)
