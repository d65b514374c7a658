"""Where samples come from, and where their answers go: a run over many, or one future each."""

from __future__ import annotations

import itertools
import math
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, InvalidStateError
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pilotfish.cascade import Decision, InForce
from pilotfish.errors import EngineClosed
from pilotfish.runtime.answers import Answers, Window
from pilotfish.runtime.call import Item
from pilotfish.runtime.memory import Memory
from pilotfish.runtime.single import OneAnswer
from pilotfish.runtime.supply import Supply

Rows = NDArray[np.intp]
GRACE = 0.0005  # seconds after which an iterable that has not yielded is waited for no longer


Settled = list[tuple[Future[Any], Any]]
"""Futures that are done, with their results: set when no lock is held, since callbacks may call anything."""


def _answers(items: Sequence[Item], decision: Decision) -> NDArray[Any]:
    """The answers in the given outputs, in the task's form."""
    return items[0].in_force.task.answer(decision.outputs)


class Feed(Protocol):
    """A source of samples. Its methods are called with the engine's lock held.

    memory    what earlier stages answered for its samples, by row
    in_order  two per stage, if the composition of batches must not depend on speed; else None
    stopped   whether its samples are dropped
    """

    supply: Supply
    memory: Memory
    in_order: Sequence[InOrder] | None
    stopped: bool

    def answer(self, items: Sequence[Item], exits: NDArray[np.bool_], decision: Decision, stage: int) -> Settled:
        """Set the answers of those *items* that exit at *stage*."""
        ...

    def answer_one(self, item: Item, found: OneAnswer) -> Settled:
        """Set the answer of a sample that was alone in its batch."""
        ...

    def fail(self, items: Sequence[Item], reason: str, by_stage: bool = False) -> Settled:
        """Note that *items* have no answer. by_stage: whether a stage failed, and not the reading of the sample."""
        ...

    def stop(self, error: Exception, items: Sequence[Item]) -> Settled:
        """The engine abandons *items*."""
        ...

    def tell(self) -> None:
        """Wake whoever waits for the next answers, if they are available."""
        ...


class InOrder:
    """Passes groups of samples on in the order of their tickets, even if the first is done late."""

    def __init__(self) -> None:
        self.given = self.next = 0
        self.held: dict[int, list[Item]] = {}

    def ticket(self) -> int:
        """For the next group."""
        self.given += 1
        return self.given - 1

    def passed(self, ticket: int, items: list[Item]) -> Iterator[list[Item]]:
        """The groups to pass on next, once *items* are done."""
        self.held[ticket] = items
        while self.next in self.held:
            yield self.held.pop(self.next)
            self.next += 1


class Run:
    """Many samples, answered in order. They wait for full batches until no more samples can come.

    total   how many there are; None for an iterable of unknown length, which a thread of its own reads
    taken   how many of them are in batches of the first stage; share: how many of the last ones go into a batch, by
            stage, so that lanes end together
    error   why the engine stopped; raised: what the iterable raised, once everything before it is answered
    asked   when the iterable was asked for its next item; infinity while no more is wanted
    """

    def __init__(
        self,
        supply: Supply,
        in_force: InForce,
        forced: NDArray[np.int64] | None,
        window: int,
        stages: int,
        lock: threading.RLock,
    ) -> None:
        self.supply, self.in_force, self.forced = supply, in_force, forced
        self.keys, self.total = supply.keys(), supply.total
        self.window, self.memory = Window(window, in_force.task.missing), Memory(window, stages)
        self.in_order: Sequence[InOrder] | None = [InOrder() for _ in range(2 * stages)]
        self.taken, self.share = 0, [0] * stages
        self.asked = math.inf
        self.ended = self.stopped = False
        self.error: Exception | None = None
        self.raised: BaseException | None = None
        self.moved, self.space = threading.Condition(lock), threading.Condition(lock)

    @property
    def is_measured(self) -> bool:
        """Whether its answers must not depend on the batch, to the last bit, or are forced."""
        return self.total is not None or self.forced is not None

    @property
    def given_up(self) -> float:
        """When to stop waiting for the next sample."""
        return self.asked + GRACE

    def is_patient(self, at_work: bool, now: float) -> bool:
        """Whether samples wait for a full batch: not if the iterable has none ready, or if nothing else is running."""
        return self.asked == math.inf or (at_work and now < self.given_up)

    def read(self, n: int) -> list[Item]:
        """Up to *n* of the next samples of a known number."""
        row, in_force = self.window.end, self.in_force
        found = [Item(self, row + i, key, in_force, row + i) for i, key in enumerate(itertools.islice(self.keys, n))]
        self.window.read(len(found))
        self.ended = self.window.end == self.total or len(found) < n
        return found

    def item(self, key: Any) -> Item:
        """The next sample."""
        row = self.window.end
        self.window.read(1)
        return Item(self, row, key, self.in_force, row)

    def answer(self, items: Sequence[Item], exits: NDArray[np.bool_], decision: Decision, stage: int) -> Settled:
        rows = np.array([item.row for item in items], np.intp)[exits]
        self.window.answer(rows, _answers(items, decision)[exits], decision.shown[exits], stage)
        return []

    def answer_one(self, item: Item, found: OneAnswer) -> Settled:
        self.window.answer(item.row, found.prediction, found.confidence, found.stage)
        return []

    def fail(self, items: Sequence[Item], reason: str, by_stage: bool = False) -> Settled:
        for item in items:
            self.window.fail(item.row, reason)
        return []

    def stop(self, error: Exception, items: Sequence[Item] = ()) -> Settled:
        """The first error is raised where the answers are read; samples under way are dropped."""
        self.error, self.ended, self.stopped = self.error or error, True, True
        self.moved.notify_all()
        self.space.notify_all()
        return []

    def tell(self) -> None:
        window = self.window
        if window.done[window.first % window.size] or (self.ended and window.end == window.first):
            self.moved.notify_all()

    def next(self) -> Answers | None:
        """Wait for the answers that are next in order; None when there are no more."""
        while True:
            if self.error is not None:
                raise self.error
            if (ready := self.window.ready()) is not None:
                self.space.notify()
                return ready
            if self.ended and self.window.end == self.window.first:
                if self.raised is not None:
                    raise self.raised
                return None
            self.moved.wait()


class Futures:
    """Samples submitted one by one. At most *most* of them are under way."""

    in_order: Sequence[InOrder] | None = None
    stopped = False

    def __init__(self, supply: Supply, most: int, stages: int) -> None:
        self.supply, self.memory, self.most = supply, Memory(most, stages), most
        self.free = deque(range(most))  # rows of the memory
        self.light = 0  # of those under way

    @property
    def under_way(self) -> int:
        """Samples neither answered nor abandoned."""
        return self.most - len(self.free)

    def answer(self, items: Sequence[Item], exits: NDArray[np.bool_], decision: Decision, stage: int) -> Settled:
        return [
            self.done(item, OneAnswer(prediction, confidence, stage))
            for item, leaves, prediction, confidence in zip(
                items, exits.tolist(), _answers(items, decision).tolist(), decision.shown.tolist(), strict=True
            )
            if leaves and not item.gone
        ]

    def answer_one(self, item: Item, found: OneAnswer) -> Settled:
        return [] if item.gone else [self.done(item, found)]

    def moved(self, moves: Sequence[tuple[Item, OneAnswer, Future[Any] | Exception]]) -> Settled:
        """Inputs whose passage returned a future are answered and go on without a deadline; inputs whose passage
        returned an exception fail."""
        settled: Settled = []
        for item, answer, move in moves:
            if item.gone or item.future is None:
                if isinstance(move, Future):
                    settled.append((move, EngineClosed("the input was given up before it went on")))
                continue
            if isinstance(move, Exception):
                settled.append(self.done(item, move))
            else:
                settled.append((item.future, answer))
                item.future, item.deadline = move, math.inf
                self.light -= item.light  # nobody waits for it any more
                item.light = False
        return settled

    def fail(self, items: Sequence[Item], reason: str, by_stage: bool = False) -> Settled:
        return [
            self.done(
                item, OneAnswer(np.full(1, item.in_force.task.missing).tolist()[0], math.nan, -1, reason, by_stage)
            )
            for item in items
            if not item.gone
        ]

    def stop(self, error: Exception, items: Sequence[Item]) -> Settled:
        return [self.done(item, error) for item in items if not item.gone]

    def tell(self) -> None:
        pass

    def done(self, item: Item, result: OneAnswer | Exception | None) -> tuple[Future[Any], Any]:
        """*item* is no longer under way, and its row is free."""
        future, item.future, item.gone = item.future, None, True
        if item.queue is not None:
            item.queue.remove(item)
            item.queue = None
        self.free.append(item.row)
        self.light -= item.light
        assert future is not None
        return future, result


def settle(settled: Settled) -> None:
    """Set futures, except those that were cancelled meanwhile. An exception that ends a thread, raised in a callback,
    is raised again when all are set."""
    raised: BaseException | None = None
    for future, result in settled:
        try:
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
        except InvalidStateError:
            pass
        except BaseException as error:
            raised = raised or error
    if raised is not None:
        raise raised
