"""How a stage decides: what it compares with its threshold, and what it answers.

One function for planning and for running, given the outputs of the stages so far.

score      the stage's own score; its own prediction (TinySaver, Little-Big, PCEE, DyCE, MSDNet)
ensemble   as score, but the last stage answers argmax (1-w) p_before + w p_last (Little-Big Eq. 8)
average    score and prediction of the mean of all probabilities so far (Wisdom of Committees)
agreement  savers vote, and the last of them exits with the plurality when its share is large enough
patience   how many times in a row the prediction has stayed the same (PABEE)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pilotfish.documents import ALWAYS
from pilotfish.errors import UsageError
from pilotfish.scores import ExitScore, Scale, Scored, compute, to_shown
from pilotfish.scores.outputs import TOP_K, Mask, choose_rows
from pilotfish.tasks import CLASSES, Task

F64 = NDArray[np.float64]
Same = Callable[[Any, Any], Mask]
RuleKind = Literal["score", "ensemble", "average", "agreement", "patience"]
KINDS: tuple[RuleKind, ...] = get_args(RuleKind)


@dataclass(frozen=True)
class Rule:
    """How stages decide.

    kind    see the module
    weight  w of ``ensemble``, the share of the last model; 1 is the plain cascade
    top_k   how many of a model's best classes a mixture uses: as many as its records hold
    """

    kind: RuleKind = field(default="score", metadata=ALWAYS)
    weight: float | None = None
    top_k: int = TOP_K

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"unknown rule {str(self.kind)[:60]!r}; expected one of {', '.join(KINDS)}")
        if self.kind == "ensemble" and not (self.weight is not None and 0 <= self.weight <= 1):
            raise UsageError(f"the weight of an ensemble is a number from 0 to 1, found {self.weight}")
        if not 1 <= self.top_k <= TOP_K:
            raise UsageError(f"a mixture uses 1 to {TOP_K} of the best classes, found {self.top_k}")

    @property
    def remembers(self) -> bool:
        """Whether a stage needs the outputs of stages before it."""
        return self.kind != "score"

    @property
    def mixes(self) -> bool:
        """Whether some answers mix several models' probabilities."""
        return self.kind in ("ensemble", "average")

    @property
    def scores(self) -> bool:
        """Whether stages compare a score (and not votes or a count)."""
        return self.kind in ("score", "ensemble", "average")


@dataclass(frozen=True)
class Decision:
    """A stage's answers to N samples.

    values   float64 (N,), compared with the stage's threshold; NaN never exits
    outputs  the answer if a sample exits here
    scale    the unit of values
    """

    values: F64
    outputs: Any
    scale: Scale

    @property
    def shown(self) -> F64:
        """values in display units."""
        return to_shown(self.scale, self.values)


def check_rule(kind: RuleKind, task: Task) -> None:
    """UsageError for a rule that needs something the task does not define."""
    if kind in ("ensemble", "average") and task.mix is None:
        raise UsageError(f"the rule {kind} averages answers, and task {task.name} has no mix; use another method")
    if kind in ("agreement", "patience") and task.same is None:
        raise UsageError(
            f"the rule {kind} needs to know which answers agree, and task {task.name} has no same; use another method"
        )


def decide(
    rule: Rule, scores: Sequence[ExitScore], k: int, outputs: Sequence[Any], stages: int, task: Task = CLASSES
) -> Decision:
    """The decision of stage *k* of *stages*; NaN where the stage's own outputs are not finite, for every rule.

    outputs  of stages 0 … k on the same N samples; those before k may be absent if the rule does not use them

    UsageError for a rule that needs something *task* does not define.
    """
    found, usable = _decide(rule, scores, k, outputs, stages, task), task.usable(outputs[-1])
    if usable.all():
        return found
    return Decision(np.where(usable, found.values, np.nan), found.outputs, found.scale)


def _decide(
    rule: Rule, scores: Sequence[ExitScore], k: int, outputs: Sequence[Any], stages: int, task: Task
) -> Decision:
    own, last = outputs[-1], k + 1 == stages
    check_rule(rule.kind, task)
    if rule.kind == "patience" and task.same is not None:
        return Decision(_streak(outputs, task.same), own, "identity")
    if rule.kind == "agreement" and task.same is not None:
        return Decision(np.zeros(len(own)), own, "identity") if last else _vote(outputs, k + 2 == stages, task)
    if rule.kind == "average" and task.mix is not None and len(outputs) > 1:
        own = task.mix(outputs, [1 / len(outputs)] * len(outputs), rule.top_k)
    elif rule.kind == "ensemble" and task.mix is not None and last:
        w = float(rule.weight or 0.0)
        own = task.mix(outputs[-2:], [1 - w, w], rule.top_k)
    if not last:
        scored = compute(scores[k], own)
    elif (shown := task.confidence(own)) is not None:  # the last stage answers in any case
        scored = shown
    else:
        scored = Scored(np.zeros(len(own)), "identity")
    return Decision(scored.values, own, scored.scale)


def _streak(outputs: Sequence[Any], same: Same) -> F64:
    streak = np.zeros(len(outputs[0]))
    for before, now in pairwise(outputs):
        streak = np.where(same(before, now), streak + 1, 0.0)
    return streak


def _vote(outputs: Sequence[Any], decides: bool, task: Task) -> Decision:
    """The plurality of the savers so far; the last of them *decides*, and no sample exits before it."""
    assert task.same is not None
    valid = np.stack([task.usable(one) for one in outputs])  # (k + 1, N); not finite: no vote
    agree = np.array([[task.same(one, other) for other in outputs] for one in outputs])
    counts = (agree & valid[:, None]).sum(axis=0) * valid
    chosen = len(outputs) - 1 - counts[::-1].argmax(axis=0)  # of equals, the later and costlier saver
    n = len(chosen)
    share = counts[chosen, np.arange(n)] / len(outputs) if decides else np.full(n, -np.inf)
    return Decision(share, choose_rows(outputs, chosen), "identity")
