"""The normal range of the exit ratio and of the scores, from the samples that the cascade was evaluated on."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from pilotfish.cascade import Artefact
from pilotfish.errors import UsageError
from pilotfish.plan.certificate import lower, upper

ERROR = 0.01  # probability that a band does not contain the true mean
SIDES = 200  # the highest place of a score among 101 quantiles: on one of them, or between two


@dataclass(frozen=True)
class Band:
    """The normal range of a mean.

    lo, hi    the band, within [0, 1]
    n         independent samples it was computed from
    baseline  the mean on them; None: the middle of the band
    error     probability, over the draw of those samples, that the true mean lies outside
    note      what the operator should know about it, one line or empty
    """

    lo: float
    hi: float
    n: int
    baseline: float | None = None
    error: float = ERROR
    note: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.lo <= self.hi <= 1:
            raise UsageError(f"a band is two increasing numbers within [0, 1]; found {self.lo} and {self.hi}")

    @property
    def middle(self) -> float:
        """The baseline, or the middle of the band if there is none."""
        return (self.lo + self.hi) / 2 if self.baseline is None else self.baseline


def band_of(artefact: Artefact, error: float = ERROR) -> Band:
    """The band of the exit ratio of the first stage, at the operating point of *artefact*.

    If it was evaluated on held-out samples, the band is their Clopper-Pearson interval. An operating point that was
    moved to, or was never evaluated on held-out samples, only has the figures of the samples it was chosen on. Its band
    uses the Dvoretzky-Kiefer-Wolfowitz inequality, which holds for all thresholds of a score at once, so for the chosen
    one too; the note says so.

    error  probability that the band does not contain the true exit ratio, half of it on each side
    """
    judged, chosen = artefact.evaluation, artefact.calibration
    row = artefact.frontier_row
    moved = row is not None and not np.allclose(artefact.frontier.exit_ratio[row], chosen.exit_ratio)
    if judged is not None and not moved:
        n, rate = judged.groups or judged.n, judged.exit_ratio[0]
        lo, hi = (float(end(rate * n, n, error / 2)) for end in (lower, upper))
        return Band(lo, hi, n, rate, error)
    n = chosen.groups or chosen.n
    rate = chosen.exit_ratio[0] if row is None else float(artefact.frontier.exit_ratio[row][0])
    half = math.sqrt(math.log(2 / error) / (2 * n))
    why = "this operating point was not evaluated on held-out samples" if judged else "no samples were held out"
    note = f"{why}: its band comes from the {n:,} samples that it was chosen on, and is wider"
    if artefact.operating_point.exit_sets is not None or (artefact.scores and artefact.scores[0].parameters):
        note += "; its score was fitted to them, so the band is not exact"
    return Band(max(0.0, rate - half), min(1.0, rate + half), n, rate, error, note)


def place_of(quantiles: Sequence[float], score: float) -> int:
    """The place of a score among 101 increasing *quantiles*, from 0 to 200: F(score) is this over 200, with F their
    distribution. A score that many samples share gets the middle of its range."""
    place = bisect_left(quantiles, score) + bisect_right(quantiles, score) - 1
    return min(max(place, 0), SIDES)


def place_band(quantiles: Sequence[float], n: int, error: float = ERROR) -> Band:
    """The band of the mean of F(score), with F estimated from *n* samples by its *quantiles*.

    The mean is 1 minus that of n numbers F*(s_i), with F* the true distribution. Each is uniform or, if scores are
    shared, less spread, so its moments are bounded by those of a uniform variable, whose variance is 1/12. So the mean
    lies within 1/2 ± sqrt(ln(2 / error) / 6n), tighter than Hoeffding's bound by sqrt(3). The resolution of the 101
    quantiles is added: one sample each or, where quantiles are equal, half a hundredth.
    """
    shared = any(a == b for a, b in pairwise(quantiles))
    half = math.sqrt(math.log(2 / error) / (6 * n)) + (1 / SIDES if shared else 1 / n)
    return Band(max(0.0, 0.5 - half), min(1.0, 0.5 + half), n, 0.5, error)
