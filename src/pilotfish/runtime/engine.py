"""The living engine: everything that runs a cascade, a list, a stream or a request, submits its inputs to one."""

from __future__ import annotations

import itertools
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
from pilotfish.runtime.call import Item
from pilotfish.runtime.feeds import Futures, Run, settle
from pilotfish.runtime.lanes import Lanes, Witness
from pilotfish.runtime.queues import CLOSED
from pilotfish.runtime.stage import EngineStage
from pilotfish.runtime.supply import Supply

WINDOW = 8192
PATIENCE = 5.0  # seconds for a batch that is being computed at the end of the program


class Engine:
    """Runs a cascade, with queues and threads that live as long as it does.

        with Engine(stages, in_force, supply=DecodingSupply(read, (), preprocessing, workers)) as engine:
            future = engine.submit("cat.jpg", deadline=0.2)
            print(future.result())

    in_force     the rule, the scores and the operating point that decide who exits. It may be replaced at any time: an
                 input keeps what it began with
    forced       int64 (N,), for runs: the stage that answers each sample whatever its score, for measuring speed
    window       samples of a run that may be under way; a batch that waits for company while the window is full goes
                 without it
    witness      told (stage, rows, their outputs) of every batch; *top_k* is how many of the best classes those outputs
                 hold at least
    supply       what makes inputs of what is submitted
    max_wait_ms  how long the oldest input of a stage waits for a full batch, for all stages or one each. At 0 a lone
                 input runs at once, and no lane idles while anything is queued
    queue        submitted inputs that may be under way

    Inputs that are submitted share batches with whatever is there at the moment. Those of :meth:`run` and
    :meth:`stream` wait for company instead, and of a known number of inputs it is only the inputs that say which share
    a batch.
    """

    def __init__(
        self,
        stages: Sequence[EngineStage],
        in_force: InForce,
        forced: NDArray[np.int64] | None = None,
        window: int = WINDOW,
        witness: Witness | None = None,
        top_k: int = 1,
        *,
        supply: Supply | None = None,
        max_wait_ms: float | Sequence[float] = 0.0,
        queue: int = WINDOW,
    ) -> None:
        waits = [float(max_wait_ms)] * len(stages) if isinstance(max_wait_ms, int | float) else list(max_wait_ms)
        if len(waits) != len(stages) or not all(wait >= 0 for wait in waits) or queue < 1:
            raise UsageError(
                f"max_wait_ms takes one number of 0 or more, or one for each of {len(stages)} stages, and queue at "
                f"least 1; found {max_wait_ms} and {queue}"
            )
        self.stages, self.in_force, self.forced, self.window = stages, in_force, forced, max(1, window)
        self._lanes = Lanes(stages, [wait / 1000 for wait in waits], witness, top_k)
        self._futures = None if supply is None else Futures(supply, queue, len(stages))
        if self._futures is not None:
            self._lanes.begin(self._futures)
        self._births = itertools.count()
        self._finalizer = weakref.finalize(self, _let_go, self._lanes)

    def submit(self, item: Any, deadline: float | None = None, in_force: InForce | None = None) -> Future[Any]:
        """Begin with one input; the future resolves to its :class:`OneAnswer`.

        item      as the engine's supply reads it
        deadline  seconds from now; an input that is not answered by then fails with DeadlineError before its next batch
        in_force  what decides of this input, instead of the engine's

        A future that is cancelled is never set, and its input is in no further batch. What a model or a sample fails of
        is in the answer's ``error``; DeadlineError and EngineClosed are raised by ``future.result()``.

        Raises QueueFull when as many inputs are under way as the queue holds, EngineClosed after :meth:`close`.
        """
        lanes, feed = self._lanes, self._futures
        if feed is None:
            raise UsageError("this engine has no supply to read inputs with; write Engine(…, supply=…)")
        future: Future[Any] = Future()
        with lanes.lock:
            if lanes.closed or lanes.draining:
                raise EngineClosed("the engine is closed and takes no more inputs; make another")
            if not feed.free:
                raise QueueFull(f"{feed.most} inputs are under way, as many as the queue holds; try again later")
            found = Item(feed, feed.free.popleft(), item, in_force or self.in_force, next(self._births))
            found.future = future
            if deadline is not None:
                found.deadline = time.monotonic() + deadline
            late = lanes.put(found)
        settle(late)
        future.add_done_callback(partial(_forget, lanes, feed, found))
        return future

    def run(self, supply: Supply) -> Answers:
        """Answer every sample of *supply*, in its order."""
        return Answers.join(list(self.stream(supply)), self.in_force.task.missing)

    def stream(self, supply: Supply) -> Iterator[Answers]:
        """Answers to the samples of *supply* in their order, a stretch at a time, as soon as they are there.

        An iterable of unknown length is read in a thread of its own. Raises what the iterable raises, and ModelError
        when a stage cannot be run at all.
        """
        lanes = self._lanes
        run = Run(supply, self.in_force, self.forced, self.window, len(self.stages), lanes.lock)
        with lanes.lock:
            if lanes.closed or lanes.draining:
                raise EngineClosed("the engine is closed and takes no more inputs; make another")
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
        """Take no more inputs, and end the threads.

        drain    whether what was submitted is answered first, for at most *timeout* seconds; what is not fails with
                 EngineClosed. So do runs that somebody is still reading
        """
        lanes, feed = self._lanes, self._futures
        end = None if timeout is None else time.monotonic() + timeout
        with lanes.lock:
            lanes.draining = True
            lanes.wake.notify_all()
            while drain and not lanes.closed and feed is not None and feed.under_way:
                left = None if end is None else end - time.monotonic()
                if left is not None and left <= 0:
                    break
                lanes.idle_now.wait(left)
        _end(lanes)
        self._finalizer.detach()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(drain=kind is None)


def _end(lanes: Lanes) -> None:
    with lanes.lock:
        settled = lanes.stop(EngineClosed(CLOSED))
    settle(settled)
    for thread in lanes.threads:
        if thread is not threading.current_thread():
            thread.join()


def _let_go(lanes: Lanes) -> None:
    """Of an engine that was not closed. Any thread may find it to be garbage, but only the main one, and the end of the
    program, may wait for its threads."""
    with lanes.lock:
        settled = lanes.stop(EngineClosed(CLOSED))
    settle(settled)
    if threading.current_thread() is threading.main_thread():
        for thread in lanes.threads:
            thread.join(PATIENCE)


def _forget(lanes: Lanes, feed: Futures, item: Item, future: Future[Any]) -> None:
    """Let go of an input whose future was cancelled."""
    if not future.cancelled():
        return
    with lanes.lock:
        if not item.gone:
            feed.done(item, None)
            lanes.idle_now.notify_all()
    future.set_running_or_notify_cancel()  # those who wait for several futures are told


def _read(lanes: Lanes, run: Run) -> None:
    """In a thread of its own: samples of an iterable, as many as are wanted; it may take its time."""
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
