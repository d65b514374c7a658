"""Units of a score: the one it is computed and compared in, and the one people read.

max_prob is compared as log-odds, which do not saturate where probabilities round to 1.0, and is shown as a
probability. The map is strictly increasing, so both order samples alike.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Scale = Literal["log_odds", "identity"]


def to_shown(scale: Scale, value: ArrayLike) -> NDArray[np.float64]:
    """Scores as people read them: probabilities for ``log_odds``. ±inf (nobody, everybody) stay."""
    x = np.asarray(value, np.float64)
    if scale == "identity":
        return x
    with np.errstate(over="ignore"):
        return np.where(np.isinf(x), x, 1.0 / (1.0 + np.exp(-x)))


def from_shown(scale: Scale, value: ArrayLike) -> NDArray[np.float64]:
    """The inverse of :func:`to_shown`. A probability of 0 or less is -inf (everybody), of 1 or more +inf."""
    x = np.asarray(value, np.float64)
    if scale == "identity":
        return x
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(x <= 0, -np.inf, np.where(x >= 1, np.inf, np.log(x) - np.log1p(-x)))
