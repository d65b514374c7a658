"""The batch engine: each stage has a queue that fills to its own batch size; survivors are gathered once."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pilotfish.cascade import InForce, decide
from pilotfish.models.model import F32, Backend, check_logits
from pilotfish.records import from_logits
from pilotfish.runtime.memory import Memory
from pilotfish.runtime.supply import Supplied, Supply


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

    in_force  the rule, the scores and the operating point that decide who exits
    forced    int64 (N,), the stage that answers each sample whatever its score: for measuring speed at an exit ratio
    """

    def __init__(
        self, stages: Sequence[EngineStage], in_force: InForce, forced: NDArray[np.int64] | None = None
    ) -> None:
        self.stages, self.in_force, self.forced = stages, in_force, forced
        self.memory = Memory(0, 0)

    def run(self, supply: Supply) -> Answers:
        """Answer every sample of *supply*, in its order."""
        n = len(supply)
        if self.in_force.rule.remembers:
            self.memory = Memory(n, len(self.stages))
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
        logits = check_logits(stage.backend.run(inputs), len(rows), stage.name)
        outputs = from_logits(logits, top_k=self.in_force.top_k(k))
        so_far = (
            [*(self.memory.read(j, rows) for j in range(k)), outputs] if self.in_force.rule.remembers else [outputs]
        )
        decision = decide(self.in_force.rule, self.in_force.scores, k, so_far, len(self.stages))
        values = np.where(np.isnan(np.asarray(outputs.log_odds)), np.nan, decision.values)
        exits = self.in_force.point.leaves(k, values)  # NaN, from outputs that are not finite, never exits
        if self.forced is not None:
            exits = self.forced[rows] == k
        done = rows[exits]
        answers.prediction[done] = decision.prediction[exits]
        answers.confidence[done] = decision.shown[exits]
        answers.stage[done] = k
        if self.in_force.rule.remembers and k + 1 < len(self.stages):
            self.memory.write(k, rows[~exits], outputs.take(~exits))
        if k + 1 == len(self.stages):
            for row in rows[~exits].tolist():
                answers.errors[row] = f"the outputs of {stage.name} are not finite"
        return ~exits
