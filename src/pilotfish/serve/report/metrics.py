"""Counts for each served cascade. They are plain numbers under one lock: a request costs a few microseconds, and
/metrics, the statistics and the console read the same counts."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pilotfish.cascade import Artefact
from pilotfish.serve.report.latencies import BUCKETS, Latencies
from pilotfish.serve.watch.spending import stage_costs

if TYPE_CHECKING:
    from pilotfish.serve.point import Point
    from pilotfish.serve.served import Served
    from pilotfish.serve.watch.drift import Alarm

BATCHES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)  # inputs
# Why there is no answer. A cause in neither list is counted as "other", which bounds the label values.
SHED = ("full", "warming", "draining", "deadline", "governed", "gone", "cut_off")
ERRORS = (
    "bad_request", "too_large", "unsupported", "unauthorized", "forbidden", "not_found", "slow", "bad_input", "model",
    "internal", "other",
)  # fmt: skip
BY_INPUT = ("deadline", "governed", "gone", "cut_off", "bad_input", "model")
"""Causes that count inputs of accepted requests; all others count requests."""
FLAGS = ("governed", "base_failed", "unsure", "shadow", "other")
ALARMS = ("exit ratio up", "exit ratio down", "score up", "score down", "other")


class Histogram:
    """Counts of values in buckets. bounds: their upper ends, rising; values above all have a count of their own."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds, self.counts, self.sum = tuple(bounds), [0] * (len(bounds) + 1), 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


@dataclass
class StageCounts:
    """Counts of one stage. answered: inputs in total; at_point: inputs since the operating point moved; escalated:
    inputs sent on; queue: seconds that inputs waited; compute: seconds per batch; sizes: inputs per batch."""

    answered: int = 0
    at_point: int = 0
    escalated: int = 0
    queue: Histogram = field(default_factory=lambda: Histogram(BUCKETS))
    compute: Histogram = field(default_factory=lambda: Histogram(BUCKETS))
    sizes: Histogram = field(default_factory=lambda: Histogram(BATCHES))


class Causes:
    """Counts requests and inputs without an answer, by cause: load that was shed, and errors."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.shed, self.errors = dict.fromkeys(SHED, 0), dict.fromkeys(ERRORS, 0)

    def refused(self, cause: str, n: int = 1) -> None:
        """Count *n* of them for *cause*, one of SHED and ERRORS."""
        with self._lock:
            if cause in self.shed:
                self.shed[cause] += n
            else:
                self.errors[cause if cause in self.errors else "other"] += n


class Meter:
    """Counts of one cascade, from any thread.

        meter = Meter(cascade.artefact)
        meter.received(1)
        meter.answered(served, seconds)

    artefact  states how many stages there are and what they cost
    clock     monotonic seconds

    Attributes are counts; hold ``lock`` to read several consistently.
    """

    def __init__(self, artefact: Artefact, clock: Callable[[], float] = time.monotonic) -> None:
        self.lock = threading.Lock()
        self.stages: list[StageCounts] = []
        self.latencies = Latencies(0, clock=clock)
        self.began = time.time()
        self.requests = self.inputs = 0
        self.causes = Causes()
        self.flags = dict.fromkeys(FLAGS, 0)
        self.alarms = dict.fromkeys(ALARMS, 0)
        self.moves = self.audits = 0
        self.reloads = {"loaded": 0, "failed": 0}
        self.last = 0.0  # Unix time of the last answer
        self.succeeded, self.failed = [0, 0.0], [0, 0.0]  # requests, seconds
        self.batches: dict[int, list[float]] = {}  # by size: number, seconds
        self.queue_seconds = self.input_seconds = 0.0  # waiting and computing, summed over inputs
        self.spent = self.base_alone = 0.0
        self.cost_key: str | None = None
        self._of(artefact)

    def _of(self, artefact: Artefact) -> None:
        """Count for the stages of *artefact* from now on; a changed folder may have more of them."""
        while len(self.stages) < len(artefact.stages):
            self.stages.append(StageCounts())
            self.latencies.one_more()
        if artefact.cost_key != self.cost_key:  # amounts in two units have no sum
            self.spent = self.base_alone = 0.0
        self.cost_key = artefact.cost_key
        self.costs, self.base_cost = stage_costs(artefact) or (), artefact.base_cost or 0.0

    # Called by the server for each request

    def received(self, n: int) -> None:
        """Count an accepted request of *n* inputs."""
        with self.lock:
            self.requests += 1
            self.inputs += n

    def answered(self, served: Served, seconds: float) -> None:
        """Count the answer or error of one input, *seconds* after its request was read."""
        answer = served.answer
        if answer.stage is None:
            self.causes.refused(served.cause or "other")
            return
        with self.lock:
            stage = self.stages[answer.stage]
            stage.answered += 1
            stage.at_point += 1
            self.latencies.add(answer.stage, seconds)
            if answer.stage < len(self.costs):  # unless the cascade was longer before its folder was reloaded
                # In shadow mode the base answers everything: the cascade then costs more than the base alone.
                self.spent += self.costs[answer.stage]
                self.base_alone += self.base_cost
            for flag in served.flags:
                self.flags[flag if flag in self.flags else "other"] += 1

    def replied(self, seconds: float, failed: bool = False) -> None:
        """Count a reply to a request. failed: as a whole, or in all its inputs."""
        with self.lock:
            counts = self.failed if failed else self.succeeded
            counts[0] += 1
            counts[1] += seconds
            self.last = time.time()

    def refused(self, cause: str, n: int = 1) -> None:
        """Count a request, or *n* inputs of one, without an answer because of *cause*, one of SHED and ERRORS."""
        self.causes.refused(cause, n)

    # Called by the engine for each batch

    def batch(self, stage: int, n: int, waited: Sequence[float], seconds: float) -> None:
        """Count a batch of *stage*: *n* inputs in *seconds*. waited: the seconds that each spent in the queue."""
        with self.lock:
            counts = self.stages[stage]
            for wait in waited:
                counts.queue.add(wait)
                self.queue_seconds += wait
            counts.compute.add(seconds)
            counts.sizes.add(n)
            self.input_seconds += n * seconds
            of_size = self.batches.setdefault(n, [0, 0.0])
            of_size[0] += 1
            of_size[1] += seconds

    def escalated(self, stage: int, n: int = 1) -> None:
        """Count *n* inputs that *stage* sent on."""
        with self.lock:
            self.stages[stage].escalated += n

    # Rare events

    def audited(self, stage: int) -> None:
        """Count an exit of *stage* that the base answered as well."""
        with self.lock:
            self.audits += 1
            if stage < len(self.costs):
                self.spent += self.costs[-1] - self.costs[stage]  # the stages after its exit

    def alarmed(self, alarm: Alarm) -> None:
        """Count an alarm by its ``kind`` and ``direction``."""
        kind = f"{alarm.kind} {alarm.direction}"
        with self.lock:
            self.alarms[kind if kind in self.alarms else "other"] += 1

    def moved(self, point: Point) -> None:
        """Count a move to *point*; exit ratios start anew."""
        with self.lock:
            self.moves += 1
            for stage in self.stages:
                stage.at_point = 0
            self._of(point.artefact)

    def reloaded(self, well: bool) -> None:
        """Count a reload of a changed folder. well: whether it could be loaded."""
        with self.lock:
            self.reloads["loaded" if well else "failed"] += 1

    # Read by reports

    def exit_ratio(self) -> list[float] | None:
        """Share of the inputs answered by each stage since the operating point moved; None before the first."""
        with self.lock:
            counts = [stage.at_point for stage in self.stages]
        total = sum(counts)
        return [n / total for n in counts] if total else None

    def saved(self) -> float | None:
        """Share of the base's cost saved since the start; negative if the cascade costs more. None if costs are unknown
        or nothing was answered."""
        with self.lock:
            return 1 - self.spent / self.base_alone if self.base_alone > 0 else None

    def recent(self) -> NDArray[np.int64]:
        """int64 (stages, fine buckets): latencies of the last minutes, for ``quantiles_of``."""
        with self.lock:
            return self.latencies.recent()

    def answer_seconds(self) -> list[tuple[list[int], float]]:
        """By stage: counts of answers in each of BUCKETS and above them, and the sum of their seconds."""
        with self.lock:
            return list(zip(self.latencies.counts.tolist(), self.latencies.sums, strict=True))
