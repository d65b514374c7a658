"""The threads of an engine, which work through its queues as long as the engine lives.

A free thread looks for work under one lock: it computes a batch if a lane is free, otherwise it makes inputs.
"""

from __future__ import annotations

import heapq
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from pilotfish.errors import ModelError, UnreadableSample, reason
from pilotfish.runtime.call import Called, Item, Rows, call
from pilotfish.runtime.deciding import Decided, Moved, ask_passages, decide_batch
from pilotfish.runtime.feeds import Futures, Run, Settled, settle
from pilotfish.runtime.queues import Queues, give_up, ticket_of
from pilotfish.runtime.stage import EngineStage, places
from pilotfish.runtime.supply import why

LOGGER = logging.getLogger(__name__)
Witness = Callable[[int, Rows, Any], None]
Observer = Callable[[int, int, list[float], float], None]
"""Called for every batch of submitted inputs: (stage, how many, seconds that each waited at the stage, seconds of
computation). It is called in the engine's threads."""
Job = tuple[list[Item], Callable[[], None]]
"""Samples, and what to do with them."""

STALE = 64  # deadlines of inputs answered in time, removed only when there are this many


class Lanes(Queues):
    """Queues and the threads that work on them.

    proved   by stage, whether it has computed anything yet
    waiting  threads that have nothing to do; watched: when the first of them looks again without being woken
    process  the process that the threads belong to
    """

    def __init__(
        self, stages: Sequence[EngineStage], max_wait: Sequence[float], witness: Witness | None, keep: int | str
    ) -> None:
        super().__init__(stages, max_wait)
        self.witness, self.keep = witness, keep
        self.observer: Observer | None = None
        self.wake, self.idle_now = threading.Condition(self.lock), threading.Condition(self.lock)
        self.proved = [False] * len(stages)
        self.threads: list[threading.Thread] = []
        self.waiting, self.watched, self.process = 0, math.inf, os.getpid()

    # What comes in and goes out. Called with the lock held.

    def begin(self, feed: Run | Futures) -> None:
        """Announce the samples of *feed*; if their number is known, they are read whenever there is room."""
        self.workers = max(self.workers, feed.supply.workers)
        if isinstance(feed, Run):
            self.runs.append(feed)
            self.call_hand()
        else:
            self.futures = feed

    def put(self, item: Item) -> Settled:
        """Queue a new sample."""
        if item.deadline < math.inf:
            if len(self.deadlines) > STALE and self.futures and len(self.deadlines) > 2 * self.futures.under_way:
                self.deadlines = [entry for entry in self.deadlines if not entry[2].gone]
                heapq.heapify(self.deadlines)
            heapq.heappush(self.deadlines, (item.deadline, item.born, item))
        late = self._join(0, False, [item])
        self.call_hand()
        return late

    def drop(self, run: Run) -> None:
        """Forget the samples of *run*."""
        run.ended = run.stopped = True
        self.runs = [other for other in self.runs if other is not run]
        for queue in (*self.raw, *self.queues):
            kept = [item for item in queue if item.feed is not run]
            if len(kept) < len(queue):
                queue.clear()
                queue.extend(kept)
        run.space.notify_all()
        self.call_readers()
        self.call_hand()

    def stop(self, error: Exception) -> Settled:
        """Stop: queued samples are abandoned, and running batches as soon as they are computed."""
        self.closed = True
        settled = give_up([item for queue in (*self.raw, *self.queues) for item in queue], error)
        for queue in (*self.raw, *self.queues):
            queue.clear()
        for run in self.runs:
            run.stop(error)
        self.wake.notify_all()
        return settled

    def call_hand(self) -> None:
        """Let one more thread look for work: a waiting one, or a new one."""
        if self.waiting:
            self.wake.notify()
        elif not self.closed and len(self.threads) < self.lanes + max(1, self.workers):
            thread = threading.Thread(target=self._work, name="pilotfish-engine", daemon=True)
            thread.start()
            self.threads.append(thread)

    def call_waiting(self) -> None:
        """An iterable is asked for more: a partial batch that waits may have to run, if a lane is free for it."""
        if self.waiting and any(self.queues) and sum(self.running) < self.lanes:
            self.wake.notify()

    # What to do next.

    def _work(self) -> None:
        while (found := self._next()) is not None:
            items, job = found
            try:
                job()
            except BaseException as error:  # a bug here; nobody must wait forever
                LOGGER.exception("the engine failed")
                fault = _plain(error)
                with self.lock:
                    settled = self.stop(fault) + give_up(items, fault)
                self._settle(settled)
                return

    def _next(self) -> Job | None:
        """Wait for work; None at the end."""
        with self.lock:
            while not self.closed:
                now = time.monotonic()
                for run in list(self.runs):
                    if run.total is not None and not run.ended and (n := self.wanted(run)) > 0:
                        self._join(0, False, run.read(n))
                        run.tell()
                        self.runs.remove(run)  # the next one's turn comes first
                        self.runs.append(run)
                if (job := self._job(now)) is not None:
                    self._more_hands(now)
                    return job
                self._wait(now)
        return None

    def _wait(self, now: float) -> None:
        """Wait until this thread is woken, or something is due."""
        left = self._until(now)
        moment = math.inf if left is None else now + left
        self.waiting, self.watched = self.waiting + 1, min(self.watched, moment)
        self.wake.wait(left)
        self.waiting -= 1
        if moment <= self.watched:  # no other thread may be waiting for it; a working thread wakes one that is
            self.watched = math.inf

    def _job(self, now: float) -> Job | None:
        if late := self._late(now):
            return [], partial(self._settle, late)
        if (chosen := self._choose(now)) is not None:
            k, items = chosen[0], self._take_batch(*chosen)
            return items, partial(self._compute, k, self._how(k, items), items, ticket_of(2 * k + 1, items), self.begun)
        if self._can_prepare:
            k, items = self._take_raw()
            return items, partial(self._prepare, k, items, ticket_of(2 * k, items))
        return None

    def _more_hands(self, now: float) -> None:
        left = self._until(now)
        unwatched = left is not None and now + left < self.watched
        if unwatched or self._choose(now) is not None or self._can_prepare:
            self.call_hand()

    # Work. The lock is held where it says so, and futures are set when it is not.

    def _prepare(self, k: int, items: list[Item], ticket: int | None) -> None:
        for item in items:
            if not item.gone:
                try:
                    item.tensor = item.feed.supply.prepare(k, item)
                except Exception as error:  # an error of the data or the user's code; it fails this sample only
                    item.tensor = error
                except BaseException as error:  # sys.exit() in it ends neither this thread nor the program
                    item.tensor = UnreadableSample(why(error))
        with self.lock:
            self.preparers -= 1
            settled = self._pass_on(2 * k, items[0].feed, items, ticket, partial(self._prepared, k))
        self._settle(settled)

    def _prepared(self, k: int, items: list[Item]) -> Settled:
        self.preparing[k] -= len(items)
        return self._join(k, True, items)

    def _compute(self, k: int, stage: EngineStage, items: list[Item], ticket: int | None, batch: int) -> None:
        called, decided, fault, first = Called(), [], None, items[0]
        moves: list[Moved] = []
        began = time.monotonic()
        try:
            rules = (
                {id(item.in_force): item.in_force for item in items}.values() if ticket is None else [first.in_force]
            )
            wanted = [self.keep, *(rule.keep(k) for rule in rules)]
            by_name = next((keep for keep in wanted if isinstance(keep, str)), None)
            keep = by_name or max(int(keep) for keep in wanted)
            plain = self.witness is None and not (isinstance(first.feed, Run) and first.feed.is_measured)
            called = call(stage, k, items, keep, first.in_force.task, plain)
        except BaseException as error:  # not the model's: call knows those
            fault = _plain(error)
        seconds = time.monotonic() - began
        with self.lock:
            self._took(k, len(items), seconds)
            if called.shrink is not None:
                self.sizes[k] = min(self.sizes[k], called.shrink)
            is_free = self._leave_lane(k, stage)
        try:
            if self.observer is not None and called.items and not isinstance(first.feed, Run):
                self._tell(self.observer, k, [began - item.arrived for item in called.items], began)
            decided = decide_batch(k, len(self.stages), called)
            self._show(k, decided)
            moves = ask_passages(k, len(self.stages), called, decided)
        except BaseException as error:  # a rule that cannot be applied to these outputs, or the witness's own
            decided, moves, fault = [], [], _plain(error)
        with self.lock:
            self.running[k] -= not is_free
            settled = [] if fault is None else give_up(items, fault)
            settled += self._commit(k, called, decided, batch == min(self.open[k]))
            if moves and self.futures is not None:
                settled += self.futures.moved(moves)
            survivors, failed = self._survivors(k, called, decided)
            self.open[k].remove(batch)
            settled += failed + self._pass_on(
                2 * k + 1, items[0].feed, survivors, ticket, partial(self._join, k + 1, False)
            )
            for run in self.runs:
                run.tell()
            if settled:
                self._more_hands(time.monotonic())  # a callback of these answers may block this thread
        self._settle(settled)

    def _tell(self, observer: Observer, k: int, waited: list[float], began: float) -> None:
        try:
            observer(k, len(waited), waited, time.monotonic() - began)
        except Exception:  # the answers are not to blame
            LOGGER.exception("the observer of an engine failed")

    def _leave_lane(self, k: int, stage: EngineStage) -> bool:
        """Free a device's lane for a full batch before the survivors are known; partial batches may fill up with them.
        On the CPU the thread that took over would wait for this one, which holds the interpreter."""
        if not getattr(stage.backend, "reduces", False):
            return False
        self.running[k] -= 1
        chosen = self._choose(time.monotonic())
        if chosen is not None and chosen[1] >= self._full(chosen[0], self.queues[chosen[0]][0].feed):
            self.call_hand()
            return True
        self.running[k] += 1
        return False

    def _show(self, k: int, decided: Sequence[Decided]) -> None:
        if self.witness is not None:
            with self.lock:
                for one in decided:
                    self.witness(k, one.rows, one.outputs)

    def _commit(self, k: int, called: Called, decided: Sequence[Decided], is_first: bool) -> Settled:
        """Record errors and answers, and keep what later stages will need. With the lock held.

        is_first  whether no earlier batch is still open; an open one may still prove that the stage works
        """
        settled: Settled = []
        for item, text in called.errors:
            if is_first and isinstance(item.feed, Run) and called.fault is not None and not self.proved[k]:
                item.feed.stop(called.fault)  # the stage never worked: the model is at fault and not a sample
            settled += item.feed.fail([item], text, by_stage=not isinstance(item.tensor, Exception))
        self.proved[k] = self.proved[k] or bool(called.items)
        if called.alone is not None and called.alone[1]:
            settled += called.items[0].feed.answer_one(called.items[0], called.alone[0])
        for one in decided:
            feed, rule = one.items[0].feed, one.items[0].in_force.rule
            settled += feed.answer(one.items, one.exits, one.decision, k)
            if rule.remembers and k + 1 < len(self.stages):
                kept = ~one.exits & ~np.array([item.gone for item in one.items], bool)
                feed.memory.write(k, one.rows[kept], one.outputs.take(kept))
        return settled

    def _survivors(self, k: int, called: Called, decided: Sequence[Decided]) -> tuple[list[Item], Settled]:
        """The samples that continue, each with its features; and, after the last stage, those that cannot. With the
        lock held."""
        stays = np.full(len(called.items), called.alone is not None and not called.alone[1])
        for one in decided:
            stays[one.at] = ~one.exits
        staying = [called.items[i] for i in np.flatnonzero(stays).tolist()]
        if k + 1 == len(self.stages):
            text = f"the outputs of {self.stages[k].name} are not finite"
            return [], [pair for item in staying for pair in item.feed.fail([item], text, by_stage=True)]
        if self.stages[k + 1].shares and called.carry is not None:
            for item, place in zip(staying, places(called.carry, stays), strict=True):
                item.carry = place
        return staying, []

    def _settle(self, settled: Settled) -> None:
        try:
            settle(settled)
        except BaseException as error:  # from a callback, such as sys.exit(): it must not end this thread
            LOGGER.error("a callback of a future raised %s: %s", type(error).__name__, reason(error))
        if settled and self.draining:
            with self.lock:
                self.idle_now.notify_all()


def _plain(error: BaseException) -> Exception:
    """*error* as one that ends neither a thread nor the program when it is raised again."""
    if isinstance(error, Exception):
        return error
    return ModelError(f"the code of a stage or of the program raised {type(error).__name__}: {reason(error, 200)}")
