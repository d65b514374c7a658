"""Temperature scaling (Guo et al., 2017): logits / T, with T by the likelihood of the calibration part.

It keeps every prediction and re-orders samples by max-prob as soon as there are more than two classes, so it changes
the cascade's curve. Beyond the ten best classes the rest counts as one class.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pilotfish.scores.confidence import TOP_K
from pilotfish.scores.evidence import Evidence
from pilotfish.scores.outputs import Outputs
from pilotfish.scores.top import log_rest, top_log_probs

F64 = NDArray[np.float64]
RANGE = (0.05, 20.0)


def fit(evidence: Evidence) -> dict[str, F64]:
    """T = argmin NLL over the samples whose true class is among the best ten."""
    from scipy.optimize import minimize_scalar

    z = _log_probs(evidence.outputs)
    classes = np.asarray(evidence.outputs.top_classes)[:, :TOP_K]
    hit = classes == evidence.reference[:, None]
    known = hit.any(axis=1) & np.isfinite(z[:, 0])
    z, column = z[known], hit[known].argmax(axis=1)
    rows = np.arange(len(z))

    def nll(log_t: float) -> float:
        scaled = z / np.exp(log_t)
        return float((np.logaddexp.reduce(scaled, axis=1) - scaled[rows, column]).sum())

    if not len(z):
        return {"temperature": np.ones(1)}
    found = minimize_scalar(nll, bounds=tuple(np.log(RANGE)), method="bounded", options={"xatol": 1e-4})
    return {"temperature": np.array([float(np.exp(found.x))])}


def value(outputs: Outputs, parameters: Mapping[str, F64]) -> F64:
    """float64 (N,): log-odds of the largest probability after scaling."""
    scaled = _log_probs(outputs) / parameters["temperature"][0]
    return np.asarray(scaled[:, 0] - np.logaddexp.reduce(scaled[:, 1:], axis=1))


def _log_probs(outputs: Outputs) -> F64:
    logp = top_log_probs(outputs, TOP_K, "temperature")
    return np.concatenate([logp, log_rest(outputs, logp)[:, None]], axis=1)
