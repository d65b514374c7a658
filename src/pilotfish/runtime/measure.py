"""Which backend, batch size, threads and lanes are fastest for one stage, by running it in the engine."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.cascade import ALONE, InForce
from pilotfish.machine import cpu_count
from pilotfish.models.model import Backend
from pilotfish.runtime.choice import StageRuntime
from pilotfish.runtime.engine import Engine
from pilotfish.runtime.stage import EngineStage
from pilotfish.runtime.supply import TensorSupply
from pilotfish.tasks import CLASSES, Task

F32 = NDArray[np.float32]
CPU_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
CUDA_SIZES = (1, 8, 32, 64, 128, 256, 512)
FIRST_LOOK = 8  # batch size at which backends are compared before sizes are
CLOSE = 1.25  # a backend this much slower in the first round than the best with as many lanes is dropped
SAME = 1.015  # of two sizes this close the smaller is chosen
CONTENDERS = (1.6, 1.3, 1.15, 1.1, 1.07, 1.05, 1.05, 1.05)  # after each round, ways this close to the best stay in
LEAST = 16  # samples of one measurement, at least
LONG = 0.03  # minimum seconds of one measurement: in less, starting and ending threads would count
SHARE = 0.05  # of the given time: the most that one measurement of a large batch may take
QUICK = 0.005  # milliseconds per sample that the engine itself takes


@dataclass(frozen=True)
class Measured:
    """One way to run a stage. ms: the least milliseconds per sample."""

    backend: str
    batch_size: int
    threads: int | None
    lanes: int
    ms: float


@dataclass(frozen=True, eq=False)
class _Way:
    name: str
    backend: Backend
    threads: int | None
    lanes: int
    in_force: InForce


def fastest(
    backends: Mapping[str, Backend],
    given: Sequence[int] | F32,
    device: str,
    seconds: float,
    tell: Callable[[int, int], None] = lambda done, of: None,
    task: Task = CLASSES,
) -> tuple[StageRuntime, tuple[Measured, ...]]:
    """The fastest way to run a stage, and everything that was measured, fastest first.

    backends  the stage's model on each backend that may be chosen
    given     the shape of one input, for random inputs; or the inputs themselves, for samples that are passed on whole
    seconds   about how long this may take, beyond two calls of each way
    task      what an answer is: reducing it is timed as well

    Ways are measured in turn, round by round, so that a busy moment affects all of them equally, and slow ones drop
    out. The least time of each counts, since other work on the machine can only add time. For every number of lanes
    some way is measured at every size, because stages have to agree on one number. On a CPU, sizes that would take long
    are skipped.
    """
    ways = [way for name, backend in backends.items() for way in _ways(name, backend, device, task)]
    rng = np.random.default_rng(0)
    shape = given.shape[1:] if isinstance(given, np.ndarray) else given
    many = (max(LEAST, 2 * FIRST_LOOK * cpu_count()), *shape)
    real = isinstance(given, np.ndarray)
    inputs = np.resize(given, many) if real else rng.standard_normal(many, dtype=np.float32)
    long = 1000 * min(LONG, seconds / 100)
    look: dict[_Way, float] = {}
    for way in ways:
        _warm(way, FIRST_LOOK, inputs)
        look[way] = _run(way, FIRST_LOOK, inputs, len(inputs))
    for way in (way for way in ways if look[way] * len(inputs) < long):
        look[way] = min(_run(way, FIRST_LOOK, inputs, _samples(way, FIRST_LOOK, look[way], long)) for _ in range(2))
    least = {lanes: min(ms for way, ms in look.items() if way.lanes == lanes) for lanes in {way.lanes for way in ways}}
    kept = [way for way in ways if look[way] <= CLOSE * least[way.lanes]]
    times: dict[tuple[_Way, int], list[float]] = {}
    pace = dict(look)  # time per sample with the last size
    sizes = CUDA_SIZES if device.startswith("cuda") else CPU_SIZES
    options, end = [(way, size) for size in sizes for way in kept], time.perf_counter() + seconds
    for turn, close in enumerate(CONTENDERS):
        for i, (way, size) in enumerate(options):
            tell(turn * len(options) + i, len(CONTENDERS) * len(options))
            if (turn or size > FIRST_LOOK) and time.perf_counter() > end:  # a slow stage needs no large batches
                break
            n = _samples(way, size, pace[way], long)
            if not turn:
                if size > FIRST_LOOK and n * pace[way] > 1000 * SHARE * seconds:
                    continue
                _warm(way, size, inputs)
            pace[way] = _run(way, size, inputs, n)
            times.setdefault((way, size), []).append(pace[way])
        best_so_far = min(map(min, times.values()))
        options = [option for option, ms in times.items() if option in options and min(ms) <= close * best_so_far]
    tell(1, 1)
    found = [Measured(way.name, size, way.threads, way.lanes, min(ms)) for (way, size), ms in times.items()]
    found += [Measured(w.name, FIRST_LOOK, w.threads, w.lanes, ms) for w, ms in look.items() if w not in kept]
    ranked = tuple(sorted(found, key=lambda m: m.ms))
    return best_of(ranked), ranked


def best_of(ranked: Sequence[Measured]) -> StageRuntime:
    """The fastest of *ranked* (fastest first); among those that are nearly equal the one with the smallest batch."""
    best = min((m for m in ranked if m.ms <= SAME * ranked[0].ms), key=lambda m: m.batch_size * m.lanes)
    return StageRuntime(best.backend, best.batch_size, best.threads, best.lanes, best.ms)


def agreed(measured: Sequence[Sequence[Measured]], reached: Sequence[float]) -> list[StageRuntime]:
    """One way for each stage, all with the same number of lanes: a call on all cores would wait for those on one.

    measured  what was measured of each stage, fastest first
    reached   share of the samples that reach each stage
    """
    best: tuple[float, list[StageRuntime]] | None = None
    for lanes in sorted({m.lanes for ranked in measured for m in ranked}):
        kept = [[m for m in ranked if m.lanes == lanes] for ranked in measured]
        if all(kept):
            chosen = [best_of(ranked) for ranked in kept]
            spent = sum(share * (one.ms or 0.0) for share, one in zip(reached, chosen, strict=True))
            if best is None or spent < best[0]:
                best = (spent, chosen)
    return best[1] if best is not None else [best_of(ranked) for ranked in measured]


def _ways(name: str, backend: Any, device: str, task: Task) -> list[_Way]:
    """Threads and lanes worth trying."""
    alone = dataclasses.replace(ALONE, task=task)
    if device.startswith("cuda"):  # while one lane waits for the device, the other prepares its batch
        return [_Way(name, backend, None, 1, alone), _Way(name, backend, None, 2, alone)]
    cores = cpu_count()
    if not hasattr(backend, "with_threads"):
        return [_Way(name, backend, None, 1, alone)]
    ways = [_Way(name, backend.with_threads(cores), cores, 1, alone)]
    return ways if cores == 1 else [*ways, _Way(name, backend.with_threads(1), 1, cores, alone)]


def _samples(way: _Way, size: int, pace: float, long: float) -> int:
    """How many samples one measurement takes: at least two full batches for every lane, to last *long* milliseconds at
    *pace* milliseconds per sample."""
    full = size * way.lanes
    return full * math.ceil(max(LEAST, 2 * full, long / max(pace, QUICK)) / full)


def _warm(way: _Way, size: int, inputs: Any) -> None:
    """Run what happens only once: a backend may prepare for each batch size, in each lane."""
    _run(way, size, inputs, size * way.lanes)


def _run(way: _Way, size: int, inputs: Any, n: int) -> float:
    """Milliseconds per sample of the engine with this stage alone, over *n* samples that repeat *inputs*."""
    held = np.resize(inputs, (size * max(1, len(inputs) // size), *inputs.shape[1:]))  # batches are slices of it
    engine = Engine([EngineStage(way.name, way.backend, size, way.lanes)], way.in_force)
    start = time.perf_counter()
    engine.run(TensorSupply([held], n))
    return 1000 * (time.perf_counter() - start) / n
