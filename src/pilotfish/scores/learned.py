"""Learned scores: small linear models on the saver's outputs, fitted to who was right.

Post-hoc rules of Jitkrittum et al. (2023): the confidence rule is optimal only where the base's chance of being right
depends on the saver's confidence alone.

learned_right      the saver is right (logistic)
learned_gain       saver right minus base right, Diff-01: P(only the saver) - P(only the base), two logistic models
learned_base_gain  the base's expected gain, Diff-Prob: p_B(y) - p_S(y) (squared error); the score is its negative
per_class          a threshold per predicted class (FrugalML; Chen et al., 2020): one threshold t cuts a·score +
                   u(class), so class c has the threshold (t - u(c)) / a; the ridge on u shares strength between classes
                   with few samples
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pilotfish.scores.confidence import entropy, margin, max_prob
from pilotfish.scores.fit import Evidence, truth_probability
from pilotfish.scores.linear import Design, fit_linear, predict_linear
from pilotfish.scores.outputs import Outputs, available, has_top, top_log_probs
from pilotfish.scores.score_kind import part_of

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
RIDGE = 3.0
DEPTH = 10  # best classes looked at
LOWEST, HIGHEST = -30.0, 30.0  # log-odds and log-probabilities beyond say no more


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
    won, lost = (log_odds_value(outputs, part_of(parameters, name)) for name in ("won", "lost"))
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


def fit_per_class(evidence: Evidence) -> dict[str, F64]:
    """Log-odds that the saver suffices (it is right, or the base is wrong), from its confidence and class."""
    suffices = (evidence.right | ~evidence.base_right).astype(np.float64)
    design = Design(_confidence(evidence.outputs), (evidence.outputs.prediction,), (evidence.n_classes,))
    fitted = fit_linear(design, suffices, RIDGE, "logistic")
    return {**fitted, "weights": np.maximum(fitted["weights"], 1e-3)}  # a larger confidence never exits less


def per_class_value(outputs: Outputs, parameters: Mapping[str, F64]) -> F64:
    """float64 (N,): the log-odds that were fitted."""
    return predict_linear(_confidence(outputs), (outputs.prediction,), dict(parameters))


def _confidence(outputs: Outputs) -> F64:
    values = np.nan_to_num(max_prob(outputs), nan=0.0)
    return (np.minimum(values, HIGHEST) if outputs.log_odds is not None else values)[:, None]


def features(outputs: Outputs, knots: F64 | None = None) -> tuple[F64, tuple[I64, ...]]:
    """(dense float64 (N, F), class indices of the predicted class and, with logits, of the runner-up).

    knots  for records with a bare confidence: bends of a piecewise linear function of it
    """
    if has_top(outputs, 2):
        logp = np.maximum(top_log_probs(outputs, min(DEPTH, available(outputs)), "a learned score"), LOWEST)
        log_odds = np.clip(np.asarray(outputs.log_odds), LOWEST, HIGHEST)
        lead = -np.expm1(-np.maximum(margin(outputs), 0.0))
        nats = np.exp(-entropy(outputs))
        dense = np.column_stack([log_odds, logp, lead, nats])
        groups: tuple[I64, ...] = (outputs.prediction, np.asarray(outputs.top_classes)[:, 1].astype(np.int64))
    else:
        c = max_prob(outputs)
        bends = [np.maximum(c - k, 0.0) for k in (() if knots is None else knots)]
        dense = np.column_stack([c, *bends])
        groups = (outputs.prediction,)
    return np.nan_to_num(dense, nan=0.0, posinf=HIGHEST, neginf=LOWEST), groups


def confidence_knots(outputs: Outputs) -> F64:
    """Quartiles of a bare confidence; none where log-probabilities are known."""
    if has_top(outputs, 2):
        return np.empty(0)
    c = max_prob(outputs)
    c = c[np.isfinite(c)]
    return np.unique(np.quantile(c, [0.25, 0.5, 0.75])) if len(c) else np.empty(0)
