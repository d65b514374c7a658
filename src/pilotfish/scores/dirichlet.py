"""Dirichlet calibration (Kull et al., NeurIPS 2019): a linear map of log-probabilities to class posteriors.

It learns from which class was true, not merely from whether the saver was right, and so which classes this saver takes
for which. The score is the calibrated posterior of the saver's own prediction, as log-odds.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import RecordsError
from pilotfish.scores.confidence import TOP_K
from pilotfish.scores.evidence import Evidence
from pilotfish.scores.outputs import Outputs
from pilotfish.scores.top import FLOOR, available, log_rest, top_log_probs

F64 = NDArray[np.float64]
RIDGE = 300.0  # on the departure from a multiple of the identity
RIDGE_BIAS = 10.0
MAX_CLASSES = 200
MAX_ROUNDS = 100


def can_fit(evidence: Evidence) -> bool:
    """Whether there are log-probabilities, and few enough classes for a matrix of them."""
    return available(evidence.outputs) > 1 and evidence.n_classes <= MAX_CLASSES


def fit(evidence: Evidence) -> dict[str, F64]:
    """Matrix (C, C) and bias (C,) by penalised maximum likelihood."""
    from scipy.optimize import minimize

    if not can_fit(evidence):
        raise RecordsError(
            f"dirichlet needs log-probabilities and at most {MAX_CLASSES} classes, found {evidence.n_classes} classes; "
            "use learned_right"
        )
    C, y = evidence.n_classes, evidence.reference
    L = _scattered(evidence.outputs, C)
    rows = np.arange(len(y))

    def objective(theta: F64) -> tuple[float, F64]:
        off, bias, a = theta[: C * C].reshape(C, C), theta[C * C : -1], theta[-1]
        z = L @ off + a * L + bias
        log_q = z - np.logaddexp.reduce(z, axis=1)[:, None]
        slope = np.exp(log_q)
        nll = -float(log_q[rows, y].sum())
        slope[rows, y] -= 1.0
        by_weight = L.T @ slope
        gradient = np.concatenate(
            [(by_weight + RIDGE * off).ravel(), slope.sum(axis=0) + RIDGE_BIAS * bias, [np.trace(by_weight)]]
        )
        return nll + 0.5 * RIDGE * float((off**2).sum()) + 0.5 * RIDGE_BIAS * float(bias @ bias), gradient

    start = np.zeros(C * C + C + 1)
    start[-1] = 1.0
    found = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": MAX_ROUNDS, "ftol": 1e-7})
    matrix = found.x[: C * C].reshape(C, C) + found.x[-1] * np.eye(C)
    return {"matrix": matrix, "bias": np.asarray(found.x[C * C : -1])}


def value(outputs: Outputs, parameters: Mapping[str, F64]) -> F64:
    """float64 (N,): log-odds of the calibrated posterior of the prediction."""
    matrix, bias = parameters["matrix"], parameters["bias"]
    z = _scattered(outputs, len(bias)) @ matrix + bias
    rows, best = np.arange(len(z)), np.minimum(outputs.prediction, len(bias) - 1)
    top = z[rows, best].copy()
    z[rows, best] = -np.inf
    return np.asarray(top - np.logaddexp.reduce(z, axis=1))


def _scattered(outputs: Outputs, n_classes: int) -> F64:
    """float64 (N, C): log-probabilities in class order; classes beyond the stored ones share the rest evenly."""
    k = min(available(outputs), n_classes, TOP_K)  # the engine keeps no more
    logp = top_log_probs(outputs, k, "dirichlet")
    classes = np.asarray(outputs.top_classes)[:, :k].astype(np.int64)
    fill = np.full(len(logp), FLOOR)
    if n_classes > k:
        fill = np.maximum(log_rest(outputs, logp) - np.log(n_classes - k), FLOOR)
    full = np.repeat(fill[:, None], n_classes, axis=1)
    inside = classes < n_classes
    rows = np.broadcast_to(np.arange(len(logp))[:, None], classes.shape)
    full[rows[inside], classes[inside]] = np.maximum(logp, FLOOR)[inside]
    return np.asarray(np.nan_to_num(full, nan=FLOOR))
