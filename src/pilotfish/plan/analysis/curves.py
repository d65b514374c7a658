"""r_match curves (TinySaver Fig. 3 and Eq. 7): what exiting wins or loses at each exit ratio, on train and validation.

On the exited set E_t, (#S right - #B right) / M is the cascade's accuracy minus the base's; the last point at which
it is not negative is r_match. Side by side the curves of two splits show how far a saver chosen on one is to be
trusted on the other: TinySaver chooses on train, where the base has seen the answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pilotfish.cascade import Frontier
from pilotfish.plan.evaluate import measure
from pilotfish.plan.path import threshold_path
from pilotfish.plan.sweep import F64, sorted_groups, sweep
from pilotfish.plan.trace import Trace, numbers
from pilotfish.scores import to_shown

MOST_POINTS = 500


@dataclass(frozen=True)
class GainCurve:
    """One split of M samples; at most 500 points, r_match and both ends among them.

    exit_ratio  float64 (P,), rising from 0
    gain        float64 (P,), (#S right - #B right on E_t) / M, or what S is better by
    saver, base float64 (P,), their mean quality on E_t, the accuracy; NaN at exit ratio 0
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


@dataclass(frozen=True)
class MatchCurves:
    """The same pair on the split that savers are chosen on and on the one that judges."""

    train: GainCurve
    validation: GainCurve


def gain_curve(trace: Trace, most: int = MOST_POINTS) -> GainCurve:
    """The curve of a saver and its base on one split, cut at the ends of tie groups only."""
    path = sweep(trace.values[0], *trace.quality)
    match = path.last_feasible(0.0)
    rows = thin(path.exited.astype(np.float64), [match], most)
    exited = path.exited[rows]
    order, _ = sorted_groups(trace.values[0])
    sums = [np.concatenate([[0], np.cumsum(numbers(one)[order], dtype=np.float64)])[exited] for one in trace.quality]
    with np.errstate(invalid="ignore"):
        saver, base = (summed / exited for summed in sums)
    return GainCurve(
        n=path.n,
        exit_ratio=exited / path.n,
        gain=path.gain[rows] / path.n,
        saver=saver,
        base=base,
        r_match=float(path.exited[match] / path.n),
        threshold=float(to_shown(trace.scales[0], path.thresholds[match])),
    )


def pair_frontier(trace: Trace) -> Frontier:
    """What each threshold of a saver costs and loses: those that no other beats in both."""
    thresholds = sweep(trace.values[0], trace.quality[0], trace.quality[1]).thresholds
    return measure(trace, threshold_path(thresholds[:, None])).pareto()


def match_curves(train: Trace, validation: Trace) -> MatchCurves:
    """The curves of both splits side by side."""
    return MatchCurves(gain_curve(train), gain_curve(validation))


def thin(position: F64, keep: Sequence[int] = (), most: int = MOST_POINTS) -> NDArray[np.intp]:
    """Indices of at most *most* points, evenly spread over *position* (P,), rising; the ends and *keep* stay."""
    if len(position) <= most:
        return np.arange(len(position))
    wanted = np.linspace(position[0], position[-1], most - len(keep))
    spread = np.searchsorted(position, wanted).clip(max=len(position) - 1)
    return np.unique(np.concatenate([spread, [0, len(position) - 1], keep]).astype(np.intp))
