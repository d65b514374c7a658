"""An ordinal regression task, as a user would write it: nothing in the package knows of it.

An answer is a level from 0 to 10 and how far the model thinks it may be off; its quality is 1 - |error| / 10.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import ModelError
from pilotfish.scores import ScoreKind
from pilotfish.scores.outputs import SampleArrays
from pilotfish.tasks import Column, Metric, Task, register

RANGE = 10.0
F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Levels(SampleArrays):
    """level and spread: float64 (N,)."""

    level: F64
    spread: F64


def closeness(outputs: Levels, truth: F64) -> F64:
    """1 for the right level, 0 for one that is as far away as can be."""
    return np.clip(1 - np.abs(outputs.level - truth) / RANGE, 0.0, 1.0)


def reduce(raw: Any, rows: int, model: str, keep: int | str) -> Levels:
    """(n, 2) numbers, the level and the log of the spread, as levels."""
    found = np.asarray(raw)
    if found.shape != (rows, 2):
        raise ModelError(f"{model}: expected a level and a log-spread per sample, ({rows}, 2), found {found.shape}")
    return Levels(found[:, 0].astype(np.float64), np.exp(found[:, 1].astype(np.float64)))


ORDINAL = register(
    Task(
        name="ordinal",
        metric=Metric("closeness", "closeness"),
        quality=closeness,
        outputs=Levels,
        columns={"level": Column("level", np.float64), "spread": Column("spread", np.float64)},
        reduce=reduce,
        reference=lambda outputs: outputs.level,
        missing=np.float64(np.nan),
        answer=lambda outputs: outputs.level,
        scores={"sure": ScoreKind("sure", lambda outputs, _: -outputs.spread)},
    )
)


def answers(reading: NDArray[np.float32], spread: NDArray[np.float32]) -> NDArray[np.float64]:
    """The raw answer; a reading of 99 is none."""
    return np.stack([np.where(reading == 99, np.nan, reading), np.log(spread)], axis=1).astype(np.float64)


def quick(batch: NDArray[np.float32]) -> NDArray[np.float64]:
    """The saver: a cheap reading of the level, off by as much as the sample is hard."""
    return answers(batch[:, 1], 4 * (0.05 + np.abs(batch[:, 0])))


def careful(batch: NDArray[np.float32]) -> NDArray[np.float64]:
    """The base: a reading that is five times as good."""
    return answers(batch[:, 2], 0.8 * (0.05 + np.abs(batch[:, 0])))


def samples(n: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Inputs (n, 3), how hard a sample is and two readings of it, and their levels 0 … 10."""
    rng = np.random.default_rng(seed)
    level, hard = rng.integers(0, int(RANGE) + 1, n), rng.beta(0.5, 1.5, n)
    readings = [level + off * (0.05 + hard) * rng.standard_normal(n) for off in (4.0, 0.8)]
    return np.stack([hard, *readings], axis=1).astype(np.float32), level
