"""Learned deferral: small linear models on the saver's outputs, fitted to who was right.

Post-hoc rules of Jitkrittum et al. (2023): the confidence rule is optimal only where the base's chance of being right
depends on the saver's confidence alone. Three targets:

learned_right      the saver is right (logistic)
learned_gain       saver right minus base right, Diff-01: P(only the saver) - P(only the base), two logistic models
learned_base_gain  the base's expected gain, Diff-Prob: p_B(y) - p_S(y) (squared error); the score is its negative
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pilotfish.scores.evidence import Evidence, truth_probability
from pilotfish.scores.features import confidence_knots, features
from pilotfish.scores.linear import Design, fit_linear, predict_linear
from pilotfish.scores.outputs import Outputs

F64 = NDArray[np.float64]
RIDGE = 3.0


def fit_right(evidence: Evidence) -> dict[str, F64]:
    """Log-odds that the saver is right."""
    return _fit(evidence, evidence.right.astype(np.float64), "logistic")


def fit_gain(evidence: Evidence) -> dict[str, F64]:
    """Chances that only the saver, and that only the base, is right."""
    won = _fit(evidence, (evidence.right & ~evidence.base_right).astype(np.float64), "logistic")
    lost = _fit(evidence, (evidence.base_right & ~evidence.right).astype(np.float64), "logistic")
    return {f"{part}.{key}": v for part, fitted in (("won", won), ("lost", lost)) for key, v in fitted.items()}


def fit_base_gain(evidence: Evidence) -> dict[str, F64]:
    """The base's probability of the truth minus the saver's (minus "the saver is right" for a bare confidence)."""
    own = truth_probability(evidence.outputs, evidence.reference)
    return _fit(evidence, evidence.base_truth - own, "squared")


def log_odds_value(outputs: Outputs, parameters: Mapping[str, F64]) -> F64:
    """float64 (N,): the fitted log-odds."""
    dense, groups = features(outputs, parameters["knots"])
    return predict_linear(dense, groups, dict(parameters))


def gain_value(outputs: Outputs, parameters: Mapping[str, F64]) -> F64:
    """float64 (N,): P(only the saver is right) - P(only the base is right)."""
    won, lost = (log_odds_value(outputs, _part(parameters, name)) for name in ("won", "lost"))
    return np.asarray(1 / (1 + np.exp(-won)) - 1 / (1 + np.exp(-lost)))


def base_gain_value(outputs: Outputs, parameters: Mapping[str, F64]) -> F64:
    """float64 (N,): minus the base's expected gain."""
    return -log_odds_value(outputs, parameters)


def _fit(evidence: Evidence, target: F64, loss: str) -> dict[str, F64]:
    knots = confidence_knots(evidence.outputs)
    dense, groups = features(evidence.outputs, knots)
    design = Design(dense, groups, (evidence.n_classes,) * len(groups))
    fitted = fit_linear(design, target, RIDGE, "logistic" if loss == "logistic" else "squared")
    return {**fitted, "knots": knots}


def _part(parameters: Mapping[str, F64], name: str) -> dict[str, F64]:
    return {key.removeprefix(f"{name}."): v for key, v in parameters.items() if key.startswith(f"{name}.")}
