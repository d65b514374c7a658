"""What waits in an engine, and what runs next. Everything here is called with the engine's lock held.

A sample passes two queues per stage: one for inputs to be made, and one for inputs that are ready. They are ordered by
turn, and by arrival if turns are equal, as they usually are. Full batches go first, those of later stages before
others. Otherwise a partial batch of the queue with the oldest sample runs: once its first sample has waited for
``max_wait``, or, for samples that wait for a full batch (:class:`Run`), once no more can come.
"""

from __future__ import annotations

import heapq
import itertools
import math
import threading
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pilotfish.errors import DeadlineError, EngineClosed
from pilotfish.runtime.call import Item
from pilotfish.runtime.feeds import Feed, Futures, Run, Settled
from pilotfish.runtime.stage import EngineStage

SMOOTH = 0.1  # weight of the newest batch in the pace of a stage
TINY = 1e-9  # seconds
PASSED_OVER = 16  # batches that may start before a due batch runs although it is not full
TOO_LATE = "there was no answer within the time that the input had; give it more, or send fewer at once"
CLOSED = "the engine was closed before this input was answered; nothing more is submitted to it"


@dataclass(frozen=True)
class Depth:
    """The load of a stage. waiting: inputs; running: batches; oldest: seconds that the oldest waiting input, not
    counting inputs being made, has waited; pace: recent seconds per input."""

    waiting: int
    running: int
    oldest: float
    pace: float


class Queues:
    """The queues of an engine.

    max_wait  seconds, by stage
    raw       samples whose input is to be made, by stage; queues: those that are ready
    sizes     samples of a full batch, by stage: reduced if the device has too little memory
    open      batches that were begun and whose survivors were not yet sent on, by stage, as *begun* counted them
    running   how many batches are being computed, by stage
    pace      recent seconds per sample, by stage
    """

    def __init__(self, stages: Sequence[EngineStage], max_wait: Sequence[float]) -> None:
        self.stages, self.max_wait = stages, max_wait
        self.lanes, n = max(stage.lanes for stage in stages), len(stages)
        self.lock = threading.RLock()  # reentrant: an engine may be collected while it is held
        self.sizes = [stage.batch_size for stage in stages]
        self.raw: list[deque[Item]] = [deque() for _ in stages]
        self.queues: list[deque[Item]] = [deque() for _ in stages]
        self.preparing, self.running = [0] * n, [0] * n
        self.pace = [0.0] * n
        self.open: list[set[int]] = [set() for _ in stages]
        self.begun = self.preparers = self.workers = 0
        self.alone_since = math.inf  # born then, and from then on, inputs were alone
        self.runs: list[Run] = []
        self.futures: Futures | None = None
        self.deadlines: list[tuple[float, int, Item]] = []
        self.draining = self.closed = False

    def wanted(self, run: Run) -> int:
        """How many more samples of *run* to start: until the first queue holds a batch for every lane and one more."""
        backlog = len(self.raw[0]) + self.preparing[0] + len(self.queues[0])
        return min(self.sizes[0] * (self.stages[0].lanes + 1) + run.supply.workers - backlog, run.window.room)

    def _choose(self, now: float) -> tuple[int, int] | None:
        """(stage, how many samples) of the next batch; None if none may start."""
        if sum(self.running) >= self.lanes:
            return None
        if (light := self._choose_light()) is not None or self._makes_room:
            return light
        if not self.runs:
            return self._choose_submitted(now)
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

    def _choose_light(self) -> tuple[int, int] | None:
        """The light samples at the head of a queue, which neither wait for a full batch nor share one with other
        samples."""
        for k in reversed(range(len(self.stages))):
            queue = self.queues[k]
            if queue and queue[0].light and self.running[k] < self.stages[k].lanes:
                return k, sum(1 for _ in itertools.takewhile(_is_light, itertools.islice(queue, self.sizes[k])))
        return None

    def _choose_submitted(self, now: float) -> tuple[int, int] | None:
        """The most urgent stage with a full batch; otherwise the most urgent with a batch that is due."""
        found: tuple[int, int] | None = None
        most = (False, 0.0)
        for k in reversed(range(len(self.stages))):
            queue, size = self.queues[k], self.sizes[k]
            if not queue or self.running[k] >= self.stages[k].lanes:
                continue
            is_full = len(queue) >= size
            if not is_full and not self._is_due(k, queue[0], now):
                continue
            first = is_full or self.begun - queue[0].begun > PASSED_OVER
            rank = (first, self._urgency(k, queue[0], now))
            if found is None or rank > most:
                found, most = (k, min(len(queue), size)), rank
        return found

    def _urgency(self, k: int, item: Item, now: float) -> float:
        """The time an input has waited at stage *k*, relative to its run time there (highest response ratio next):
        exits do not wait for the base, and the base is not passed over forever."""
        return (now - item.arrived) / (self.pace[k] + TINY)

    def _took(self, k: int, n: int, seconds: float) -> None:
        """Stage *k* computed a batch of *n*."""
        self.pace[k] += SMOOTH * (seconds / n - self.pace[k]) if self.pace[k] else seconds / n

    def _full(self, k: int, feed: Feed) -> int:
        """How many samples make a full batch of stage *k*. The last ones are shared evenly, so that lanes end
        together."""
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
        """Whether a partial batch of stage *k* runs now."""
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
    def _makes_room(self) -> bool:
        """Whether other samples wait because of light ones, and all cores are busy."""
        at_work = self.preparers + sum(self.running)
        return self.futures is not None and self.futures.light > 0 and at_work >= max(self.lanes, self.workers)

    @property
    def _can_prepare(self) -> bool:
        if self.preparers >= self.workers or not any(self.raw):
            return False
        return not self._makes_room or any(queue[0].light for queue in self.raw if queue)

    def _take_batch(self, k: int, n: int) -> list[Item]:
        """The next *n* samples of stage *k*, whose batch begins."""
        items = [self.queues[k].popleft() for _ in range(n)]
        for item in items:
            item.queue = None
        self.begun += 1
        self.open[k].add(self.begun)
        self.running[k] += 1
        if k == 0:
            for item in items:
                if isinstance(item.feed, Run):
                    item.feed.taken += 1
            self.call_readers()
        return items

    def call_readers(self) -> None:
        """Wake readers of iterables: there may be room in the first queue, whichever samples left it."""
        for run in self.runs:
            run.space.notify()

    def _take_raw(self) -> tuple[int, list[Item]]:
        """(stage, samples of one feed whose inputs are made next): later stages first, for submitted inputs the most
        urgent. A thread takes its share of a batch, or, if no more samples will come, of what is left, so that all
        threads end together."""
        now = 0.0 if self.runs else time.monotonic()
        k = max(
            (queue[0].light, 0.0 if self.runs else self._urgency(k, queue[0], now), k)
            for k, queue in enumerate(self.raw)
            if queue
        )[-1]
        queue, size = self.raw[k], self.sizes[k]
        feed = queue[0].feed
        n = size if isinstance(feed, Run) and feed.total is not None and not feed.ended else min(len(queue), size)
        n = min(len(queue), max(1, -(-n // self.workers)))
        if len(self.runs) == 1 and self.futures is None:
            items = [queue.popleft() for _ in range(n)]
        else:
            items = []
            light = queue[0].light
            while queue and len(items) < n and queue[0].feed is feed and queue[0].light == light:
                items.append(queue.popleft())
        for item in items:
            item.queue = None
        self.preparing[k] += len(items)
        self.preparers += 1
        return k, items

    def _how(self, k: int, items: list[Item]) -> EngineStage:
        """Stage *k* as it runs *items*: with every core for one call if inputs come one by one. The first single input
        may have others right behind it."""
        head, stage = items[0], self.stages[k]
        busy = len(items) > 1 or sum(self.running) > 1 or any(self.queues) or any(self.raw) or any(self.preparing)
        if busy or (isinstance(head.feed, Run) and head.feed.total is not None):
            self.alone_since = math.inf
            return stage
        self.alone_since = min(self.alone_since, head.born)
        return stage if stage.alone is None or head.born == self.alone_since else replace(stage, backend=stage.alone)

    def _late(self, now: float) -> Settled:
        """Abandon samples whose deadline has passed. Those that are being computed fail before their next stage."""
        late = []
        while self.deadlines and self.deadlines[0][0] <= now:
            _, _, item = heapq.heappop(self.deadlines)
            if item.queue is not None and item.deadline <= now:
                late.append(item)
        if late:
            self.call_readers()
        return give_up(late, DeadlineError(TOO_LATE))

    def _until(self, now: float) -> float | None:
        """Seconds until something is due that wakes no thread by itself."""
        moments = [self.deadlines[0][0]] if self.deadlines else []
        for k, queue in enumerate(self.queues):
            if queue:
                feed, since = queue[0].feed, queue[0].since
                moments.append(feed.given_up if isinstance(feed, Run) else since + self.max_wait[k])
        soonest = min((moment for moment in moments if moment > now), default=math.inf)
        return None if soonest == math.inf else min(soonest - now, threading.TIMEOUT_MAX)

    def depths(self) -> list[Depth]:
        """What waits and what is being computed, by stage. With the lock held."""
        now = time.monotonic()
        heads = [
            [min(item.arrived for item in queue) for queue in both if queue]
            for both in zip(self.raw, self.queues, strict=True)
        ]
        return [
            Depth(len(raw) + preparing + len(ready), running, now - min(first) if first else 0.0, pace)
            for raw, preparing, ready, running, first, pace in zip(
                self.raw, self.preparing, self.queues, self.running, heads, self.pace, strict=True
            )
        ]

    def _pass_on(
        self, place: int, feed: Feed, items: list[Item], ticket: int | None, send: Callable[[list[Item]], Settled]
    ) -> Settled:
        """Send *items* on; in a feed that keeps its order, after those before them. With the lock held."""
        if ticket is None or feed.in_order is None:
            return send(items)
        return [pair for group in feed.in_order[place].passed(ticket, items) for pair in send(group)]

    def _join(self, k: int, is_ready: bool, items: list[Item]) -> Settled:
        """Queue *items* for stage *k*, for their inputs to be made or to be computed. With the lock held."""
        if not items:
            return []
        now, begun, late = time.monotonic(), self.begun, []
        made = is_ready or self.stages[k].shares
        for item in items:
            feed = item.feed
            if item.gone or feed.stopped:
                continue
            if item.deadline <= now or self.closed:
                late.append(item)
                continue
            queue = self.queues[k] if made or not feed.supply.workers else self.raw[k]
            item.queue, item.since, item.begun = queue, now, begun
            if not is_ready:
                item.arrived = now
            if k and item.light:
                item.turn = -1  # a light input under way must not wait for others under way
            if queue and item.turn < queue[-1].turn:
                place = bisect_right(queue, item.turn, key=_turn)
                behind = queue[place]  # it does not delay this one
                item.since, item.begun = behind.since, behind.begun
                queue.insert(place, item)
            else:
                queue.append(item)
        return give_up(late, EngineClosed(CLOSED) if self.closed else DeadlineError(TOO_LATE))


def _is_light(item: Item) -> bool:
    return item.light


def _turn(item: Item) -> int:
    return item.turn


def ticket_of(place: int, items: Sequence[Item]) -> int | None:
    """The position of a group among its feed's groups; None if order does not matter."""
    first = items[0].feed
    if first.in_order is None or len({id(item.feed) for item in items}) > 1:
        return None
    return first.in_order[place].ticket()


def give_up(items: Sequence[Item], error: Exception) -> Settled:
    """Abandon items of several feeds."""
    return [pair for item in items for pair in item.feed.stop(error, [item])]
