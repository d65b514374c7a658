"""A score as data: its name and, where it was fitted, its parameters; one function for planning and running."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import UsageError, nearest
from pilotfish.scores import blend, deferral, dirichlet, per_class, temperature
from pilotfish.scores.confidence import SCORES, TOP_K, Scored, below_infinity, score
from pilotfish.scores.outputs import Outputs
from pilotfish.scores.scale import Scale
from pilotfish.scores.top import available

F64 = NDArray[np.float64]
Parameters = Mapping[str, F64]

# name -> the score's value (N,) from outputs and the parameters that were fitted
FITTED: dict[str, Callable[[Outputs, Parameters], F64]] = {
    "temperature": temperature.value,
    "per_class": per_class.value,
    "learned_right": deferral.log_odds_value,
    "learned_gain": deferral.gain_value,
    "learned_base_gain": deferral.base_gain_value,
    "dirichlet": dirichlet.value,
    "learned": blend.value,
}
_IDENTITY = frozenset({"learned_gain", "learned_base_gain"})


@dataclass(frozen=True)
class ExitScore:
    """A score of one stage.

    name        a key of SCORES or FITTED
    parameters  float64 arrays, empty for a score that needs no fitting
    top_k       how many of the best classes the records held when it was made; the engine keeps as many, so that the
                score is the same number when the cascade runs
    """

    name: str
    scale: Scale
    parameters: Parameters = field(default_factory=dict)
    top_k: int = 1


def plain_score(name: str, outputs: Outputs) -> ExitScore:
    """The unfitted score *name*, in the scale that these outputs allow."""
    return ExitScore(name, score(name, outputs).scale, {}, classes_needed(name, outputs))


def fitted_scale(name: str) -> Scale:
    """The unit of a fitted score: the log-odds of a probability, or the gain itself."""
    return "identity" if name in _IDENTITY else "log_odds"


def compute(exit_score: ExitScore, outputs: Outputs) -> Scored:
    """The score of N samples, the same number however many classes were stored. NaN where outputs are not finite."""
    outputs = outputs.best(exit_score.top_k)
    if exit_score.name in FITTED:
        with np.errstate(invalid="ignore", over="ignore"):
            values = FITTED[exit_score.name](outputs, exit_score.parameters)
        if outputs.log_odds is not None:
            values = np.where(np.isnan(outputs.log_odds), np.nan, values)
        return Scored(below_infinity(values), exit_score.scale)
    if exit_score.name == "max_prob" and exit_score.scale == "identity" and outputs.confidence is not None:
        return Scored(below_infinity(outputs.confidence), "identity")
    return score(exit_score.name, outputs)


def classes_needed(name: str, outputs: Outputs) -> int:
    """How many of the best classes the score *name* looks at in these outputs."""
    return 1 if name in ("max_prob", "energy", "per_class") else max(1, min(TOP_K, available(outputs)))


def check_name(name: str) -> None:
    """UsageError, with the nearest name, for a score that does not exist."""
    known = [*SCORES, *FITTED, "auto"]
    if name not in known:
        raise UsageError(f"unknown score {name!r}; {nearest(name, known)}")
