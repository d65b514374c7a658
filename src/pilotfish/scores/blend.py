"""``learned``: the mean of the log-odds of learned_right and, where it can be fitted, dirichlet."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pilotfish.scores import deferral, dirichlet
from pilotfish.scores.evidence import Evidence
from pilotfish.scores.outputs import Outputs

F64 = NDArray[np.float64]


def fit(evidence: Evidence) -> dict[str, F64]:
    """Both parts' parameters, under ``right.`` and ``dirichlet.``."""
    fitted = {f"right.{k}": v for k, v in deferral.fit_right(evidence).items()}
    if dirichlet.can_fit(evidence):
        fitted |= {f"dirichlet.{k}": v for k, v in dirichlet.fit(evidence).items()}
    return fitted


def value(outputs: Outputs, parameters: Mapping[str, F64]) -> F64:
    """float64 (N,)."""
    parts = {
        name: {k.removeprefix(f"{name}."): v for k, v in parameters.items() if k.startswith(f"{name}.")}
        for name in ("right", "dirichlet")
    }
    right = deferral.log_odds_value(outputs, parts["right"])
    return right if not parts["dirichlet"] else (right + dirichlet.value(outputs, parts["dirichlet"])) / 2
