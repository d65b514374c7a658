"""What is usual: intervals of the exit ratio, and of the scores, that a cascade was judged with."""

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

ERROR = 0.01  # that a band does not hold what it is to hold
SIDES = 200  # of the places that a score may have among 101 quantiles: on one of them, or between two


@dataclass(frozen=True)
class Band:
    """Where a mean is to lie.

    lo, hi    the band, within [0, 1]
    n         independent samples that it comes from
    baseline  the mean on them; None: the middle of the band
    error     the chance, over the drawing of those samples, that the mean of all such inputs lies outside
    note      what an operator should know of it, a line, or nothing
    """

    lo: float
    hi: float
    n: int
    baseline: float | None = None
    error: float = ERROR
    note: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.lo <= self.hi <= 1:
            raise UsageError(f"a band is two numbers within [0, 1] that rise; found {self.lo} and {self.hi}")

    @property
    def middle(self) -> float:
        """The baseline, or what stands for it."""
        return (self.lo + self.hi) / 2 if self.baseline is None else self.baseline


def band_of(artefact: Artefact, error: float = ERROR) -> Band:
    """The band of the exit ratio of the first stage, at the operating point of *artefact*.

    From the samples that judged it, an interval of Clopper and Pearson. An operating point that was moved, or was
    never judged on samples of its own, has the figures of the samples that it was chosen on. There the band is that of
    Dvoretzky, Kiefer and Wolfowitz, which holds for all thresholds of a score at once, so for the chosen one too; the
    note says so.

    error  the chance that the band does not hold the exit ratio of all inputs of this kind, half of it on each side
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
    why = "this operating point was not judged on held-out samples" if judged else "no samples were held out"
    note = f"{why}: its band comes from the {n:,} samples that it was chosen on, and is wider"
    if artefact.operating_point.exit_sets is not None or (artefact.scores and artefact.scores[0].parameters):
        note += "; its score was fitted to them, so the band is not exact"
    return Band(max(0.0, rate - half), min(1.0, rate + half), n, rate, error, note)


def place_of(quantiles: Sequence[float], score: float) -> int:
    """Where a score lies among 101 *quantiles* that rise: half a hundredth of their distribution F is 1, so F(score) is
    this over 200. Scores that many samples share have the middle of their part."""
    place = bisect_left(quantiles, score) + bisect_right(quantiles, score) - 1
    return min(max(place, 0), SIDES)


def place_band(quantiles: Sequence[float], n: int, error: float = ERROR) -> Band:
    """The band of the mean of F(score), F being known from *n* samples by its *quantiles*.

    It is 1 - the mean of n numbers F*(s_i), with F* the true distribution, each uniform or, where scores are shared,
    less spread: their moments are bounded by those of a uniform one, whose variance is 1/12. So it lies within
    1/2 ± sqrt(ln(2 / error) / 6n), which is tighter than Hoeffding's bound by sqrt(3). What 101 numbers leave open of F
    is added: a sample at each of them or, where quantiles are equal, half a hundredth.
    """
    shared = any(a == b for a, b in pairwise(quantiles))
    half = math.sqrt(math.log(2 / error) / (6 * n)) + (1 / SIDES if shared else 1 / n)
    return Band(max(0.0, 0.5 - half), min(1.0, 0.5 + half), n, 0.5, error)
