"""Scores of calibrated probabilities.

temperature  logits / T, with T by the likelihood of the calibration part (Guo et al., 2017). It keeps every prediction
             and re-orders samples by max-prob as soon as there are more than two classes, so it changes the cascade's
             curve. Beyond the ten best classes the rest counts as one class
dirichlet    a linear map of log-probabilities to class posteriors (Kull et al., NeurIPS 2019). It learns from which
             class was true, not merely from whether the saver was right, and so which classes this saver takes for
             which. The score is the calibrated posterior of the saver's own prediction, as log-odds
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import RecordsError
from pilotfish.scores.fit import Evidence
from pilotfish.scores.outputs import TOP_K, Outputs, available, log_rest, top_log_probs

F64 = NDArray[np.float64]
TEMPERATURES = (0.05, 20.0)
FLOOR = -12.0  # log-probabilities below it say "no" and nothing more
RIDGE = 300.0  # on the departure from a multiple of the identity
RIDGE_BIAS = 10.0
MAX_CLASSES = 200
MAX_ROUNDS = 100


def fit_temperature(evidence: Evidence) -> dict[str, F64]:
    """T = argmin NLL over the samples whose true class is among the best ten."""
    from scipy.optimize import minimize_scalar

    z = _best_and_rest(evidence.outputs)
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
    found = minimize_scalar(nll, bounds=tuple(np.log(TEMPERATURES)), method="bounded", options={"xatol": 1e-4})
    return {"temperature": np.array([float(np.exp(found.x))])}


def temperature_value(outputs: Outputs, parameters: Mapping[str, F64]) -> F64:
    """float64 (N,): log-odds of the largest probability after scaling."""
    scaled = _best_and_rest(outputs) / parameters["temperature"][0]
    return np.asarray(scaled[:, 0] - np.logaddexp.reduce(scaled[:, 1:], axis=1))


def _best_and_rest(outputs: Outputs) -> F64:
    logp = top_log_probs(outputs, TOP_K, "temperature")
    return np.concatenate([logp, log_rest(outputs, logp)[:, None]], axis=1)


def can_fit_dirichlet(evidence: Evidence) -> bool:
    """Whether there are log-probabilities, and few enough classes for a matrix of them."""
    return available(evidence.outputs) > 1 and evidence.n_classes <= MAX_CLASSES


def fit_dirichlet(evidence: Evidence) -> dict[str, F64]:
    """Matrix (C, C) and bias (C,) by penalised maximum likelihood."""
    from scipy.optimize import minimize

    if not can_fit_dirichlet(evidence):
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


def dirichlet_value(outputs: Outputs, parameters: Mapping[str, F64]) -> F64:
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
