"""r_match curves (TinySaver Fig. 3 and Eq. 7): what exiting wins or loses at each exit ratio, on train and validation.

On the exited set E_t, (#S right - #B right) / M is the cascade's accuracy minus the base's; the last point at which
it is not negative is r_match. Side by side the curves of two splits show how far a saver chosen on one is to be
trusted on the other: TinySaver chooses on train, where the base has seen the answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.documents import as_document
from pilotfish.plan.analysis.pair import Pair
from pilotfish.plan.sweep import F64, sorted_groups, sweep

MOST_POINTS = 500


@dataclass(frozen=True)
class GainCurve:
    """One split of M samples; at most 500 points, r_match and both ends among them.

    exit_ratio  float64 (P,), rising from 0
    gain        float64 (P,), (#S right - #B right on E_t) / M
    saver, base float64 (P,), their accuracy on E_t; NaN at exit ratio 0
    r_match     the largest exit ratio with a gain of at least 0; exact, whatever was thinned
    threshold   of r_match, as people read it; inf where nobody may exit
    """

    n: int
    exit_ratio: F64
    gain: F64
    saver: F64
    base: F64
    r_match: float
    threshold: float

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        columns = {name: getattr(self, name) for name in ("exit_ratio", "gain", "saver", "base")}
        listed = {name: as_document(column) for name, column in columns.items()}
        return {"n": self.n, "r_match": self.r_match, "threshold": as_document(self.threshold), **listed}


@dataclass(frozen=True)
class MatchCurves:
    """The same pair on the split that savers are chosen on and on the one that judges."""

    train: GainCurve
    validation: GainCurve

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {"train": self.train.to_json(), "validation": self.validation.to_json()}


def gain_curve(pair: Pair, most: int = MOST_POINTS) -> GainCurve:
    """The curve of one split, cut at the ends of tie groups only."""
    path = sweep(pair.score, pair.saver_correct, pair.base_correct)
    match = path.last_feasible(0.0)
    rows = thin(path.exited.astype(np.float64), [match], most)
    exited = path.exited[rows]
    order, _ = sorted_groups(pair.score)
    right = [np.concatenate([[0], np.cumsum(c[order])])[exited] for c in (pair.saver_correct, pair.base_correct)]
    with np.errstate(invalid="ignore"):
        saver, base = (count / exited for count in right)
    return GainCurve(
        n=path.n,
        exit_ratio=exited / path.n,
        gain=path.gain[rows] / path.n,
        saver=saver,
        base=base,
        r_match=float(path.exited[match] / path.n),
        threshold=pair.shown(float(path.thresholds[match])),
    )


def match_curves(train: Pair, validation: Pair, most: int = MOST_POINTS) -> MatchCurves:
    """The curves of both splits side by side."""
    return MatchCurves(gain_curve(train, most), gain_curve(validation, most))


def thin(position: F64, keep: Sequence[int], most: int) -> NDArray[np.intp]:
    """Indices of at most *most* points, evenly spread over *position* (P,), rising; the ends and *keep* stay."""
    if len(position) <= most:
        return np.arange(len(position))
    wanted = np.linspace(position[0], position[-1], most - len(keep))
    spread = np.searchsorted(position, wanted).clip(max=len(position) - 1)
    return np.unique(np.concatenate([spread, [0, len(position) - 1], keep]).astype(np.intp))
