"""Small linear models with per-class offsets: the solver behind the fitted scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
MAX_ROUNDS = 200


@dataclass(frozen=True)
class Design:
    """Inputs of a linear model.

    dense   float64 (M, F)
    groups  G arrays int64 (M,): each gives a sample one offset of its table
    sizes   how many offsets each table has
    """

    dense: F64
    groups: tuple[I64, ...]
    sizes: tuple[int, ...]


def fit_linear(design: Design, target: F64, ridge: float, loss: Literal["logistic", "squared"]) -> dict[str, F64]:
    """Weights that minimise the summed loss + ridge/2 |w|²; the intercept is free. Features are standardised inside.

    Returns ``mean``, ``scale`` (F,), ``weights`` (F,), ``intercept`` (1,) and ``offsets0`` … (size + 1,), the last
    entry 0 for classes that were not seen.
    """
    from scipy.optimize import minimize

    mean, scale = design.dense.mean(axis=0), design.dense.std(axis=0)
    scale = np.where(scale > 1e-12, scale, 1.0)
    Z = (design.dense - mean) / scale
    ends = np.cumsum([1, Z.shape[1], *design.sizes])

    def objective(theta: F64) -> tuple[float, F64]:
        u = theta[0] + Z @ theta[1 : ends[1]]
        for group, start in zip(design.groups, ends[1:], strict=False):
            u = u + theta[start + group]
        if loss == "logistic":
            value, slope = float((np.logaddexp(0.0, u) - target * u).sum()), 1.0 / (1.0 + np.exp(-u)) - target
        else:
            value, slope = 0.5 * float(((u - target) ** 2).sum()), u - target
        parts = [np.array([slope.sum()]), Z.T @ slope]
        parts += [np.bincount(g, weights=slope, minlength=s) for g, s in zip(design.groups, design.sizes, strict=True)]
        gradient = np.concatenate(parts)
        gradient[1:] += ridge * theta[1:]
        return value + 0.5 * ridge * float(theta[1:] @ theta[1:]), gradient

    with np.errstate(over="ignore"):
        found = minimize(objective, np.zeros(ends[-1]), jac=True, method="L-BFGS-B", options={"maxiter": MAX_ROUNDS})
    theta = np.asarray(found.x, np.float64)
    fitted = {"mean": mean, "scale": scale, "intercept": theta[:1], "weights": theta[1 : ends[1]]}
    for i, (start, size) in enumerate(zip(ends[1:], design.sizes, strict=False)):
        fitted[f"offsets{i}"] = np.append(theta[start : start + size], 0.0)
    return fitted


def predict_linear(dense: F64, groups: Sequence[I64], fitted: dict[str, F64]) -> F64:
    """float64 (N,): the linear predictor. A class beyond the tables gets no offset."""
    u = fitted["intercept"][0] + ((dense - fitted["mean"]) / fitted["scale"]) @ fitted["weights"]
    for i, group in enumerate(groups):
        table = fitted[f"offsets{i}"]
        u = u + table[np.minimum(group, len(table) - 1)]
    return np.asarray(u)
