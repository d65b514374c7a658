"""The batch engine: streams of any length in constant memory, at the speed of its stages.

Every stage has a queue that fills to its own batch size across the batches of the stage before. Batches run in
threads, a few at a time; their results are taken in the order in which they were begun, so what shares a batch with
what depends on the inputs alone and not on how fast anything was.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.cascade import InForce, decide
from pilotfish.records import Outputs
from pilotfish.runtime.answers import Answers, Window
from pilotfish.runtime.call import Called, Item, call
from pilotfish.runtime.memory import Memory
from pilotfish.runtime.stage import EngineStage, places
from pilotfish.runtime.supply import Supply

WINDOW = 8192
Rows = NDArray[np.intp]
Witness = Callable[[int, Rows, Outputs], None]


class Engine:
    """Runs a cascade over a supply of samples.

    in_force  the rule, the scores and the operating point that decide who exits
    forced    int64 (N,), the stage that answers each sample whatever its score: for measuring speed at an exit ratio
    window    at most so many samples are under way; a batch that waits for company while the window is full goes
              without it
    witness   told (stage, rows, their outputs) of every batch, in the order they were begun; *top_k* is how many of the
              best classes those outputs hold at least
    """

    def __init__(
        self,
        stages: Sequence[EngineStage],
        in_force: InForce,
        forced: NDArray[np.int64] | None = None,
        window: int = WINDOW,
        witness: Witness | None = None,
        top_k: int = 1,
    ) -> None:
        self.stages, self.in_force, self.forced, self.window = stages, in_force, forced, max(1, window)
        self.witness, self.top_k = witness, top_k

    def run(self, supply: Supply) -> Answers:
        """Answer every sample of *supply*, in its order."""
        return Answers.join(list(self.stream(supply)))

    def stream(self, supply: Supply) -> Iterator[Answers]:
        """Answers to the samples of *supply* in their order, a stretch at a time, as soon as they are there."""
        lanes = max(stage.lanes for stage in self.stages)
        workers = ThreadPoolExecutor(supply.workers, "pilotfish-prepare") if supply.workers else None
        runners = ThreadPoolExecutor(lanes, "pilotfish-run")
        try:
            yield from _Run(self, supply, workers, runners, lanes).answers()
        finally:
            for pool in (workers, runners):
                if pool is not None:
                    pool.shutdown(wait=True, cancel_futures=True)


class _Run:
    """One pass over a supply: queues, batches under way, and the window of answers."""

    def __init__(
        self,
        engine: Engine,
        supply: Supply,
        workers: ThreadPoolExecutor | None,
        runners: ThreadPoolExecutor,
        lanes: int,
    ) -> None:
        self.stages, self.in_force, self.forced = engine.stages, engine.in_force, engine.forced
        self.witness, self.top_k = engine.witness, engine.top_k
        self.supply, self.workers, self.runners = supply, workers, runners
        self.most = lanes + 1  # one more than can run, so that no lane waits for the next batch to be begun
        self.sizes = [stage.batch_size for stage in self.stages]
        self.proved = [False] * len(self.stages)  # whether the stage has computed anything yet
        self.queues: list[deque[Item]] = [deque() for _ in self.stages]
        self.begun: deque[tuple[int, Future[Called]]] = deque()
        self.window = Window(engine.window)
        self.memory = Memory(engine.window, len(self.stages))
        self.ended = False
        self.closed = [False] * len(self.stages)

    def answers(self) -> Iterator[Answers]:
        while True:
            self._fill()
            chosen = self._choose() if len(self.begun) < self.most else None
            if chosen is not None:
                self._begin(*chosen)
                continue
            if not self.begun:
                return
            k, future = self.begun.popleft()
            self._commit(k, future.result())
            while (ready := self.window.ready()) is not None:
                yield ready

    def _fill(self) -> None:
        """Read on until the first queue holds a batch for every lane and one more."""
        wanted = self.sizes[0] * (self.stages[0].lanes + 1) + self.supply.workers
        while not self.ended and len(self.queues[0]) < wanted and self.window.room:
            asked = min(wanted - len(self.queues[0]), self.window.room)
            n = self.supply.take(asked)
            self.ended = n < asked
            first = self.window.end
            self.window.read(n)
            self._prepare(0, range(first, first + n))

    def _prepare(self, stage: int, rows: Sequence[int]) -> None:
        """Queue samples for *stage*; their inputs are made in threads meanwhile."""
        if self.workers is None or self.stages[stage].shares:
            self.queues[stage].extend(Item(row) for row in rows)
            return
        size = max(1, min(-(-len(rows) // self.supply.workers), -(-self.sizes[stage] // self.supply.workers)))
        for start in range(0, len(rows), size):
            chunk = rows[start : start + size]
            future = self.workers.submit(_prepare, self.supply, stage, chunk)
            self.queues[stage].extend(Item(row, future, i) for i, row in enumerate(chunk))

    def _choose(self) -> tuple[int, int] | None:
        """(stage, how many samples) of the next batch; None when results must be awaited first.

        Full batches of late stages come first: they hold the most memory. A batch that will never fill, because
        nothing can come any more or because the window is full, goes as it is.
        """
        self._close()
        for k in reversed(range(len(self.stages))):
            if len(self.queues[k]) >= (1 if self.closed[k] else self.sizes[k]):
                return k, min(self.sizes[k], len(self.queues[k]))
        if not self.begun and not self.window.room:
            k = min((k for k, queue in enumerate(self.queues) if queue), key=lambda k: self.queues[k][0].row)
            return k, min(self.sizes[k], len(self.queues[k]))
        return None

    def _close(self) -> None:
        """Mark the stages to which nothing can come any more; the rest is shared evenly, so that lanes end together."""
        if not self.ended:
            return
        for k, queue in enumerate(self.queues):
            if not self.closed[k]:
                self.closed[k] = True
                lanes = self.stages[k].lanes
                if lanes > 1 and queue:
                    batches = lanes * -(-len(queue) // (lanes * self.sizes[k]))
                    self.sizes[k] = -(-len(queue) // batches)
            if queue or any(stage == k for stage, _ in self.begun):
                return

    def _begin(self, k: int, n: int) -> None:
        items = [self.queues[k].popleft() for _ in range(n)]
        top_k, task = max(self.top_k, self.in_force.top_k(k)), self.in_force.task
        self.begun.append((k, self.runners.submit(call, self.stages[k], k, items, self.supply, top_k, task)))

    def _commit(self, k: int, called: Called) -> None:
        """Note the answers of a batch, and send the survivors on."""
        if called.fault is not None and not self.proved[k]:
            raise called.fault  # the stage never worked: the model is at fault and not a sample
        if called.shrink is not None:
            self.sizes[k] = min(self.sizes[k], called.shrink)
        for row, reason in called.errors.items():
            self.window.fail(row, reason)
        self.supply.drop(called.errors)
        if called.outputs is None:
            return
        self.proved[k] = True
        if self.witness is not None:
            self.witness(k, called.rows, called.outputs)
        stays = self._decide(k, called)
        survivors = called.rows[stays].tolist()
        self.supply.drop(called.rows[~stays].tolist())
        if k + 1 == len(self.stages):
            for row in survivors:
                self.window.fail(row, f"the outputs of {self.stages[k].name} are not finite")
            return
        self._prepare(k + 1, survivors)
        if self.stages[k + 1].shares and called.carry is not None:
            queue = self.queues[k + 1]
            for i, place in enumerate(places(called.carry, stays), len(queue) - len(survivors)):
                queue[i].carry = place

    def _decide(self, k: int, called: Called) -> NDArray[np.bool_]:
        """Note who exits with what; returns who goes on."""
        rows, outputs, rule = called.rows, called.outputs, self.in_force.rule
        assert outputs is not None
        so_far = [*(self.memory.read(j, rows) for j in range(k)), outputs] if rule.remembers else [outputs]
        decision = decide(rule, self.in_force.scores, k, so_far, len(self.stages))
        exits = self.in_force.point.leaves(k, decision.values)  # NaN, from outputs that are not finite, never exits
        if self.forced is not None:
            exits = self.forced[rows] == k
        self.window.answer(rows[exits], decision.prediction[exits], decision.shown[exits], k)
        if rule.remembers and k + 1 < len(self.stages):
            self.memory.write(k, rows[~exits], outputs.take(~exits))
        return ~exits


def _prepare(supply: Supply, stage: int, rows: Sequence[int]) -> list[Any]:
    """In a thread: what each sample's batch needs, or the exception that it raised."""
    found: list[Any] = []
    for row in rows:
        try:
            found.append(supply.prepare(stage, row))
        except Exception as error:  # the data's or the user's own code; it costs this sample alone
            found.append(error)
    return found
