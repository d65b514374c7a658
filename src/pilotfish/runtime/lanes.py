"""The engine's queues, and the threads that work through them for as long as the engine lives.

A sample passes two queues per stage: of those whose input is to be made, and of those that are ready. Whichever thread
is free looks for work under one lock: it computes a batch where a lane is free, else it makes inputs. Full batches go
first, those of late stages before others. Else the queue with the oldest sample goes as it is: once its first has
waited for ``max_wait``, or, where samples wait for company (:class:`Run`), once no more can come.
"""

from __future__ import annotations

import heapq
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.cascade import Decision, decide
from pilotfish.errors import DeadlineError, EngineClosed
from pilotfish.runtime.call import Called, Item, call
from pilotfish.runtime.feeds import Feed, Futures, Run, Settled, settle
from pilotfish.runtime.stage import EngineStage, places

Rows = NDArray[np.intp]
Witness = Callable[[int, Rows, Any], None]
Job = Callable[[], None]
PASSED_OVER = 16  # batches that may begin before one whose time has come goes although it is not full


@dataclass(frozen=True)
class _Decided:
    """Samples of one feed and one rule: their places in the batch, what was said of them, and who of them exits."""

    at: list[int]
    items: list[Item]
    rows: Rows
    outputs: Any
    decision: Decision
    exits: NDArray[np.bool_]


class Lanes:
    """Queues and threads of an engine.

    max_wait  seconds, by stage
    sizes     samples of a full batch, by stage: less than at first where the device has too little memory
    open      batches that were begun and whose survivors were not sent on, by stage; running: those being computed
    """

    def __init__(
        self, stages: Sequence[EngineStage], max_wait: Sequence[float], witness: Witness | None, top_k: int
    ) -> None:
        self.stages, self.max_wait, self.witness, self.top_k = stages, max_wait, witness, top_k
        self.lanes, n = max(stage.lanes for stage in stages), len(stages)
        self.lock = threading.Lock()
        self.wake, self.idle_now = threading.Condition(self.lock), threading.Condition(self.lock)
        self.sizes = [stage.batch_size for stage in stages]
        self.raw: list[deque[Item]] = [deque() for _ in stages]
        self.queues: list[deque[Item]] = [deque() for _ in stages]
        self.preparing, self.open, self.running = [0] * n, [0] * n, [0] * n
        self.begun = self.preparers = self.workers = self.waiting = 0
        self.alone_since = math.inf  # born then, and from then on, inputs were alone
        self.proved = [False] * n  # whether the stage has computed anything yet
        self.runs: list[Run] = []
        self.futures: Futures | None = None
        self.deadlines: list[tuple[float, int, Item]] = []
        self.threads: list[threading.Thread] = []
        self.draining = self.closed = False

    # What comes in and goes out. Called with the lock held.

    def begin(self, feed: Run | Futures) -> None:
        """Samples of *feed* will come; those of a known number are read whenever there is room for them."""
        self.workers = max(self.workers, feed.supply.workers)
        if isinstance(feed, Run):
            self.runs.append(feed)
            self.call_hand()
        else:
            self.futures = feed

    def put(self, item: Item) -> Settled:
        """A sample begins."""
        if item.deadline < math.inf:
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
        self.call_hand()

    def stop(self, error: Exception) -> Settled:
        """The end: what is queued is given up, and what is being computed as soon as it is."""
        self.closed = True
        settled = _each([item for queue in (*self.raw, *self.queues) for item in queue], error)
        for queue in (*self.raw, *self.queues):
            queue.clear()
        for run in self.runs:
            run.stop(error)
        self.wake.notify_all()
        return settled

    def call_hand(self) -> None:
        """One more thread looks for work: one that waits, or a new one."""
        if self.waiting:
            self.wake.notify()
        elif not self.closed and len(self.threads) < self.lanes + max(1, self.workers):
            thread = threading.Thread(target=self._work, name="pilotfish-engine", daemon=True)
            self.threads.append(thread)
            thread.start()

    def call_waiting(self) -> None:
        """An iterable is asked for more: what waits in a queue may have to go without, if a lane is free for it."""
        if self.waiting and any(self.queues) and sum(self.running) < self.lanes:
            self.wake.notify()

    def wanted(self, run: Run) -> int:
        """How many more samples of *run* to begin: until the first queue holds a batch for every lane and one more."""
        backlog = len(self.raw[0]) + self.preparing[0] + len(self.queues[0])
        return min(self.sizes[0] * (self.stages[0].lanes + 1) + run.supply.workers - backlog, run.window.room)

    # What is to be done next.

    def _work(self) -> None:
        while (job := self._next()) is not None:
            job()

    def _next(self) -> Job | None:
        """Work, waited for; None at the end."""
        with self.lock:
            while not self.closed:
                now = time.monotonic()
                for run in self.runs:
                    if run.total is not None and not run.ended and (n := self.wanted(run)) > 0:
                        self._join(0, False, run.read(n))
                        run.tell()
                job = self._expired(now) or self._batch(now) or self._preparation()
                if job is not None:
                    self._more_hands(now)
                    return job
                self.waiting += 1
                self.wake.wait(self._until(now))
                self.waiting -= 1
        return None

    def _more_hands(self, now: float) -> None:
        if self._choose(now) is not None or self._can_prepare:
            self.call_hand()

    def _batch(self, now: float) -> Job | None:
        chosen = self._choose(now)
        if chosen is None:
            return None
        k, n = chosen
        items = [self.queues[k].popleft() for _ in range(n)]
        for item in items:
            item.queue = None
        self.begun += 1
        self.open[k] += 1
        self.running[k] += 1
        if k == 0 and isinstance(run := items[0].feed, Run):
            run.taken += n
            run.space.notify()
        return partial(self._compute, k, self._how(k, items), items, _ticket(2 * k + 1, items))

    def _how(self, k: int, items: list[Item]) -> EngineStage:
        """Stage *k* as it runs *items*: with every core for one call where inputs come one by one. The first that comes
        alone may have company behind it."""
        head, stage = items[0], self.stages[k]
        busy = len(items) > 1 or sum(self.running) > 1 or any(self.queues) or any(self.raw) or any(self.preparing)
        if busy or (isinstance(head.feed, Run) and head.feed.total is not None):
            self.alone_since = math.inf
            return stage
        self.alone_since = min(self.alone_since, head.born)
        return stage if stage.alone is None or head.born == self.alone_since else replace(stage, backend=stage.alone)

    def _choose(self, now: float) -> tuple[int, int] | None:
        """(stage, how many samples) of the next batch; None when none may begin."""
        if sum(self.running) >= self.lanes:
            return None
        found: tuple[int, int] | None = None
        oldest = math.inf
        for k in reversed(range(len(self.stages))):
            queue = self.queues[k]
            if not queue or self.running[k] >= self.stages[k].lanes:
                continue
            full = self._full(k, queue[0].feed)
            if len(queue) >= full:
                return k, full
            if queue[0].born < oldest and self._is_due(k, queue[0], now):
                found, oldest = (k, min(len(queue), self.sizes[k])), queue[0].born
                if not isinstance(queue[0].feed, Run) and self.begun - queue[0].begun > PASSED_OVER:
                    return found
        return found

    def _full(self, k: int, feed: Feed) -> int:
        """How many samples make a batch of stage *k*. The last ones are shared evenly, so that lanes end together."""
        size, lanes = self.sizes[k], self.stages[k].lanes
        if lanes == 1 or not isinstance(feed, Run) or feed.total is None:
            return size
        rest = feed.total - feed.taken if k == 0 else len(self.queues[k])
        if rest >= size * lanes:
            return size
        if not feed.share[k]:
            if k and self._more_may_come(k, feed):
                return size * lanes
            feed.share[k] = max(1, -(-rest // lanes))
        return min(size, feed.share[k])

    def _is_due(self, k: int, head: Item, now: float) -> bool:
        """Whether a batch of stage *k* goes without further company."""
        feed, at_work = head.feed, any(self.open) or any(self.preparing) or any(self.raw)
        if not isinstance(feed, Run):
            return self.draining or now >= head.since + self.max_wait[k]
        if (self.futures is not None and self.futures.under_way) or not feed.is_patient(at_work, now):
            return True
        stuck = not feed.ended and not feed.window.room and not at_work
        return stuck or not self._more_may_come(k, feed)

    def _more_may_come(self, k: int, feed: Run) -> bool:
        before = any(self.open[:k]) or any(self.queues[:k])
        return before or not feed.ended or any(self.preparing[: k + 1]) or any(self.raw[: k + 1])

    @property
    def _can_prepare(self) -> bool:
        return self.preparers < self.workers and any(self.raw)

    def _preparation(self) -> Job | None:
        """Inputs to be made, of late stages first."""
        if not self._can_prepare:
            return None
        k = max(k for k, queue in enumerate(self.raw) if queue)
        queue, items = self.raw[k], list[Item]()
        n = max(1, min(-(-len(queue) // self.workers), -(-self.sizes[k] // self.workers)))
        while queue and len(items) < n and (not items or queue[0].feed is items[0].feed):
            items.append(queue.popleft())
            items[-1].queue = None
        self.preparing[k] += len(items)
        self.preparers += 1
        return partial(self._prepare, k, items, _ticket(2 * k, items))

    def _expired(self, now: float) -> Job | None:
        """Samples whose time is over. Those that are being computed fail where they would go on."""
        late = []
        while self.deadlines and self.deadlines[0][0] <= now:
            _, _, item = heapq.heappop(self.deadlines)
            if item.queue is not None:
                late.append(item)
        return partial(self._settle, _each(late, DeadlineError(TOO_LATE))) if late else None

    def _until(self, now: float) -> float | None:
        """Seconds until something is due for which no thread will be called."""
        moments = [self.deadlines[0][0]] if self.deadlines else []
        for k, queue in enumerate(self.queues):
            if queue:
                feed, since = queue[0].feed, queue[0].since
                moments.append(feed.given_up if isinstance(feed, Run) else since + self.max_wait[k])
        soonest = min((moment for moment in moments if moment > now), default=math.inf)
        return None if soonest == math.inf else soonest - now

    # Work. The lock is held where it says so, and futures are set when it is not.

    def _prepare(self, k: int, items: list[Item], ticket: int | None) -> None:
        for item in items:
            if not item.gone:
                try:
                    item.tensor = item.feed.supply.prepare(k, item)
                except Exception as error:  # the data's or the user's own code; it costs this sample alone
                    item.tensor = error
        with self.lock:
            self.preparers -= 1
            settled = self._pass_on(2 * k, items[0].feed, items, ticket, partial(self._prepared, k))
        self._settle(settled)

    def _prepared(self, k: int, items: list[Item]) -> Settled:
        self.preparing[k] -= len(items)
        return self._join(k, True, items)

    def _compute(self, k: int, stage: EngineStage, items: list[Item], ticket: int | None) -> None:
        called, decided, fault, first = Called(), [], None, items[0]
        try:
            rules = (
                {id(item.in_force): item.in_force for item in items}.values() if ticket is None else [first.in_force]
            )
            top_k = max(self.top_k, *(rule.top_k(k) for rule in rules))
            plain = self.witness is None and not (isinstance(first.feed, Run) and first.feed.is_measured)
            called = call(stage, k, items, top_k, first.in_force.task, plain)
        except Exception as error:  # not the model's: call knows those
            fault = error
        with self.lock:
            if called.shrink is not None:
                self.sizes[k] = min(self.sizes[k], called.shrink)
            is_free = self._leave_lane(k)
        try:
            decided = self._decide(k, called)
        except Exception as error:  # a rule that cannot be applied to these outputs
            fault = error
        with self.lock:
            self.running[k] -= not is_free
            settled = [] if fault is None else _each(items, fault)
            settled += self._commit(k, called, decided)
            survivors, failed = self._survivors(k, called, decided)
            self.open[k] -= 1
            settled += failed + self._pass_on(
                2 * k + 1, items[0].feed, survivors, ticket, partial(self._join, k + 1, False)
            )
            for run in self.runs:
                run.tell()
            if settled:
                self._more_hands(time.monotonic())  # whoever waits for these answers may keep this thread
        self._settle(settled)

    def _leave_lane(self, k: int) -> bool:
        """Leave the lane to a batch that is full, before it is known who goes on: others may fill up with them."""
        self.running[k] -= 1
        chosen = self._choose(time.monotonic())
        if chosen is not None and chosen[1] >= self._full(chosen[0], self.queues[chosen[0]][0].feed):
            self.call_hand()
            return True
        self.running[k] += 1
        return False

    def _decide(self, k: int, called: Called) -> list[_Decided]:
        """Who exits, by the feeds and the rules that the samples came with."""
        if called.outputs is None:
            return []
        groups: dict[tuple[int, int], list[int]] = {}
        if isinstance(called.items[0].feed, Run) and len({id(item.feed) for item in called.items}) == 1:
            return [self._decide_group(k, list(range(len(called.items))), called.items, called.outputs)]
        for i, item in enumerate(called.items):
            groups.setdefault((id(item.feed), id(item.in_force)), []).append(i)
        return [self._decide_group(k, at, called.items, called.outputs) for at in groups.values()]

    def _decide_group(self, k: int, at: list[int], items: list[Item], outputs: Any) -> _Decided:
        if len(at) < len(items):
            items, outputs = [items[i] for i in at], outputs.take(np.array(at, np.intp))
        feed, in_force = items[0].feed, items[0].in_force
        rows = np.array([item.row for item in items], np.intp)
        past = [feed.memory.read(j, rows) for j in range(k)] if in_force.rule.remembers else []
        decision = decide(in_force.rule, in_force.scores, k, [*past, outputs], len(self.stages), in_force.task)
        exits = in_force.point.leaves(k, decision.values)  # NaN, from outputs that are not finite, never exits
        if isinstance(feed, Run) and feed.forced is not None:
            exits = feed.forced[rows] == k
        return _Decided(at, items, rows, outputs, decision, exits)

    def _commit(self, k: int, called: Called, decided: Sequence[_Decided]) -> Settled:
        """Note errors and answers, and keep what later stages will ask for. With the lock held."""
        settled: Settled = []
        for item, reason in called.errors:
            if isinstance(item.feed, Run) and called.fault is not None and not self.proved[k]:
                item.feed.stop(called.fault)  # the stage never worked: the model is at fault and not a sample
            settled += item.feed.fail([item], reason)
        self.proved[k] = self.proved[k] or bool(called.items)
        if called.alone is not None and called.alone[1]:
            settled += called.items[0].feed.answer_one(called.items[0], called.alone[0])
        for one in decided:
            feed, rule = one.items[0].feed, one.items[0].in_force.rule
            if self.witness is not None:
                self.witness(k, one.rows, one.outputs)
            settled += feed.answer(one.items, one.exits, one.decision, k)
            if rule.remembers and k + 1 < len(self.stages):
                kept = ~one.exits & ~np.array([item.gone for item in one.items], bool)
                feed.memory.write(k, one.rows[kept], one.outputs.take(kept))
        return settled

    def _survivors(self, k: int, called: Called, decided: Sequence[_Decided]) -> tuple[list[Item], Settled]:
        """Who goes on, each with its features; and, after the last stage, who cannot. With the lock held."""
        stays = np.full(len(called.items), called.alone is not None and not called.alone[1])
        for one in decided:
            stays[one.at] = ~one.exits
        staying = [called.items[i] for i in np.flatnonzero(stays).tolist()]
        if k + 1 == len(self.stages):
            reason = f"the outputs of {self.stages[k].name} are not finite"
            return [], [pair for item in staying for pair in item.feed.fail([item], reason)]
        if self.stages[k + 1].shares and called.carry is not None:
            for item, place in zip(staying, places(called.carry, stays), strict=True):
                item.carry = place
        return staying, []

    def _pass_on(
        self, place: int, feed: Feed, items: list[Item], ticket: int | None, send: Callable[[list[Item]], Settled]
    ) -> Settled:
        """Send *items* on: of a feed that keeps its order, when those before them were. With the lock held."""
        if ticket is None or feed.in_order is None:
            return send(items)
        return [pair for group in feed.in_order[place].passed(ticket, items) for pair in send(group)]

    def _join(self, k: int, is_ready: bool, items: list[Item]) -> Settled:
        """Queue *items* for stage *k*, for their inputs to be made or to be computed. With the lock held."""
        now, late = time.monotonic(), []
        for item in items:
            if item.gone or item.feed.stopped:
                continue
            if item.deadline <= now or self.closed:
                late.append(item)
                continue
            raw = not is_ready and not self.stages[k].shares and item.feed.supply.workers
            item.queue, item.since, item.begun = (self.raw if raw else self.queues)[k], now, self.begun
            item.queue.append(item)
        return _each(late, EngineClosed(CLOSED) if self.closed else DeadlineError(TOO_LATE)) if late else []

    def _settle(self, settled: Settled) -> None:
        settle(settled)
        if settled and self.draining:
            with self.lock:
                self.idle_now.notify_all()


TOO_LATE = "there was no answer within the time that the input had; give it more, or send fewer at once"
CLOSED = "the engine was closed before this input was answered; nothing more is submitted to it"


def _ticket(place: int, items: Sequence[Item]) -> int | None:
    """Where a group of one feed stands among its groups; None where order does not matter."""
    in_order = items[0].feed.in_order
    if in_order is None or any(item.feed is not items[0].feed for item in items):
        return None
    return in_order[place].ticket()


def _each(items: Sequence[Item], error: Exception) -> Settled:
    """Items of several feeds that cannot go on."""
    return [pair for item in items for pair in item.feed.stop(error, [item])]
