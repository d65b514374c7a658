"""What one input at a time takes, and how much of it is the cascade's own work."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from pilotfish.models.model import F32, Backend, Carry
from pilotfish.runtime.cascade import Cascade
from pilotfish.runtime.single import answer_one
from pilotfish.runtime.spread import Spread
from pilotfish.runtime.stage import EngineStage
from pilotfish.runtime.times import SingleTimes

SINGLE_CALLS = 60


def milliseconds(run: Callable[[], Any], n: int) -> float:
    """What *run* takes, divided by *n*."""
    start = time.perf_counter()
    run()
    return 1000 * (time.perf_counter() - start) / n


class _Clocked:
    """A backend whose last call's duration is known."""

    name = "clocked"

    def __init__(self, backend: Backend) -> None:
        self.backend, self.ms = backend, 0.0

    def step(self, inputs: F32 | None, carry: Carry | None = None) -> tuple[F32, Carry | None]:
        start = time.perf_counter()
        found = self.backend.step(inputs, carry)
        self.ms = 1000 * (time.perf_counter() - start)
        return found


def single_times(cascade: Cascade, inputs: F32, runs: int) -> SingleTimes:
    """One input that exits at the first stage: the whole call, and the stage's own call inside it. What the first
    takes beyond the second is far less than what either varies by, so it is taken call by call.

    inputs  float32 (M, …), of the first stage
    runs    medians of so many turns are kept; one turn before them is not counted
    """
    stages, in_force = cascade.single_stages, cascade.artefact.in_force
    clocked = _Clocked(stages[0].backend)
    stages = [EngineStage(stages[0].name, clocked, 1), *stages[1:]]
    found = []
    for _ in range(runs + 1):
        turn = []
        for i in range(SINGLE_CALLS):
            one = inputs[i % len(inputs)]
            ms = milliseconds(lambda x=one: answer_one(stages, in_force, lambda _: x, forced=0), 1)  # type: ignore[misc]
            turn.append((clocked.ms, ms, ms - clocked.ms))
        found.append(np.median(np.array(turn), axis=0).tolist())
    saver, cascade_ms, overhead = zip(*found[1:], strict=True)
    return SingleTimes(Spread.of(saver), Spread.of(cascade_ms), Spread.of(overhead))
