"""A threshold per predicted class: the confidence plus an offset of its class.

FrugalML (Chen et al., 2020) sets a threshold per predicted label. Here one threshold t cuts a·score + u(class), so
class c has the threshold (t - u(c)) / a; the ridge on u shares strength between classes with few samples.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pilotfish.scores.confidence import max_prob
from pilotfish.scores.evidence import Evidence
from pilotfish.scores.features import HIGHEST
from pilotfish.scores.linear import Design, fit_linear, predict_linear
from pilotfish.scores.outputs import Outputs

F64 = NDArray[np.float64]
RIDGE = 3.0


def fit(evidence: Evidence) -> dict[str, F64]:
    """Log-odds that the saver suffices (it is right, or the base is wrong), from its confidence and class."""
    suffices = (evidence.right | ~evidence.base_right).astype(np.float64)
    design = Design(_dense(evidence.outputs), (evidence.outputs.prediction,), (evidence.n_classes,))
    fitted = fit_linear(design, suffices, RIDGE, "logistic")
    return {**fitted, "weights": np.maximum(fitted["weights"], 1e-3)}  # a larger confidence never exits less


def value(outputs: Outputs, parameters: Mapping[str, F64]) -> F64:
    """float64 (N,): the log-odds that were fitted."""
    return predict_linear(_dense(outputs), (outputs.prediction,), dict(parameters))


def _dense(outputs: Outputs) -> F64:
    values = np.nan_to_num(max_prob(outputs).values, nan=0.0)
    return (np.minimum(values, HIGHEST) if outputs.log_odds is not None else values)[:, None]
