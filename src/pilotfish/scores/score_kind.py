"""What a score is: an entry that says everything about it, and the unit it is compared in.

Probabilities near 1 round to it and tie, so a score is compared in a unit that does not saturate, and shown in the one
people read. Each map is strictly increasing: both units order samples alike.

log_odds  compared as log p / (1 - p), shown as the probability p
margin    compared as -log(1 - m), shown as m = p(1) - p(2)
entropy   compared as -log H, shown as -H, the negative entropy in nats (larger is safer)
identity  compared as it is shown
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pilotfish.errors import UsageError
from pilotfish.scores.outputs import LARGEST, TOP_K, available

F64 = NDArray[np.float64]
Parameters = Mapping[str, F64]
Scale = Literal["log_odds", "margin", "entropy", "identity"]
SCALES: tuple[Scale, ...] = get_args(Scale)


@dataclass(frozen=True)
class Scored:
    """values: float64 (N,) in the scale's own unit; NaN is never confident. The rule is value >= threshold."""

    values: F64
    scale: Scale


@dataclass(frozen=True)
class ScoreKind:
    """A score of some task's outputs. The entries of ``classes`` are in :mod:`pilotfish.scores.scores`.

    name       as ``--score`` takes it and cascades keep it
    value      (outputs, parameters) -> float64 (N,), larger is safer to exit, NaN where nothing is known. RecordsError
               where the outputs do not have it
    scale      the unit of its values, or a function of the outputs where they decide it
    fit        evidence -> parameters, float64 arrays; None where nothing is fitted
    can        evidence -> whether it can be had from it
    best_only  whether it looks at nothing but the best class, so that no more need be kept
    candidate  whether ``auto`` tries it
    uses_base  whether *fit* looks at the base, so that it is another score beside another base
    ties       whether samples to which it gives one value keep one where others score them than will when it is used
               (cross-fitting): many answers are the very same, such as empty ones, and exit together or not at all
    parts      kinds by the prefix of their parameters, for a score that is the mean of those that can be had
    """

    name: str
    value: Callable[[Any, Parameters], F64]
    scale: Scale | Callable[[Any], Scale] = "identity"
    fit: Callable[[Any], dict[str, F64]] | None = None
    can: Callable[[Any], bool] = lambda evidence: True
    best_only: bool = True
    candidate: bool = False
    uses_base: bool = False
    ties: bool = False
    parts: Mapping[str, ScoreKind] = field(default_factory=dict)

    def scale_of(self, outputs: Any) -> Scale:
        """The unit of its values for these outputs."""
        return self.scale(outputs) if callable(self.scale) else self.scale

    def top_k(self, outputs: Any) -> int:
        """How many of the best classes it looks at in these outputs."""
        return 1 if self.best_only else max(1, min(TOP_K, available(outputs)))


@dataclass(frozen=True)
class ExitScore:
    """The score of one stage, as a cascade keeps it.

    parameters  float64 arrays, empty for a score that needs no fitting
    top_k       how many of the best classes the records held when it was made; the engine keeps as many, so that the
                score is the same number when the cascade runs
    """

    kind: ScoreKind
    scale: Scale
    parameters: Parameters = field(default_factory=dict)
    top_k: int = 1

    @property
    def name(self) -> str:
        """The kind's."""
        return self.kind.name


def plain_score(kind: ScoreKind, outputs: Any) -> ExitScore:
    """A score that needs no fitting, in the scale that these outputs allow. RecordsError where it cannot be had,
    UsageError for one that is fitted."""
    if kind.fit is not None:
        raise UsageError(f"the score {kind.name} is fitted to data, which is not done here; use max_prob")
    made = ExitScore(kind, kind.scale_of(outputs), {}, kind.top_k(outputs))
    compute(made, outputs)
    return made


def compute(score: ExitScore, outputs: Any) -> Scored:
    """The score of N samples, the same number however many classes were stored. NaN where outputs are not finite, and
    NaN never exits; +inf, which other programs may have written, is the largest number: +inf exits nobody."""
    kind = score.kind
    if not kind.best_only:
        outputs = outputs.best(score.top_k)
    with np.errstate(invalid="ignore", over="ignore"):
        return Scored(np.minimum(kind.value(outputs, score.parameters), LARGEST), kind.scale_of(outputs))


def part_of(parameters: Parameters, prefix: str) -> dict[str, F64]:
    """The parameters under *prefix*, without it."""
    return {key.removeprefix(f"{prefix}."): v for key, v in parameters.items() if key.startswith(f"{prefix}.")}


def to_shown(scale: Scale, value: ArrayLike) -> F64:
    """Scores as people read them. ±inf (nobody, everybody) stay."""
    x = np.asarray(value, np.float64)
    if scale == "identity":
        return x
    with np.errstate(over="ignore"):
        if scale == "margin":
            shown = -np.expm1(-x)
        elif scale == "entropy":
            shown = -np.exp(-x)
        else:
            shown = 1.0 / (1.0 + np.exp(-x))
    return np.where(np.isinf(x), x, shown)


def from_shown(scale: Scale, value: ArrayLike) -> F64:
    """The inverse of :func:`to_shown`. What no sample can exceed is +inf (nobody), what all reach -inf (everybody)."""
    x = np.asarray(value, np.float64)
    if scale == "identity":
        return x
    with np.errstate(divide="ignore", invalid="ignore"):
        if scale == "margin":
            return np.where(x >= 1, np.inf, np.where(np.isneginf(x), -np.inf, -np.log1p(-x)))
        if scale == "entropy":
            return np.where(x >= 0, np.inf, np.where(np.isneginf(x), -np.inf, -np.log(-x)))
        return np.where(x <= 0, -np.inf, np.where(x >= 1, np.inf, np.log(x) - np.log1p(-x)))
