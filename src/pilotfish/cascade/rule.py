"""How a stage decides: what it compares with its threshold, and what it answers.

One function for planning and for running, given the outputs of the stages so far.

score      the stage's own score; its own prediction (TinySaver, Little-Big, PCEE, DyCE, MSDNet)
ensemble   as score, but the last stage answers argmax (1-w) p_before + w p_last (Little-Big Eq. 8)
average    score and prediction of the mean of all probabilities so far (Wisdom of Committees)
agreement  savers vote, and the last of them exits with the plurality when its share is large enough
patience   how many times in a row the prediction stayed the same (PABEE)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pilotfish.documents import ALWAYS
from pilotfish.errors import UsageError
from pilotfish.records import Outputs
from pilotfish.scores import SCORES, ExitScore, Scale, Scored, compute, plain_score, to_shown
from pilotfish.scores.mixture import mix
from pilotfish.scores.outputs import TOP_K

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
RuleKind = Literal["score", "ensemble", "average", "agreement", "patience"]
KINDS: tuple[RuleKind, ...] = get_args(RuleKind)


@dataclass(frozen=True)
class Rule:
    """How stages decide.

    kind    see the module
    weight  w of ``ensemble``, the share of the last model; 1 is the plain cascade
    top_k   how many of a model's best classes a mixture looks at: as many as its records held
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
            raise UsageError(f"a mixture looks at 1 to {TOP_K} of the best classes, found {self.top_k}")

    @property
    def remembers(self) -> bool:
        """Whether a stage needs the outputs of stages before it."""
        return self.kind != "score"

    @property
    def mixes(self) -> bool:
        """Whether some answer is a mixture of several models' probabilities."""
        return self.kind in ("ensemble", "average")

    @property
    def scores(self) -> bool:
        """Whether stages compare a score (and not votes or a count)."""
        return self.kind in ("score", "ensemble", "average")


@dataclass(frozen=True)
class Decision:
    """What a stage says of N samples.

    values      float64 (N,), compared with the stage's threshold; NaN never exits
    prediction  int64 (N,), the answer if it exits here
    scale       the unit of values
    """

    values: F64
    prediction: I64
    scale: Scale

    @property
    def shown(self) -> F64:
        """values as people read them."""
        return to_shown(self.scale, self.values)


def decide(rule: Rule, scores: Sequence[ExitScore], k: int, outputs: Sequence[Outputs], stages: int) -> Decision:
    """The decision of stage *k* of *stages*; NaN where the stage's own outputs are not finite, whatever the rule.

    outputs  of stages 0 … k on the same N samples; those before k may be absent where the rule does not remember
    """
    found, log_odds = _decide(rule, scores, k, outputs, stages), outputs[-1].log_odds
    if log_odds is None:
        return found
    return Decision(np.where(np.isnan(log_odds), np.nan, found.values), found.prediction, found.scale)


def _decide(rule: Rule, scores: Sequence[ExitScore], k: int, outputs: Sequence[Outputs], stages: int) -> Decision:
    own, last = outputs[-1], k + 1 == stages
    if rule.kind == "patience":
        return Decision(_streak([o.prediction for o in outputs]), own.prediction, "identity")
    if rule.kind == "agreement":
        return _vote(outputs, own, k, stages)
    if rule.kind == "average":
        mixed = [o.best(rule.top_k) for o in outputs]
        own = mix(mixed, [1 / len(mixed)] * len(mixed)) if len(mixed) > 1 else own
    elif rule.kind == "ensemble" and last:
        w = float(rule.weight or 0.0)
        own = mix([o.best(rule.top_k) for o in outputs[-2:]], [1 - w, w])
    scored = last_score(own) if last else compute(scores[k], own)
    return Decision(scored.values, own.prediction, scored.scale)


def last_score(outputs: Outputs) -> Scored:
    """What the last stage shows as its confidence; it answers whatever it is, unless its outputs are not finite."""
    if outputs.log_odds is None and outputs.confidence is None:
        return Scored(np.zeros(len(outputs)), "identity")
    return compute(plain_score(SCORES["max_prob"], outputs), outputs)


def _streak(predictions: Sequence[I64]) -> F64:
    streak = np.zeros(len(predictions[0]))
    for before, now in pairwise(predictions):
        streak = np.where(before == now, streak + 1, 0.0)
    return streak


def _vote(outputs: Sequence[Outputs], own: Outputs, k: int, stages: int) -> Decision:
    if k + 1 == stages:
        return Decision(np.zeros(len(own)), own.prediction, "identity")
    votes = np.stack([o.prediction for o in outputs])  # (k + 1, N)
    valid = np.stack([~np.isnan(o.log_odds) if o.log_odds is not None else np.ones(len(o), bool) for o in outputs])
    counts = ((votes[:, None] == votes[None, :]) & valid[:, None]).sum(axis=0) * valid  # not finite: no vote
    chosen = len(votes) - 1 - counts[::-1].argmax(axis=0)  # of equals the later, costlier saver
    columns = np.arange(votes.shape[1])
    share = counts[chosen, columns] / len(votes) if k + 2 == stages else np.full(votes.shape[1], -np.inf)
    return Decision(share, votes[chosen, columns], "identity")
