"""Units of a score: the one it is computed and compared in, and the one people read.

Probabilities near 1 round to it and tie, so a score is compared in a unit that does not saturate. Each map is strictly
increasing: both units order samples alike.

log_odds  compared as log p / (1 - p), shown as the probability p
margin    compared as -log(1 - m), shown as m = p(1) - p(2)
entropy   compared as -log H, shown as -H, the negative entropy in nats (larger is safer)
identity  compared as it is shown
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

Scale = Literal["log_odds", "margin", "entropy", "identity"]
SCALES: tuple[Scale, ...] = get_args(Scale)


def to_shown(scale: Scale, value: ArrayLike) -> NDArray[np.float64]:
    """Scores as people read them. ±inf (nobody, everybody) stay."""
    x = np.asarray(value, np.float64)
    if scale == "identity":
        return x
    with np.errstate(over="ignore"):
        if scale == "margin":
            shown = -np.expm1(-x)
        elif scale == "entropy":
            shown = -np.exp(-x)
        else:
            shown = 1.0 / (1.0 + np.exp(-x))
    return np.where(np.isinf(x), x, shown)


def from_shown(scale: Scale, value: ArrayLike) -> NDArray[np.float64]:
    """The inverse of :func:`to_shown`. What no sample can exceed is +inf (nobody), what all reach -inf (everybody)."""
    x = np.asarray(value, np.float64)
    if scale == "identity":
        return x
    with np.errstate(divide="ignore", invalid="ignore"):
        if scale == "margin":
            return np.where(x >= 1, np.inf, np.where(np.isneginf(x), -np.inf, -np.log1p(-x)))
        if scale == "entropy":
            return np.where(x >= 0, np.inf, np.where(np.isneginf(x), -np.inf, -np.log(-x)))
        return np.where(x <= 0, -np.inf, np.where(x >= 1, np.inf, np.log(x) - np.log1p(-x)))
