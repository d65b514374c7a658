"""The scores of classes, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import UsageError, nearest
from pilotfish.scores import calibrated, confidence, learned
from pilotfish.scores.fit import Evidence
from pilotfish.scores.outputs import Outputs, has_top
from pilotfish.scores.score_kind import Parameters, Scored, ScoreKind, compute, part_of, plain_score

F64 = NDArray[np.float64]
Value = Callable[[Outputs, Parameters], F64]


def _plain(value: Callable[[Outputs], F64]) -> Value:
    return lambda outputs, _: value(outputs)


def _known(value: Value) -> Value:
    """Features of fitted scores hide what is not finite: such a sample has no score."""

    def known(outputs: Outputs, parameters: Parameters) -> F64:
        values = value(outputs, parameters)
        return values if outputs.log_odds is None else np.where(np.isnan(outputs.log_odds), np.nan, values)

    return known


def _has_two(evidence: Evidence) -> bool:
    return has_top(evidence.outputs, 2)


_RIGHT = ScoreKind(
    "learned_right", _known(learned.log_odds_value), "log_odds", learned.fit_right, best_only=False, candidate=True
)
_DIRICHLET = ScoreKind(
    "dirichlet",
    _known(calibrated.dirichlet_value),
    "log_odds",
    calibrated.fit_dirichlet,
    can=calibrated.can_fit_dirichlet,
    best_only=False,
    candidate=True,
)
_PARTS = {"right": _RIGHT, "dirichlet": _DIRICHLET}  # of learned: the mean of those that can be fitted


def _fit_parts(evidence: Evidence) -> dict[str, F64]:
    able = {prefix: kind for prefix, kind in _PARTS.items() if kind.can(evidence)}
    return {f"{p}.{key}": v for p, kind in able.items() if kind.fit for key, v in kind.fit(evidence).items()}


def _mean_of_parts(outputs: Outputs, parameters: Parameters) -> F64:
    found = [kind.value(outputs, own) for prefix, kind in _PARTS.items() if (own := part_of(parameters, prefix))]
    return np.asarray(sum(found) / len(found))


SCORES: dict[str, ScoreKind] = {
    kind.name: kind
    for kind in (
        ScoreKind("max_prob", _plain(confidence.max_prob), confidence.max_prob_scale),
        ScoreKind("margin", _plain(confidence.margin), "margin", can=_has_two, best_only=False, candidate=True),
        ScoreKind("entropy", _plain(confidence.entropy), "entropy", can=_has_two, best_only=False, candidate=True),
        ScoreKind("energy", _plain(confidence.energy), can=lambda evidence: confidence.has_energy(evidence.outputs)),
        ScoreKind(
            "temperature",
            _known(calibrated.temperature_value),
            "log_odds",
            calibrated.fit_temperature,
            can=_has_two,
            best_only=False,
            candidate=True,
        ),
        ScoreKind(
            "per_class",
            _known(learned.per_class_value),
            "log_odds",
            learned.fit_per_class,
            candidate=True,
            uses_base=True,
        ),
        _RIGHT,
        ScoreKind(
            "learned_gain",
            _known(learned.gain_value),
            fit=learned.fit_gain,
            best_only=False,
            candidate=True,
            uses_base=True,
        ),
        ScoreKind(
            "learned_base_gain",
            _known(learned.base_gain_value),
            fit=learned.fit_base_gain,
            best_only=False,
            uses_base=True,
        ),
        _DIRICHLET,
        ScoreKind("learned", _mean_of_parts, "log_odds", _fit_parts, best_only=False, candidate=True, parts=_PARTS),
    )
}


def score(name: str, outputs: Outputs) -> Scored:
    """The score *name* of each sample, one that needs no fitting. RecordsError where it cannot be had."""
    return compute(plain_score(find_score(name), outputs), outputs)


def find_score(name: str, kinds: Mapping[str, ScoreKind] = SCORES) -> ScoreKind:
    """The score called *name*. UsageError, with the nearest name, for one that does not exist."""
    if name not in kinds:
        raise UsageError(f"unknown score {name!r}; {nearest(name, [*kinds, 'auto'])}")
    return kinds[name]


def check_name(name: str, kinds: Mapping[str, ScoreKind] = SCORES) -> None:
    """UsageError, with the nearest name, for a score that does not exist; ``auto`` stands for the best of them."""
    if name != "auto":
        find_score(name, kinds)


def needs_fit(name: str, kinds: Mapping[str, ScoreKind] = SCORES) -> bool:
    """Whether the score is fitted to data."""
    return name == "auto" or (name in kinds and kinds[name].fit is not None)
