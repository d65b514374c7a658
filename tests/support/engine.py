"""Stages that look answers up, and the cascade as it is defined: one sample at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pilotfish.cascade import InForce, OperatingPoint, Rule, decide_at
from pilotfish.records import from_logits
from pilotfish.runtime import EngineStage
from pilotfish.scores import SCORES, ExitScore, score, to_shown


class Whole:
    """A model without features: *run* says what it says of a batch."""

    name = "whole"

    def run(self, batch: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def step(self, inputs: np.ndarray | None, carry: object = None) -> tuple[np.ndarray, None]:
        assert inputs is not None
        return self.run(inputs), None


@dataclass
class Lookup(Whole):
    """Sample i's input is the number i; its logits are row i of *logits*. Every batch is written down."""

    logits: np.ndarray
    name: str = "lookup"
    batches: list[list[int]] = field(default_factory=list)

    def run(self, batch: np.ndarray) -> np.ndarray:
        rows = batch.reshape(len(batch), -1)[:, 0].astype(int)
        self.batches.append(rows.tolist())
        return self.logits[rows]


@dataclass(frozen=True)
class Plain:
    """One answer: (prediction, stage, confidence), or None where even the last stage's outputs are not finite."""

    prediction: int
    stage: int
    confidence: float


def stages_of(logits: Sequence[np.ndarray], sizes: Sequence[int]) -> list[EngineStage]:
    return [EngineStage(f"s{k}", Lookup(z), size) for k, (z, size) in enumerate(zip(logits, sizes, strict=True))]


def by_max_prob(thresholds: Sequence[float]) -> InForce:
    """Exit iff the log-odds of the largest probability are at least the threshold."""
    scores = tuple(ExitScore(SCORES["max_prob"], "log_odds") for _ in thresholds)
    return InForce(Rule(), scores, OperatingPoint(tuple(thresholds)))


def plain_cascade(logits: Sequence[np.ndarray], thresholds: Sequence[float], i: int) -> Plain | None:
    """The definition: run a stage; its answer stands iff its score reaches what is compared (the next float32 below
    its threshold); else the next one is asked."""
    for k, z in enumerate(logits):
        outputs = from_logits(z[i : i + 1])
        scored = score("max_prob", outputs)
        last = k + 1 == len(logits)
        value = float(scored.values[0])
        if np.isnan(value):
            continue
        if last or value >= decide_at(thresholds[k]):
            return Plain(int(outputs.prediction[0]), k, float(to_shown(scored.scale, value)))
    return None
