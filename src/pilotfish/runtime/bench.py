"""What the cascade costs in time, beside what arithmetic allows.

Ideal time per sample = sum over stages of (share of samples that reach the stage) x (time of the stage alone), for a
pair t_S + (1 - r) t_B. A stage alone is the same engine with that one stage, at its own best batch size. Every
measurement is repeated in turn (stage, stage, cascade, stage, …), so that a noisy machine harms them alike; the
efficiency of a run is its own ideal divided by its own realised time.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.cascade import ALONE
from pilotfish.data import Dataset
from pilotfish.errors import DataError, UnreadableSample, UsageError
from pilotfish.models.machine import cpu_count, describe_machine
from pilotfish.models.timing import time_batches
from pilotfish.runtime.cascade import Cascade
from pilotfish.runtime.engine import Answers, Engine, EngineStage
from pilotfish.runtime.supply import DecodingSupply, Supply, TensorSupply

DEFAULT_SAMPLES = 500
MAX_TENSOR_BYTES = 4 * 2**30
Tell = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Spread:
    """Median, least and largest of several runs, in milliseconds per sample (or a ratio)."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of *values*."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Times:
    """One kind of measurement: the models alone, or from file to answer."""

    stages_ms: tuple[Spread, ...]
    ideal_ms: Spread
    realised_ms: Spread
    efficiency: Spread

    def to_json(self) -> dict[str, Any]:
        """Medians under the documented keys, spreads beside them."""
        return {
            "stages_ms": [s.median for s in self.stages_ms],
            "ideal_ms": self.ideal_ms.median,
            "realised_ms": self.realised_ms.median,
            "efficiency": self.efficiency.median,
            "spread": {
                "stages_ms": [[s.low, s.high] for s in self.stages_ms],
                "ideal_ms": [self.ideal_ms.low, self.ideal_ms.high],
                "realised_ms": [self.realised_ms.low, self.realised_ms.high],
                "efficiency": [self.efficiency.low, self.efficiency.high],
            },
        }


@dataclass(frozen=True)
class BenchResult:
    """The outcome of :func:`bench`. speedup: the base alone ÷ the cascade, end to end, median of the runs' ratios."""

    machine: dict[str, Any]
    stages: tuple[str, ...]
    batch_sizes: tuple[int, ...]
    n: int
    runs: int
    forced: float | None
    exit_ratio: tuple[float, ...]
    model_only: Times
    end_to_end: Times
    speedup: Spread

    def to_json(self) -> dict[str, Any]:
        """The document of ``pilotfish bench --json``."""
        return {
            "machine": self.machine,
            "stages": list(self.stages),
            "batch_sizes": list(self.batch_sizes),
            "n": self.n,
            "runs": self.runs,
            "forced_exit_ratio": self.forced,
            "exit_ratio": list(self.exit_ratio),
            "model_only": self.model_only.to_json(),
            "end_to_end": self.end_to_end.to_json(),
            "speedup": self.speedup.median,
            "speedup_spread": [self.speedup.low, self.speedup.high],
        }


def bench(
    cascade: Cascade,
    data: Dataset,
    *,
    exit_ratio: float | None = None,
    runs: int = 5,
    samples: int = DEFAULT_SAMPLES,
    workers: int | None = None,
    progress: Tell | None = None,
) -> BenchResult:
    """Time *cascade* on up to *samples* samples of *data*.

    exit_ratio  forces this share of the samples (chosen at random, the same in every run) to exit at the first stage
    progress    called with (what, runs done, runs in all)
    """
    if exit_ratio is not None and not 0 <= exit_ratio <= 1:
        raise UsageError(f"exit_ratio is a share from 0 to 1, found {exit_ratio}")
    if runs < 1 or samples < 1:
        raise UsageError(f"runs and samples must be at least 1, found {runs} and {samples}")
    tell = progress or (lambda *_: None)
    rows, tensors = _prepare(cascade, data, samples, tell)
    stages = _tuned(cascade, tensors, tell)
    forced = None if exit_ratio is None else _forced(len(rows), exit_ratio, len(stages))
    pool = workers or cpu_count()

    def decoding(which: slice) -> Supply:
        preprocessing = [model.preprocessing for model in cascade.models[which]]
        return DecodingSupply(lambda i: data.read(rows[i]), len(rows), preprocessing, pool)

    alone, answers = _timed(cascade, stages, lambda which: TensorSupply(tensors[which]), forced, runs, tell, "models")
    whole, _ = _timed(cascade, stages, decoding, forced, runs, tell, "end to end")
    share = tuple(answers.exit_ratio(len(stages)))
    return BenchResult(
        machine=describe_machine(),
        stages=tuple(stage.name for stage in stages),
        batch_sizes=tuple(stage.batch_size for stage in stages),
        n=len(rows),
        runs=runs,
        forced=exit_ratio,
        exit_ratio=share,
        model_only=_times(alone, share),
        end_to_end=_times(whole, share),
        speedup=Spread.of([run[len(stages) - 1] / run[-1] for run in whole]),
    )


def _prepare(cascade: Cascade, data: Dataset, samples: int, tell: Tell) -> tuple[list[int], list[NDArray[np.float32]]]:
    """Readable samples, and their tensors for every stage."""
    rows: list[int] = []
    tensors: list[list[NDArray[np.float32]]] = [[] for _ in cascade.models]
    size = 0
    limit = min(samples, len(data))
    for row in range(len(data)):
        if len(rows) == limit or size > MAX_TENSOR_BYTES:
            break
        try:
            sample = data.read(row)
            made = [model.preprocessing(sample) for model in cascade.models]
        except UnreadableSample:
            continue
        rows.append(row)
        for held, tensor in zip(tensors, made, strict=True):
            held.append(tensor)
            size += tensor.nbytes
        tell("reading samples", len(rows), limit)
    if not rows:
        raise DataError(f"none of the {len(data)} samples of {data.spec} could be read")
    return rows, [np.stack(held) for held in tensors]


def _tuned(cascade: Cascade, tensors: Sequence[NDArray[np.float32]], tell: Tell) -> list[EngineStage]:
    """Each stage at the batch size that is fastest here and now."""
    stages = []
    for k, (stage, tensor) in enumerate(zip(cascade.engine_stages(), tensors, strict=True)):
        tell("finding batch sizes", k, len(tensors))
        best = time_batches(stage.backend, tensor.shape[1:], seconds=6.0).best
        stages.append(EngineStage(stage.name, stage.backend, min(best, len(tensor))))
    tell("finding batch sizes", len(tensors), len(tensors))
    return stages


def _forced(n: int, exit_ratio: float, stages: int) -> NDArray[np.int64]:
    """The stage that answers each sample: the first for a random share, the last for the others."""
    forced = np.full(n, stages - 1, np.int64)
    forced[np.random.default_rng(0).permutation(n)[: round(exit_ratio * n)]] = 0
    return forced


def _timed(
    cascade: Cascade,
    stages: Sequence[EngineStage],
    supply: Callable[[slice], Supply],
    forced: NDArray[np.int64] | None,
    runs: int,
    tell: Tell,
    what: str,
) -> tuple[list[list[float]], Answers]:
    """Milliseconds per sample of each stage alone and of the cascade, run by run; one run first is not counted."""
    single = [Engine([stage], ALONE) for stage in stages]
    full = Engine(stages, cascade.artefact.in_force, forced)
    found: list[list[float]] = []
    for turn in range(runs + 1):
        times = [_milliseconds(engine, supply(slice(k, k + 1)))[0] for k, engine in enumerate(single)]
        ms, answers = _milliseconds(full, supply(slice(None)))
        if turn:
            found.append([*times, ms])
        tell(what, turn, runs)
    return found, answers


def _milliseconds(engine: Engine, supply: Supply) -> tuple[float, Answers]:
    n = len(supply)
    start = time.perf_counter()
    if isinstance(supply, DecodingSupply):
        with supply:
            answers = engine.run(supply)
    else:
        answers = engine.run(supply)
    return 1000 * (time.perf_counter() - start) / n, answers


def _times(runs: Sequence[Sequence[float]], exit_ratio: Sequence[float]) -> Times:
    reached = 1.0 - np.concatenate([[0.0], np.cumsum(exit_ratio)[:-1]])
    ideal = [float(reached @ np.array(run[:-1])) for run in runs]
    realised = [run[-1] for run in runs]
    return Times(
        stages_ms=tuple(Spread.of(list(column)) for column in list(zip(*runs, strict=True))[:-1]),
        ideal_ms=Spread.of(ideal),
        realised_ms=Spread.of(realised),
        efficiency=Spread.of([i / r for i, r in zip(ideal, realised, strict=True)]),
    )
