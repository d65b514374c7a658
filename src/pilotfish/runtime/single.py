"""One sample through the cascade, at once and in the caller's thread: for answers that cannot wait for a batch.

The common case, max_prob against a threshold, is decided in a few operations: after a model has run, our code and data
are no longer in the processor's caches, and each call into numpy costs ten times what it costs in a loop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from pilotfish.cascade import InForce, decide
from pilotfish.errors import ModelError
from pilotfish.models.model import F32, Carry
from pilotfish.runtime.stage import EngineStage
from pilotfish.runtime.supply import repeats, why
from pilotfish.scores.outputs import Outputs, log_odds_of_one
from pilotfish.tasks.classes import check_logits


class OneAnswer(NamedTuple):
    """prediction, confidence and stage as in :class:`Answers`; error: why there is no answer, else None; by_stage:
    whether a stage failed or has no finite outputs (otherwise the sample could not be read)."""

    prediction: Any
    confidence: float
    stage: int
    error: str | None = None
    by_stage: bool = False


def prepared(read: Callable[[], Any], chains: Sequence[Callable[[Any], F32]]) -> Callable[[int], F32]:
    """How to prepare one sample for :func:`answer_one`: read once, when the first stage needs it, and made once for
    consecutive stages that differ only in precision.

    chains  the preprocessing of each stage
    """
    held: list[Any] = []
    made: list[F32] = []
    repeated = repeats(tuple(chains))

    def prepare(stage: int) -> F32:
        if not (made and repeated[stage]):
            if not held:
                held.append(read())
            made[:] = [chains[stage](held[0])]
        again = any(repeated[stage + 1 : stage + 2])  # then a copy: models may write into their inputs
        return made[0].copy() if again else made[0]

    return prepare


def answer_one(
    stages: Sequence[EngineStage], in_force: InForce, prepare: Callable[[int], F32], forced: int | None = None
) -> OneAnswer:
    """The answer to one sample, as the engine gives it.

    prepare  makes the sample's tensor for a stage; called when the stage is reached. An exception is this sample's
             error
    forced   the stage that answers, regardless of the score

    Raises ModelError when a stage fails.
    """
    carry: Carry | None = None
    so_far: list[Any] = []
    for k, stage in enumerate(stages):
        inputs = None
        if not stage.shares:
            try:
                inputs = prepare(k)[None]
            except ModelError:
                raise
            except Exception as error:  # an error of the data or the user's code
                return OneAnswer(in_force.task.missing, math.nan, -1, why(error))
        raw, carry = stage.backend.step(inputs, carry)
        if is_plain(in_force, k) and (found := plain_answer(in_force, k, raw, stage.name)) is not None:
            answer, leaves, _ = found
            if leaves if forced is None else forced == k:
                return answer
            continue
        so_far.append(stage.reduced(raw, 1, in_force.keep(k), in_force.task, inputs))
        decision = decide(in_force.rule, in_force.scores, k, so_far, len(stages), in_force.task)
        leaves = bool(in_force.point.leaves(k, decision.values)[0])
        if leaves if forced is None else forced == k:
            return OneAnswer(in_force.task.answer(decision.outputs)[0], float(decision.shown[0]), k)
    return OneAnswer(in_force.task.missing, math.nan, -1, f"the outputs of {stages[-1].name} are not finite", True)


def plain_answer(in_force: InForce, k: int, raw: Any, name: str) -> tuple[OneAnswer, bool, float] | None:
    """(stage *k*'s answer to one sample, whether it exits there, its log-odds) from its logits (1, C), if
    :func:`is_plain`. None if outputs are not finite, one class is all but certain, or the model returns no logits: the
    general path handles those."""
    if isinstance(raw, Outputs):
        return None
    found = log_odds_of_one(_logits(raw, name)[0])
    if found is None:
        return None
    prediction, log_odds = found
    leaves = k == len(in_force.scores) or log_odds >= in_force.point.compared[k][0]
    return OneAnswer(prediction, 1.0 / (1.0 + math.exp(-log_odds)), k), leaves, log_odds


def _logits(raw: Any, name: str) -> F32:
    """*raw* unchanged if it is float32 (1, C), otherwise checked: a check takes as long as the score."""
    if type(raw) is np.ndarray and raw.dtype == np.float32 and raw.ndim == 2 and len(raw) == 1:
        return raw
    return check_logits(raw, 1, name)


def is_plain(in_force: InForce, k: int) -> bool:
    """Whether stage *k* compares its own max_prob with a threshold, or is the last."""
    if not in_force.task.classes or in_force.rule.kind != "score" or in_force.point.exit_sets is not None:
        return False
    return k == len(in_force.scores) or (
        in_force.scores[k].name == "max_prob" and in_force.scores[k].scale == "log_odds"
    )
