"""The batch engine: each stage has a queue that fills to its own batch size; survivors are gathered once."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pilotfish.models.model import F32, Backend, check_logits
from pilotfish.records import from_logits
from pilotfish.runtime.supply import Supplied, Supply
from pilotfish.scores import score, to_shown


@dataclass(frozen=True)
class EngineStage:
    """A model as the engine runs it."""

    name: str
    backend: Backend
    batch_size: int


@dataclass(frozen=True)
class Answers:
    """Answers to N samples.

    prediction  int64 (N,), -1 where there is an error
    confidence  float64 (N,), the score of the stage that answered, as people read it (a probability for max_prob)
    stage       int64 (N,), the stage that answered; -1 where there is an error
    errors      by sample: why there is no answer. A bad sample fails alone
    """

    prediction: NDArray[np.int64]
    confidence: NDArray[np.float64]
    stage: NDArray[np.int64]
    errors: dict[int, str]

    def exit_ratio(self, stages: int) -> list[float]:
        """Share of the answered samples that each stage answered."""
        counts = np.bincount(self.stage[self.stage >= 0], minlength=stages)
        return [float(x) for x in counts / max(1, counts.sum())]


class Engine:
    """Runs a cascade over a supply of samples.

    score       name of the exit score
    thresholds  one per stage but the last, in the score's own unit
    forced      int64 (N,), the stage that answers each sample whatever its score: for measuring speed at an exit ratio
    """

    def __init__(
        self,
        stages: Sequence[EngineStage],
        score: str,
        thresholds: Sequence[float],
        forced: NDArray[np.int64] | None = None,
    ) -> None:
        self.stages, self.score, self.forced = stages, score, forced
        self.thresholds = [*thresholds, -np.inf]

    def run(self, supply: Supply) -> Answers:
        """Answer every sample of *supply*, in its order."""
        n = len(supply)
        answers = Answers(np.full(n, -1, np.int64), np.full(n, np.nan), np.full(n, -1, np.int64), {})
        queues: list[deque[int]] = [deque() for _ in self.stages]
        for batch in supply.first(self.stages[0].batch_size):
            self._step(0, batch, supply, queues, answers)
            self._drain(supply, queues, answers, everything=False)
        self._drain(supply, queues, answers, everything=True)
        return answers

    def _drain(self, supply: Supply, queues: list[deque[int]], answers: Answers, everything: bool) -> None:
        """Run later stages on full batches, or at the end on whatever waits."""
        for k in range(1, len(self.stages)):
            size = self.stages[k].batch_size
            while len(queues[k]) >= size or (everything and queues[k]):
                rows = [queues[k].popleft() for _ in range(min(size, len(queues[k])))]
                self._step(k, supply.later(k, rows), supply, queues, answers)

    def _step(self, k: int, batch: Supplied, supply: Supply, queues: list[deque[int]], answers: Answers) -> None:
        answers.errors.update(batch.errors)
        rows = np.array(batch.rows, np.intp)
        survivors: list[int] = []
        if len(rows):
            stays = self._answer(k, rows, batch.inputs, answers)
            survivors = rows[stays].tolist()
        if k + 1 < len(self.stages):
            supply.keep(k + 1, survivors)
            queues[k + 1].extend(survivors)

    def _answer(self, k: int, rows: NDArray[np.intp], inputs: F32, answers: Answers) -> NDArray[np.bool_]:
        """Run stage *k* on its inputs, note the answers of those that exit; returns who goes on."""
        stage = self.stages[k]
        outputs = from_logits(check_logits(stage.backend.run(inputs), len(rows), stage.name))
        scored = score(self.score, outputs)
        exits = scored.values >= self.thresholds[k]  # NaN, from outputs that are not finite, never exits
        if self.forced is not None:
            exits = self.forced[rows] == k
        done = rows[exits]
        answers.prediction[done] = outputs.prediction[exits]
        answers.confidence[done] = to_shown(scored.scale, scored.values[exits])
        answers.stage[done] = k
        if k + 1 == len(self.stages):
            for row in rows[~exits].tolist():
                answers.errors[row] = f"the outputs of {stage.name} are not finite"
        return ~exits
