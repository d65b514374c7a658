"""What could stop, fill or confuse a living engine: callbacks, streams side by side, code that raises, forks, exits."""

from __future__ import annotations

import gc
import itertools
import logging
import math
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pilotfish.errors import DeadlineError, EngineClosed, ModelError, UsageError
from pilotfish.models import Preprocessing
from pilotfish.runtime import Engine, EngineStage
from pilotfish.runtime.lanes import STALE
from pilotfish.runtime.supply import DecodingSupply, TensorSupply
from support.engine import Lookup, Whole, by_max_prob, plain_cascade

TENSOR = Preprocessing(kind="tensor", size=None, resize=None, mean=(), std=())
N = 24
LOGITS = [np.random.default_rng(seed).standard_normal((N, 4)).astype(np.float32) * 3 for seed in (0, 1)]
EXPECTED = [plain.prediction for i in range(N) if (plain := plain_cascade(LOGITS, [1.0], i))]
STAYS = [i for i in range(N) if (plain := plain_cascade(LOGITS, [1.0], i)) and plain.stage == 1]
EXITS = [i for i in range(N) if i not in STAYS]
LONG = 30  # seconds: a test that waits for so long has failed


def read(i: Any) -> np.ndarray:
    return np.array([i], np.float32)


class Held(Lookup):
    """Waits in every batch until it is let go."""

    def __init__(self, logits: np.ndarray) -> None:
        super().__init__(logits)
        self.begun, self.go = threading.Semaphore(0), threading.Event()

    def run(self, batch: np.ndarray) -> np.ndarray:
        self.begun.release()
        assert self.go.wait(LONG)
        return super().run(batch)


def engine_of(
    saver: Whole | None = None, base: Whole | None = None, *, size: int = 4, lanes: int = 1, **options: Any
) -> Engine:
    stages = [
        EngineStage("saver", saver or Lookup(LOGITS[0]), size, lanes),
        EngineStage("base", base or Lookup(LOGITS[1]), size, lanes),
    ]
    return Engine(stages, by_max_prob([1.0]), **{"supply": stream_of(()), **options})


def stream_of(items: Any, reader: Callable[[Any], np.ndarray] = read) -> DecodingSupply:
    return DecodingSupply(reader, items, [TENSOR, TENSOR], 2)


def in_time(work: Callable[[], Any]) -> Any:
    """What *work* returns or raises, in a thread that must end."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future.result(LONG)


@pytest.mark.parametrize("drain", [True, False])
@pytest.mark.parametrize("lanes", [1, 2, 4])
def test_every_callback_may_close_the_engine(lanes: int, drain: bool) -> None:
    engine = engine_of(size=1, lanes=lanes)
    futures = [engine.submit(i) for i in range(N)]
    for future in futures:
        future.add_done_callback(lambda _: engine.close(drain))
    assert wait(futures, LONG).not_done == set()
    in_time(engine.close)
    for thread in engine._lanes.threads:
        thread.join(LONG)
        assert not thread.is_alive()
    with pytest.raises(EngineClosed):
        engine.submit(0)
    if drain:
        assert [future.result().prediction for future in futures] == EXPECTED


@pytest.mark.parametrize("raised", [ValueError("no"), SystemExit(3), KeyboardInterrupt()])
def test_a_callback_that_raises_harms_nobody(raised: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: Future[Any]) -> None:
        raise raised

    saver = Held(LOGITS[0])
    with caplog.at_level(logging.ERROR), engine_of(saver, size=8) as engine:
        futures = [engine.submit(i) for i in EXITS[:6]]
        for future in futures:
            future.add_done_callback(fail)
        saver.go.set()
        assert wait(futures, LONG).not_done == set()
        assert engine.submit(0).result(LONG).prediction == EXPECTED[0]
    assert "callback" in caplog.text


@pytest.mark.parametrize("deadline", [0.0, -1.0, -math.inf])
def test_no_time_at_all(deadline: float) -> None:
    with engine_of() as engine, pytest.raises(DeadlineError):
        engine.submit(0, deadline=deadline).result(LONG)


@pytest.mark.parametrize("long", [1e10, 1e300, math.inf, np.float32(1e12)])
def test_more_time_than_a_thread_can_wait_for(long: float) -> None:
    with engine_of(max_wait_ms=long) as engine:
        first = engine.submit(EXITS[0], deadline=long)
        time.sleep(0.01)  # a thread waits
        rest = [engine.submit(i, deadline=long) for i in EXITS[1:4]]
        assert wait([first, *rest], LONG).not_done == set()
        engine.close(timeout=long)


@pytest.mark.parametrize("wrong", [math.nan, "1", (1,)])
def test_times_that_are_none(wrong: Any) -> None:
    with engine_of() as engine:
        with pytest.raises(UsageError, match="deadline is a number of seconds"):
            engine.submit(0, deadline=wrong)
        with pytest.raises(UsageError, match="timeout is a number of seconds"):
            engine.close(timeout=wrong)
        assert engine.submit(0).result(LONG).prediction == EXPECTED[0]
    with pytest.raises(UsageError, match="max_wait_ms takes one number"):
        engine_of(max_wait_ms=wrong)
    with pytest.raises(UsageError, match="queue a whole number of at least 1"):
        engine_of(queue=wrong)


def test_two_iterables_and_live_inputs_share_an_engine() -> None:
    """A stream whose room was taken by others goes on when they are done."""
    for _ in range(20):
        with engine_of(size=2, lanes=2, queue=64) as engine:

            def answers(items: Iterator[int], engine: Engine = engine) -> list[int]:
                return [p for part in engine.stream(stream_of(items)) for p in part.prediction.tolist()]

            found: list[Future[Any]] = []
            for _ in range(2):
                future: Future[Any] = Future()
                found.append(future)
                threading.Thread(
                    target=lambda f=future: f.set_result(answers(iter(range(N)))),  # type: ignore[misc]
                    daemon=True,
                ).start()
            futures = [engine.submit(i) for i in range(N)]
            assert [future.result(LONG).prediction for future in futures] == EXPECTED
            assert [future.result(LONG) for future in found] == [EXPECTED, EXPECTED]


@pytest.mark.parametrize("leave", ["answered", "cancelled", "late"])
def test_an_iterable_goes_on_when_live_inputs_made_room(leave: str) -> None:
    saver = Held(LOGITS[0])
    with engine_of(saver, size=1) as engine:
        lanes = engine._lanes
        stuck = engine.submit(EXITS[0])
        assert saver.begun.acquire(timeout=LONG)
        deadline = 0.05 if leave == "late" else None
        futures = [engine.submit(i, deadline) for i in EXITS[1:9]]  # more than the first queue wants
        stream = engine.stream(stream_of(iter(range(N))))
        found: Future[list[int]] = Future()
        threading.Thread(
            target=lambda: found.set_result([p for part in stream for p in part.prediction.tolist()]), daemon=True
        ).start()
        end = time.monotonic() + LONG
        while not (lanes.runs and lanes.runs[0].space._waiters):  # type: ignore[attr-defined]
            assert time.monotonic() < end
            time.sleep(0.001)
        if leave == "cancelled":
            assert all(future.cancel() for future in futures)
        elif leave == "late":
            assert wait(futures, LONG).not_done == set()
        saver.go.set()
        assert stuck.result(LONG).prediction == EXPECTED[EXITS[0]]
        assert found.result(LONG) == EXPECTED


def test_runs_side_by_side_take_turns_and_keep_full_batches() -> None:
    """Neither waits until the other, a long one, is done; what is left of one is not counted by the other's samples."""
    saver = Lookup(np.tile(LOGITS[0], (50, 1)))
    base = Lookup(np.tile(LOGITS[1], (50, 1)))
    n = 40 * N
    inputs = np.arange(n, dtype=np.float32)[:, None]
    with engine_of(saver, base, size=8, lanes=2) as engine:
        first, second = (engine.stream(TensorSupply([inputs, inputs])) for _ in range(2))
        got: list[list[int]] = [[], []]
        for parts in itertools.zip_longest(first, second):
            for found, part in zip(got, parts, strict=True):
                found += [] if part is None else part.prediction.tolist()
        assert got == [EXPECTED * 40] * 2
    assert np.mean([len(batch) for batch in saver.batches]) > 4


@pytest.mark.parametrize("raised", [ValueError("full disk"), SystemExit(3), MemoryError()])
def test_a_witness_that_raises_ends_the_run(raised: BaseException) -> None:
    def witness(*_: Any) -> None:
        raise raised

    inputs = np.arange(N, dtype=np.float32)[:, None]
    with engine_of(witness=witness) as engine, pytest.raises((ValueError, ModelError, MemoryError)):
        in_time(lambda: engine.run(TensorSupply([inputs, inputs])))


@pytest.mark.parametrize("raised", [ValueError("bad"), SystemExit(3), KeyboardInterrupt()])
def test_readers_that_end_the_program_cost_one_sample(raised: BaseException) -> None:
    def reader(i: int) -> np.ndarray:
        if i == 1:
            raise raised
        return read(i)

    with engine_of(supply=stream_of((), reader)) as engine:
        futures = [engine.submit(i) for i in range(4)]
        assert type(raised).__name__ in str(futures[1].result(LONG).error)
        assert [futures[i].result(LONG).prediction for i in (0, 2, 3)] == [EXPECTED[i] for i in (0, 2, 3)]


@pytest.mark.parametrize("raised", [SystemExit(3), KeyboardInterrupt(), RuntimeError("lost")])
def test_a_stage_that_ends_the_program_fails_its_batch(raised: BaseException) -> None:
    class Ends(Lookup):
        def run(self, batch: np.ndarray) -> np.ndarray:
            if STAYS[0] in batch[:, 0]:
                raise raised
            return super().run(batch)

    with engine_of(base=Ends(LOGITS[1]), size=1) as engine:
        bad, fine = engine.submit(STAYS[0]), engine.submit(STAYS[1])
        assert bad.exception(LONG) is not None
        assert isinstance(bad.exception(), Exception)
        assert fine.result(LONG).prediction == EXPECTED[STAYS[1]]


def test_an_iterable_that_blocks_or_is_left_keeps_nobody() -> None:
    never = threading.Event()

    def items() -> Iterator[int]:
        yield from range(N)
        never.wait(LONG)

    with engine_of() as engine:
        stream = engine.stream(stream_of(items()))
        got = next(stream).prediction.tolist()
        while len(got) < N:
            got += next(stream).prediction.tolist()
        assert got == EXPECTED
        del stream  # in the middle of it
        gc.collect()
        assert engine._lanes.runs == []
        assert engine.submit(0).result(LONG).prediction == EXPECTED[0]
    never.set()


def test_partial_batches_are_watched_while_others_are_computed() -> None:
    """The thread that waited for one to be due may have been called for other work."""
    base = Held(LOGITS[1])
    for _ in range(5):
        base.go.clear()
        with engine_of(base=base, lanes=2, max_wait_ms=[20.0, 1e9]) as engine:
            lane = [engine.submit(i) for i in STAYS[:4]]  # a full batch, and then one of the base
            assert base.begun.acquire(timeout=LONG)
            partial = engine.submit(EXITS[0])
            late = engine.submit(STAYS[5], deadline=0.03)
            assert partial.result(LONG).prediction == EXPECTED[EXITS[0]]
            assert isinstance(late.exception(LONG), DeadlineError)
            base.go.set()
            assert wait(lane, LONG).not_done == set()


def test_futures_that_are_kept_hold_neither_inputs_nor_engine() -> None:
    class Input:
        pass

    def reader(_: Any) -> np.ndarray:
        return read(EXITS[0])

    kept = []
    seen: list[weakref.ref[Any]] = []
    engine = engine_of(supply=stream_of((), reader))
    for _ in range(3 * STALE):
        item = Input()
        seen.append(weakref.ref(item))
        kept.append(engine.submit(item, deadline=3600))
        kept[-1].result(LONG)
    lanes = engine._lanes
    del item
    assert len(lanes.deadlines) <= STALE + 2
    engine.close()
    lanes.deadlines.clear()
    held = weakref.ref(lanes)
    del engine, lanes
    gc.collect()
    assert not any(one() for one in seen)
    assert held() is None
    assert all(future.result().prediction == EXPECTED[EXITS[0]] for future in kept)


def test_threads_and_files_stay_few_over_many_engines() -> None:
    def files() -> int:
        return len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0

    before = threading.active_count(), files()
    for i in range(100):
        with engine_of(lanes=1 + i % 4) as engine:
            assert engine.submit(i % N).result(LONG).prediction == EXPECTED[i % N]
    assert threading.active_count() <= before[0] + 1
    assert files() <= before[1]


def test_closing_leaves_a_batch_that_takes_too_long() -> None:
    saver = Held(LOGITS[0])
    engine = engine_of(saver)
    future = engine.submit(EXITS[0])
    assert saver.begun.acquire(timeout=LONG)
    in_time(lambda: engine.close(timeout=0.01))
    assert not future.done()
    saver.go.set()
    assert future.result(LONG).prediction == EXPECTED[EXITS[0]]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_says_that_its_engine_is_elsewhere() -> None:
    with engine_of() as engine:
        engine.submit(0).result(LONG)
        with engine._lanes.lock:  # nobody in the child would release it
            child = os.fork()
        if not child:
            code = 1
            try:
                engine.submit(0)
            except EngineClosed:
                engine.close()
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


SCRIPT = """
import sys, threading
sys.path[:0] = [{tests!r}, {here!r}]
from test_runtime_living_attacks import *
reading = threading.Event()
def hang(i):
    reading.set()
    threading.Event().wait()
import pilotfish.runtime.engine as module
module.PATIENCE = 0.2
engine = engine_of(supply=stream_of((), hang if {what!r} == "hung" else read))
future = engine.submit(0)
assert {what!r} != "hung" or reading.wait(20)
if {what!r} == "left":
    stream = engine.stream(stream_of(iter(range(3)), read)); next(stream)
if {what!r} == "ctrl-c":
    import os, signal
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        with engine_of() as other:
            def paced():
                yield 0
                threading.Event().wait()
            for part in other.stream(stream_of(paced())): pass
    except KeyboardInterrupt:
        print("interrupted", flush=True)
print("end", flush=True)
"""


@pytest.mark.parametrize("what", ["idle", "left", "hung", "ctrl-c"])
def test_a_program_ends_although_its_engine_was_not_closed(what: str) -> None:
    here = Path(__file__).parent
    script = SCRIPT.format(tests=str(here.parent), here=str(here), what=what)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=LONG, check=False)
    assert done.stdout.split()[-1] == "end", done
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert ("interrupted" in done.stdout) == (what == "ctrl-c")
