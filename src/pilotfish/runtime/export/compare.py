"""Compares an exported graph with the engine, sample by sample, and times both."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.cascade import InForce, OperatingPoint
from pilotfish.errors import ModelError
from pilotfish.models.model import BAND, F32
from pilotfish.records import from_logits
from pilotfish.runtime.answers import Answers
from pilotfish.runtime.engine import Engine
from pilotfish.runtime.single import answer_one
from pilotfish.runtime.stage import EngineStage
from pilotfish.runtime.supply import TensorSupply
from pilotfish.scores import compute, to_shown

CALLS = 30
BATCH = 32
TURNS = 3


@dataclass(frozen=True)
class Compared:
    """flips: exits that differ; max_difference: largest difference of a confidence where the same stage answered."""

    flips: int
    max_difference: float


def run_graph(session: Any, feeds: dict[str, F32], batched: bool) -> tuple[Answers, F32]:
    """Answers and logits of a graph, a batch or a sample at a time."""
    n = len(next(iter(feeds.values())))
    size = BATCH if batched else 1
    parts = [
        session.run(["prediction", "confidence", "stage", "logits"], {k: v[i : i + size] for k, v in feeds.items()})
        for i in range(0, n, size)
    ]
    prediction, confidence, stage, logits = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Answers(prediction, confidence.astype(np.float64), stage, {}), logits


def compare(
    graph: tuple[Answers, F32],
    engine: Answers,
    stages: Sequence[EngineStage],
    tensors: Sequence[F32],
    in_force: InForce,
) -> Compared:
    """Raises ModelError when they differ by more than rounding: another stage although the score is not within BAND of
    a bound, or another prediction or confidence from the same stage."""
    answers, logits = graph
    same = answers.stage == engine.stage
    gap = np.abs(answers.confidence[same] - engine.confidence[same])
    worst = float(np.nan_to_num(gap).max(initial=0.0))
    lead = np.sort(logits.astype(np.float64), axis=1)[:, -2:]
    close = lead[:, 1] - lead[:, 0] < 1e-3
    wrong = same & (answers.prediction != engine.prediction) & ~close
    if wrong.any() or worst > 10 * BAND:
        raise ModelError(
            f"the exported graph differs from the engine: {int(wrong.sum())} of {len(same)} predictions, "
            f"confidences by up to {worst:.2g}; this is a bug, please report it"
        )
    flips = np.flatnonzero(~same)
    for row in flips.tolist():
        k = int(min(s for s in (answers.stage[row], engine.stage[row]) if s >= 0))
        distance = _distance(stages[k], tensors[k][row : row + 1], in_force, k)
        if distance > BAND:
            raise ModelError(
                f"the exported graph answers sample {row} at stage {answers.stage[row]} and the engine at stage "
                f"{engine.stage[row]}, {distance:.2g} from the threshold; this is a bug, please report it"
            )
    return Compared(len(flips), worst)


def _distance(stage: EngineStage, inputs: F32, in_force: InForce, k: int) -> float:
    """How far the score is from the nearest bound, in display units."""
    outputs = from_logits(stage.backend.step(inputs)[0], top_k=int(in_force.keep(k)))
    scored = compute(in_force.scores[k], outputs)
    bounds = in_force.point.bounds[k]
    return float(np.abs(to_shown(scored.scale, scored.values) - to_shown(scored.scale, np.array(bounds))).min())


def forced_point(k: int, stages: int) -> OperatingPoint:
    """An operating point at which every sample exits at stage *k*."""
    return OperatingPoint(tuple(-np.inf if j == k else np.inf for j in range(stages - 1)))


def one_by_one_ms(
    session: Any, feeds: dict[str, F32], stages: Sequence[EngineStage], tensors: Sequence[F32], in_force: InForce
) -> tuple[float, float]:
    """(graph, engine): median milliseconds of a call for one sample, in turn."""
    names = ["prediction", "confidence", "stage", "logits"]
    ours, theirs = [], []
    n = len(tensors[0])
    for call in range(CALLS + 2):
        i = call % n
        one = {k: v[i : i + 1] for k, v in feeds.items()}
        graph = _ms(lambda: session.run(names, one))  # noqa: B023
        engine = _ms(lambda: answer_one(stages, in_force, lambda k: tensors[k][i]))  # noqa: B023
        if call >= 2:
            ours.append(graph)
            theirs.append(engine)
    return float(np.median(ours)), float(np.median(theirs))


def batched_ms(
    session: Any, feeds: dict[str, F32], stages: Sequence[EngineStage], tensors: Sequence[F32], in_force: InForce
) -> tuple[float, float]:
    """(graph, engine): median milliseconds per sample in batches, in turn."""
    repeat = -(-2 * BATCH // len(tensors[0]))
    many = [np.concatenate([t] * repeat) for t in tensors]
    fed = {k: np.concatenate([v] * repeat) for k, v in feeds.items()}
    n, ours, theirs = len(many[0]), [], []
    for turn in range(TURNS + 1):
        graph = _ms(lambda: run_graph(session, fed, batched=True))
        engine = _ms(lambda: Engine(stages, in_force).run(TensorSupply(many)))
        if turn:
            ours.append(graph / n)
            theirs.append(engine / n)
    return float(np.median(ours)), float(np.median(theirs))


def _ms(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return 1000 * (time.perf_counter() - start)


def random_inputs(shape: Sequence[int], n: int) -> NDArray[np.float32]:
    """float32 (n, *shape), the same in every run."""
    return np.random.default_rng(0).standard_normal((n, *shape), dtype=np.float32)
