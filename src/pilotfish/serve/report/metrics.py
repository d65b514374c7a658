"""What is counted of a cascade while it is served. Counts are plain numbers under one lock: a request costs a few
microseconds, and /metrics, the statistics and the console read the same ones."""

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
# Why there is no answer. What stands in neither list is counted as "other": labels are bounded.
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
    """How often values lay in buckets. bounds: the upper ends, rising; what is above all has a count of its own."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds, self.counts, self.sum = tuple(bounds), [0] * (len(bounds) + 1), 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


@dataclass
class StageCounts:
    """What one stage did. answered: inputs in all; at_point: since the operating point moved; escalated: inputs that it
    sent on. queue: seconds that inputs waited, compute: seconds of batches, sizes: inputs of batches."""

    answered: int = 0
    at_point: int = 0
    escalated: int = 0
    queue: Histogram = field(default_factory=lambda: Histogram(BUCKETS))
    compute: Histogram = field(default_factory=lambda: Histogram(BUCKETS))
    sizes: Histogram = field(default_factory=lambda: Histogram(BATCHES))


class Causes:
    """Why requests and inputs have no answer, counted: as load that was shed, or as errors."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.shed, self.errors = dict.fromkeys(SHED, 0), dict.fromkeys(ERRORS, 0)

    def refused(self, cause: str, n: int = 1) -> None:
        """*n* of them, because of *cause*, one of SHED and ERRORS."""
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

    artefact  says how many stages there are and what they cost
    clock     seconds that never go back

    Attributes are counts; who reads several that belong together holds ``lock``.
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
        self.last = 0.0  # unix time of the last answer
        self.succeeded, self.failed = [0, 0.0], [0, 0.0]  # requests, seconds
        self.batches: dict[int, list[float]] = {}  # by size: how many, their seconds
        self.queue_seconds = self.input_seconds = 0.0  # waited, and computed: by input
        self.spent = self.base_alone = 0.0
        self.cost_key: str | None = None
        self._of(artefact)

    def _of(self, artefact: Artefact) -> None:
        """From now on answers come from the stages of *artefact*, of which a changed folder may have more."""
        while len(self.stages) < len(artefact.stages):
            self.stages.append(StageCounts())
            self.latencies.one_more()
        if artefact.cost_key != self.cost_key:  # amounts in two units have no sum
            self.spent = self.base_alone = 0.0
        self.cost_key = artefact.cost_key
        self.costs, self.base_cost = stage_costs(artefact) or (), artefact.base_cost or 0.0

    # What the server tells, request by request

    def received(self, n: int) -> None:
        """A request of *n* inputs was accepted."""
        with self.lock:
            self.requests += 1
            self.inputs += n

    def answered(self, served: Served, seconds: float) -> None:
        """One input has its answer, or its error, *seconds* after its request was read."""
        answer = served.answer
        if answer.stage is None:
            self.causes.refused(served.cause or "other")
            return
        with self.lock:
            stage = self.stages[answer.stage]
            stage.answered += 1
            stage.at_point += 1
            self.latencies.add(answer.stage, seconds)
            if answer.stage < len(self.costs):  # not of a chain that was longer before its folder was loaded again
                # The base answers everybody in shadow: there the cascade spends what the base alone does, and more.
                self.spent += self.costs[answer.stage]
                self.base_alone += self.base_cost
            for flag in served.flags:
                self.flags[flag if flag in self.flags else "other"] += 1

    def replied(self, seconds: float, failed: bool = False) -> None:
        """A request was replied to. failed: as a whole, or in all its inputs."""
        with self.lock:
            counts = self.failed if failed else self.succeeded
            counts[0] += 1
            counts[1] += seconds
            self.last = time.time()

    def refused(self, cause: str, n: int = 1) -> None:
        """A request, or *n* inputs of one, went without an answer because of *cause*, one of SHED and ERRORS."""
        self.causes.refused(cause, n)

    # What the engine tells, batch by batch

    def batch(self, stage: int, n: int, waited: Sequence[float], seconds: float) -> None:
        """*stage* computed *n* inputs in *seconds*; *waited*: the seconds that each was in its queue."""
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
        """*stage* sent *n* inputs on."""
        with self.lock:
            self.stages[stage].escalated += n

    # What is rare

    def audited(self, stage: int) -> None:
        """The base answered an exit of *stage* as well."""
        with self.lock:
            self.audits += 1
            if stage < len(self.costs):
                self.spent += self.costs[-1] - self.costs[stage]  # what comes after its exit

    def alarmed(self, alarm: Alarm) -> None:
        """An alarm was raised: its ``kind`` and ``direction`` are counted."""
        kind = f"{alarm.kind} {alarm.direction}"
        with self.lock:
            self.alarms[kind if kind in self.alarms else "other"] += 1

    def moved(self, point: Point) -> None:
        """The operating point moved to *point*: exit ratios count from here."""
        with self.lock:
            self.moves += 1
            for stage in self.stages:
                stage.at_point = 0
            self._of(point.artefact)

    def reloaded(self, well: bool) -> None:
        """The folder changed, and was loaded again, or could not be."""
        with self.lock:
            self.reloads["loaded" if well else "failed"] += 1

    # What is read

    def exit_ratio(self) -> list[float] | None:
        """Share of the inputs that each stage answered since the operating point moved; None before the first."""
        with self.lock:
            counts = [stage.at_point for stage in self.stages]
        total = sum(counts)
        return [n / total for n in counts] if total else None

    def saved(self) -> float | None:
        """Share of the base's cost that was saved since the start; None where costs are unknown, or nothing was
        answered. Below 0 the cascade costs more."""
        with self.lock:
            return 1 - self.spent / self.base_alone if self.base_alone > 0 else None

    def recent(self) -> NDArray[np.int64]:
        """int64 (stages, fine buckets): how many answers of the last minutes took how long, for ``quantiles_of``."""
        with self.lock:
            return self.latencies.recent()

    def answer_seconds(self) -> list[tuple[list[int], float]]:
        """By stage: how many answers took at most BUCKETS[i] and more than the bucket before, then more than all; and
        the seconds of all."""
        with self.lock:
            return list(zip(self.latencies.counts.tolist(), self.latencies.sums, strict=True))
