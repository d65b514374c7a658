"""Times of one input at a time: the cascade's own overhead, and how long a request takes."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.cascade import ALONE
from pilotfish.machine import cpu_count
from pilotfish.models.model import F32, Backend, Carry
from pilotfish.runtime.cascade import Cascade
from pilotfish.runtime.shared import whole
from pilotfish.runtime.single import answer_one, prepared
from pilotfish.runtime.spread import Latency, Spread
from pilotfish.runtime.times import Requests, SingleTimes

SINGLE_CALLS = 60
REQUESTS = 500  # at most: the p99 of 200 is the second largest, and more take long if the base is slow
TURN = 20  # requests of each in turn: a busy moment affects all equally, and each has its own weights cached
UNCOUNTED = 3
MOST_ANSWERS, LEAST_ANSWERS = 200, 30  # timed for a limit on the p95


def milliseconds(run: Callable[[], Any], n: int) -> float:
    """Milliseconds that *run* takes, divided by *n*."""
    start = time.perf_counter()
    run()
    return 1000 * (time.perf_counter() - start) / n


class _Clocked:
    """A backend that measures the duration of its last call."""

    name = "clocked"

    def __init__(self, backend: Backend) -> None:
        self.backend, self.ms = backend, 0.0

    def step(self, inputs: F32 | None, carry: Carry | None = None) -> tuple[F32, Carry | None]:
        start = time.perf_counter()
        found = self.backend.step(inputs, carry)
        self.ms = 1000 * (time.perf_counter() - start)
        return found


def time_one_input(cascade: Cascade, inputs: F32, runs: int, requests: Requests) -> SingleTimes:
    """One input that exits at the first stage: the whole call, and the stage's own call inside it. Their difference is
    far smaller than the variation of either, so it is computed call by call.

    inputs    float32 (M, …), of the first stage
    runs      medians over this many turns are kept; the first turn is not counted
    requests  the result of :func:`time_requests`, to report with it
    """
    stages, in_force = cascade.single_stages, cascade.artefact.in_force
    clocked = _Clocked(stages[0].backend)
    stages = [dataclasses.replace(stages[0], backend=clocked), *stages[1:]]
    found = []
    for _ in range(runs + 1):
        turn = []
        for i in range(SINGLE_CALLS):
            one = inputs[i % len(inputs), ...]  # an array also where it holds a sample
            ms = milliseconds(lambda x=one: answer_one(stages, in_force, lambda _: x, forced=0), 1)  # type: ignore[misc]
            turn.append((clocked.ms, ms, ms - clocked.ms))
        found.append(np.median(np.array(turn), axis=0).tolist())
    saver, cascade_ms, overhead = zip(*found[1:], strict=True)
    return SingleTimes(Spread.of(saver), Spread.of(cascade_ms), Spread.of(overhead), requests)


def time_requests(
    cascade: Cascade,
    read: Callable[[int], Any],
    rows: Sequence[int],
    forced: NDArray[np.int64] | None,
    tell: Callable[[int, int], None],
) -> Requests:
    """Requests one after the other, from file to answer, as :meth:`Cascade.predict_one` answers them.

    read    a sample by its row
    rows    the samples to request, each once from saver, base and cascade
    forced  int64, the stage that answers each row in the cascade; None if scores decide
    tell    called with (requests done, requests in all)
    """
    stages, chains = cascade.single_stages, [model.preprocessing for model in cascade.models]
    base, choice = stages[-1], cascade.choices[-1]
    if base.shares:
        threads = choice.threads and cpu_count()
        base = dataclasses.replace(base, backend=whole(cascade.models[-1], choice.backend, threads), shares=False)
    in_force = cascade.artefact.in_force
    alone = dataclasses.replace(ALONE, task=in_force.task)
    ways = ((stages[:1], alone, chains[:1]), ([base], alone, chains[-1:]), (stages, in_force, chains))
    ms: list[list[float]] = [[], [], []]
    exits = np.zeros(len(stages), np.int64)
    for first in range(0, len(rows), TURN):
        tell(first, len(rows))
        turn = rows[first : first + TURN]
        for found, (run, point, own) in zip(ms, ways, strict=True):
            for i, row in enumerate((*turn[:UNCOUNTED], *turn)):
                stop = None if forced is None or point is alone else int(forced[row])
                start = time.perf_counter()
                answer = answer_one(run, point, prepared(lambda row=row: read(row), own), stop)  # type: ignore[misc]
                if i >= min(UNCOUNTED, len(turn)):
                    found.append(1000 * (time.perf_counter() - start))
                    exits[answer.stage] += point is in_force and answer.error is None
    tell(len(rows), len(rows))
    share = tuple(float(x) for x in exits / max(1, exits.sum()))
    return Requests(len(rows), share, *(Latency.of(found) for found in ms))


def time_answers(
    cascade: Cascade, read: Callable[[int], Any], rows: NDArray[np.intp], seconds: float = 3.0
) -> NDArray[np.float64]:
    """Times of single requests, in ms, from file to answer as :meth:`Cascade.predict_one` answers them: those of *rows*
    in turn, up to 200 within about *seconds*, but at least 30. Those that cannot be answered are left out.

    read  a sample by its row
    """
    stages, chains = cascade.single_stages, [model.preprocessing for model in cascade.models]
    in_force, found, end = cascade.artefact.in_force, [], time.perf_counter() + seconds
    for row in np.resize(rows, UNCOUNTED + MOST_ANSWERS).tolist():
        start = time.perf_counter()
        answer = answer_one(stages, in_force, prepared(lambda row=row: read(row), chains))  # type: ignore[misc]
        done = time.perf_counter()
        if answer.error is None:
            found.append(1000 * (done - start))
        if len(found) >= UNCOUNTED + LEAST_ANSWERS and done > end:
            break
    return np.array(found[UNCOUNTED:])
