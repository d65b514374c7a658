"""The engine: everything that runs a cascade, whether a list, a stream or a request, submits its inputs to one."""

from __future__ import annotations

import itertools
import math
import os
import sys
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.cascade import InForce
from pilotfish.errors import EngineClosed, QueueFull, UsageError
from pilotfish.runtime.answers import Answers
from pilotfish.runtime.call import Item, Passage
from pilotfish.runtime.feeds import Futures, Run, settle
from pilotfish.runtime.lanes import Lanes, Observer, Witness
from pilotfish.runtime.queues import CLOSED, Depth
from pilotfish.runtime.stage import EngineStage
from pilotfish.runtime.supply import Supply
from pilotfish.text import quantity

WINDOW = 8192
PATIENCE = 5.0  # seconds for a batch that is being computed at the end of the program


class Engine:
    """Runs a cascade, with queues and threads that live as long as the engine.

        with Engine(stages, in_force, supply=DecodingSupply(read, (), preprocessing, workers)) as engine:
            future = engine.submit("cat.jpg", deadline=0.2)
            print(future.result())

    in_force     the rule, the scores and the operating point that decide which samples exit. It may be replaced at any
                 time; an input keeps the one it started with
    forced       int64 (N,), for runs: the stage that answers each sample regardless of its score, for measuring speed
    window       samples of a run that may be under way; a partial batch runs when the window is full
    witness      called with (stage, rows, their outputs) for every batch; *keep* is the minimum number of best classes
                 that those outputs hold
    supply       turns what is submitted into inputs
    max_wait_ms  how long the oldest input of a stage waits for a full batch, for all stages or one each. At 0 a single
                 input runs at once, and no lane idles while anything is queued
    queue        maximum number of submitted inputs under way
    observer     called for every batch of submitted inputs

    Submitted inputs share batches with whatever is queued at the moment. Those of :meth:`run` and :meth:`stream` wait
    for full batches instead; if their number is known, which inputs share a batch depends only on the inputs.
    """

    def __init__(
        self,
        stages: Sequence[EngineStage],
        in_force: InForce,
        forced: NDArray[np.int64] | None = None,
        window: int = WINDOW,
        witness: Witness | None = None,
        keep: int | str = 1,
        *,
        supply: Supply | None = None,
        max_wait_ms: float | Sequence[float] = 0.0,
        queue: int = WINDOW,
        observer: Observer | None = None,
    ) -> None:
        waits = list(max_wait_ms) if isinstance(max_wait_ms, Sequence | np.ndarray) else [max_wait_ms] * len(stages)
        fine = len(waits) == len(stages) and all(_is_number(wait) and wait >= 0 for wait in waits)
        if not fine or not isinstance(queue, int | np.integer) or queue < 1:
            raise UsageError(
                f"max_wait_ms takes one number of 0 or more, or one for each of {len(stages)} stages, and queue a "
                f"whole number of at least 1; found {max_wait_ms!r} and {queue!r}"
            )
        self.stages, self.in_force, self.forced, self.window = stages, in_force, forced, max(1, window)
        self._lanes = Lanes(stages, [float(wait) / 1000 for wait in waits], witness, keep)
        self._lanes.observer = observer
        self._futures = None if supply is None else Futures(supply, int(queue), len(stages))
        if self._futures is not None:
            self._lanes.begin(self._futures)
        self._births = itertools.count()
        self._finalizer = weakref.finalize(self, _let_go, self._lanes)

    def submit(
        self,
        item: Any,
        deadline: float | None = None,
        in_force: InForce | None = None,
        passage: Passage | None = None,
        turn: int = 0,
        light: bool = False,
    ) -> Future[Any]:
        """Submit one input; the future resolves to its :class:`OneAnswer`.

        item      as the engine's supply reads it
        deadline  seconds from now; an input that is not answered by then fails with DeadlineError before its next
                  batch, at once if it is 0 or less
        in_force  decides for this input, instead of the engine's
        passage   called at every stage that could answer the input, with the rule's decision, which it may override:
                  see :data:`Passage`. It is called in the engine's threads, one stage after the other
        turn      inputs of smaller turns go first; inputs of the same turn keep their order of arrival
        light     it shares batches only with other light inputs and runs as soon as it is first in a queue, as it is at
                  every stage but the first

        A cancelled future is never set, and its input is in no further batch. The failure of a model or a sample is in
        the answer's ``error``; DeadlineError and EngineClosed are raised by ``future.result()``. Callbacks run in the
        engine's threads. They may submit and close, and should not wait for other futures.

        Raises QueueFull when the queue is full, EngineClosed after :meth:`close` and in a process that was forked from
        the engine's.
        """
        lanes, feed = self._lanes, self._futures
        if feed is None:
            raise UsageError("this engine has no supply to read inputs with; write Engine(…, supply=…)")
        if deadline is not None and not _is_number(deadline):
            raise UsageError(f"deadline is a number of seconds from now, or None; found {deadline!r}")
        future: Future[Any] = Future()
        _check_process(lanes)
        with lanes.lock:
            _check_open(lanes)
            if not feed.free:
                under_way = quantity(feed.most, "input is", "inputs are")
                raise QueueFull(f"the queue is full: {under_way} under way; try again later")
            found = Item(feed, feed.free.popleft(), item, in_force or self.in_force, next(self._births))
            found.future, found.passage, found.turn, found.light = future, passage, turn, light
            feed.light += light
            if deadline is not None:
                found.deadline = time.monotonic() + float(deadline)
            late = lanes.put(found)
        settle(late)
        future.add_done_callback(partial(_forget, weakref.ref(lanes), weakref.ref(found)))
        return future

    def depths(self) -> list[Depth]:
        """What waits and what is being computed, by stage."""
        with self._lanes.lock:
            return self._lanes.depths()

    @property
    def under_way(self) -> int:
        """Submitted inputs that are neither answered nor abandoned, and those that go on after their answer."""
        return 0 if self._futures is None else self._futures.under_way

    def run(self, supply: Supply) -> Answers:
        """Answer every sample of *supply*, in order."""
        return Answers.join(list(self.stream(supply)), self.in_force.task.missing)

    def stream(self, supply: Supply) -> Iterator[Answers]:
        """Answers to the samples of *supply* in order, several at a time, as soon as they are available.

        An iterable of unknown length is read in a thread of its own. Raises what the iterable raises, and ModelError
        when a stage cannot be run at all.
        """
        lanes = self._lanes
        run = Run(supply, self.in_force, self.forced, self.window, len(self.stages), lanes.lock)
        _check_process(lanes)
        with lanes.lock:
            _check_open(lanes)
            lanes.begin(run)
        if run.total is None:
            threading.Thread(target=_read, args=(lanes, run), name="pilotfish-read", daemon=True).start()
        try:
            while True:
                with lanes.lock:
                    found = run.next()
                    if run.total is not None and not run.ended and lanes.wanted(run) > 0:
                        lanes.call_hand()
                if found is None:
                    return
                yield found
        finally:
            with lanes.lock:
                lanes.drop(run)

    def close(self, drain: bool = True, timeout: float | None = None) -> None:
        """Accept no more inputs, and end the threads.

        drain    whether submitted inputs are answered first; otherwise they fail with EngineClosed, as do runs that are
                 still being read
        timeout  maximum seconds to wait, for answers and for the threads. A thread whose batch takes longer ends later

        It waits, except in a callback or other code that runs in an engine's thread: there it returns at once and
        closing continues.
        """
        lanes, feed = self._lanes, self._futures
        if timeout is not None and not _is_number(timeout):
            raise UsageError(f"timeout is a number of seconds, or None; found {timeout!r}")
        if lanes.process != os.getpid():
            return  # its threads are not in this process
        end = math.inf if timeout is None else time.monotonic() + float(timeout)
        with lanes.lock:
            lanes.draining = True
            lanes.wake.notify_all()
            if threading.current_thread() in lanes.threads:
                if not lanes.closed:
                    threading.Thread(
                        target=self.close, args=(drain, timeout), name="pilotfish-close", daemon=True
                    ).start()
                return
            while drain and not lanes.closed and feed is not None and feed.under_way and (left := _left(end)) > 0:
                lanes.idle_now.wait(left)
        _end(lanes, end)
        self._finalizer.detach()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(drain=kind is None, timeout=None if kind is None else PATIENCE)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not math.isnan(value)


def _left(end: float) -> float:
    """Seconds until *end*, limited to what a thread can wait for."""
    return max(0.0, min(end - time.monotonic(), threading.TIMEOUT_MAX))


def _check_process(lanes: Lanes) -> None:
    """Called before the lock is taken: in a forked process no thread may be left to release it."""
    if lanes.process != os.getpid():
        raise EngineClosed(
            "the engine was made before this process was forked, and its threads are not here; make another"
        )


def _check_open(lanes: Lanes) -> None:
    if lanes.closed or lanes.draining:
        raise EngineClosed("the engine is closed and takes no more inputs; make another")


def _end(lanes: Lanes, end: float) -> None:
    with lanes.lock:
        settled = lanes.stop(EngineClosed(CLOSED))
    settle(settled)
    for thread in lanes.threads:
        if thread is not threading.current_thread() and not sys.is_finalizing():  # then threads never end
            thread.join(_left(end))


def _let_go(lanes: Lanes) -> None:
    """Ends an engine that was not closed. It may be collected in any thread, but only the main thread, and the end of
    the program, may wait for its threads."""
    if lanes.process == os.getpid():
        is_main = threading.current_thread() is threading.main_thread()
        _end(lanes, time.monotonic() + PATIENCE if is_main else 0.0)


def _forget(held: weakref.ref[Lanes], missed: weakref.ref[Item], future: Future[Any]) -> None:
    """Release an input whose future was cancelled. A future that is kept holds neither its input nor the engine."""
    if not future.cancelled():
        return
    lanes, item, goes_on = held(), missed(), None
    if lanes is not None and item is not None:
        with lanes.lock:
            if not item.gone and lanes.futures is not None:
                goes_on, _ = lanes.futures.done(item, None)
                lanes.call_readers()
                lanes.call_hand()
                lanes.idle_now.notify_all()
        if goes_on is not None and goes_on is not future:
            goes_on.cancel()  # the answer that the input went on for
    future.set_running_or_notify_cancel()  # those who wait for several futures are told


def _read(lanes: Lanes, run: Run) -> None:
    """In a thread of its own: read samples of an iterable, as many as are wanted; it may be slow."""
    while True:
        with lanes.lock:
            while not run.stopped and lanes.wanted(run) <= 0:
                run.space.wait()
            if run.stopped:
                return
            run.asked = time.monotonic()
            lanes.call_waiting()
        try:
            key = next(run.keys)
        except BaseException as error:  # the end, or what the caller's own code raises
            with lanes.lock:
                run.ended, run.asked = True, float("inf")
                run.raised = None if isinstance(error, StopIteration) else error
                run.tell()
                lanes.call_hand()
            return
        with lanes.lock:
            run.asked = float("inf")
            lanes.put(run.item(key))
