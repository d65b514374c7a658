"""Probabilities and logits: whatever a model ends in, what leaves it are logits whose softmax it means.

    softmax       the numbers before it are the logits; log p where only p can be had
    log_softmax   its values are logits as they are: a softmax does not see a shift
    sigmoid       C >= 2 columns: each class against the rest. log p = log sigmoid(z), so that the largest p is the
                  prediction and the confidence is p / sum p. One column: p of class 1, logits (0, z)
    none          logits as they are; one column z is (0, z)

z is read before the activation where it can be had, so that p = 1.0 keeps its order. The formulas here, in
``torch_logits`` and in ``onnx_logits`` are the same ones, in float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.scores.outputs import F32, F64

ACTIVATIONS = ("none", "softmax", "sigmoid", "log_softmax")
BEST = "confidence"  # of callables: the predicted class and how sure it is, and no scores of all classes
TINY = float(np.finfo(np.float32).tiny)  # what p = 0 is taken for
HALF_STEP = float(np.finfo(np.float32).epsneg) / 2  # 1 - p where p is 1.0
SATURATED = 80 * float(np.exp(-80.0))  # -log sigmoid(z) is no less than this over z, so that order stays in float32
SMALL = 1e-5  # e below which log(1 + e) is e - e^2 / 2 to eleven digits, and above which 1 + e keeps as many
OUTSIDE = 1e-3  # a number further from [0, 1] is no probability, a row whose sum is further from 1 no softmax
COARSE = 3e-2  # for sums of numbers of 16 bits
NOISE = 1e-6  # how far rounding takes one probability from [0, 1]: in few bits no further, 0 and 1 are exact


def logits_of(values: NDArray[Any], activation: str | None) -> F32:
    """float32 (N, C) logits of what a model returned, (N, C), (N, 1) or (N,); C = 2 for one column.

    A probability outside [0, 1] becomes NaN: its row is not finite and so is reported, and never confident.
    """
    z = values.astype(np.float64)
    tiny = TINY if values.dtype != np.float64 else float(np.finfo(np.float64).tiny)
    half = HALF_STEP if values.dtype != np.float64 else float(np.finfo(np.float64).epsneg) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        if z.ndim == 1 or z.shape[1] == 1:
            z = z.reshape(-1, 1)
            if activation == "sigmoid":
                z = _log(z, tiny) - _log(1.0 - z, half)
            z = np.concatenate([np.zeros_like(z), z], axis=1)
        elif activation in ("softmax", "sigmoid"):
            z = _log(z, tiny)
        return z.astype(np.float32)


def _log(p: F64, least: float) -> F64:
    """log p, no less than log *least*; NaN where p is no probability."""
    found: F64 = np.log(np.maximum(p, least)) + 0.0 * np.sqrt((p + OUTSIDE) * (1 + OUTSIDE - p))
    return found


def recognised(values: NDArray[Any], tolerance: float = OUTSIDE) -> str:
    """The activation that all rows of *values* (N, C), (N, 1) or (N,) agree with; ``none`` where there is no such.

    Values that are the same in all rows show nothing: none.
    """
    if not len(values):
        return "none"
    z = values.astype(np.float64).reshape(len(values), -1)
    if not np.isfinite(z).all() or (len(z) > 1 and not np.ptp(z, axis=0).any()):
        return "none"
    for activation in ("softmax", "log_softmax", "sigmoid"):
        if not (activation != "sigmoid" and z.shape[1] == 1) and not contradicting(values, activation, tolerance).any():
            return activation
    return "none"


def contradicting(values: NDArray[Any], activation: str, tolerance: float = OUTSIDE) -> NDArray[np.bool_]:
    """bool (N,): the rows of *values* that cannot have come out of *activation*. tolerance: of a row's sum."""
    if activation == "none" or not len(values):
        return np.zeros(len(values), np.bool_)
    z = values.astype(np.float64).reshape(len(values), -1)
    if activation == "log_softmax":
        top = z.max(axis=1)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            total = top + np.log(np.exp(z - top[:, None]).sum(axis=1))
        return np.asarray((top > tolerance) | ~(np.abs(total) <= tolerance))
    outside = ((z < -NOISE) | (z > 1 + NOISE)).any(axis=1)
    if activation == "softmax":
        outside |= ~(np.abs(z.sum(axis=1) - 1) <= tolerance)
    return np.asarray(outside)
