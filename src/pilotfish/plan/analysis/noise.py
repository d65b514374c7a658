"""How far a threshold depends on which samples it was tuned on (Little-Big Table 8, by resampling).

Half of the samples are drawn again and again with replacement; each draw tunes its own threshold by the exact sweep
within the drop, and the other half judges it. The spread is what another calibration set of this size would change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.cascade import make_budget
from pilotfish.cascade.budget import SLACK
from pilotfish.documents import as_document
from pilotfish.errors import UsageError
from pilotfish.plan.evaluate import measure
from pilotfish.plan.holdout import split_rows
from pilotfish.plan.path import PolicyPath
from pilotfish.plan.sweep import F64, PairPath, advantage, sorted_groups, sweep
from pilotfish.plan.trace import Trace
from pilotfish.scores import to_shown


@dataclass(frozen=True)
class Spread:
    """Mean, standard deviation (of the draws, ddof 1), and the 5 % and 95 % quantiles."""

    mean: float
    sd: float
    low: float
    high: float


@dataclass(frozen=True)
class TuningNoise:
    """``draws`` thresholds from bootstrap draws of n_fit samples, judged on the same n_judged others.

    exit_ratio, drop  on the judging samples, over the draws
    cost_sd           standard deviation of the cost, as a share of C_B: that of the exit ratio
    broken            share of the draws whose drop on the judging samples is above max_drop. The judging samples are
                      one draw themselves, so this is not the chance that the promise breaks; a certificate bounds that
    plain             (exit ratio, drop) of the threshold tuned without resampling
    threshold         5 % and 95 % quantiles, as people read them
    """

    draws: int
    seed: int
    max_drop: float
    n_fit: int
    n_judged: int
    exit_ratio: Spread
    drop: Spread
    cost_sd: float
    broken: float
    plain: tuple[float, float]
    threshold: tuple[float, float]

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        plain = {"exit_ratio": self.plain[0], "drop": self.plain[1]}
        return {**as_document(self), "plain": plain}


def tuning_noise(
    trace: Trace, max_drop: float = 0.0, draws: int = 200, seed: int = 0, holdout: float = 0.5
) -> TuningNoise:
    """Bootstrap the part to tune on, judge on the rest. The same *seed* gives the same draws for every pair."""
    make_budget(max_drop=max_drop)  # refuses what is no drop
    if draws < 2 or not 0 < holdout < 1:
        raise UsageError(f"noise needs at least 2 draws and a holdout between 0 and 1, found {draws} and {holdout}")
    parts = split_rows(len(trace), holdout, seed, trace.groups)
    fit, judged = trace.take(parts.fit), trace.take(parts.evaluation)
    rng = np.random.default_rng([seed, 1])
    tune = tuner(fit, max_drop)
    unit = np.arange(len(fit)) if fit.groups is None else np.unique(fit.groups, return_inverse=True)[1]
    count = int(unit.max()) + 1  # groups are drawn whole
    rows = (rng.integers(0, count, count) for _ in range(draws))
    chosen = np.array([tune(np.bincount(drawn, minlength=count)[unit]) for drawn in rows])
    plain = sweep(fit.values[0], *fit.quality)
    at_plain = plain.thresholds[plain.last_feasible(max_drop)]
    there = measure(judged, PolicyPath(np.append(chosen, at_plain)[:, None]))
    r, drop = there.exit_ratio[:, 0], there.drop
    ends = np.quantile(chosen, [0.05, 0.95], method="inverted_cdf")  # no mean of infinities
    low, high = to_shown(trace.scales[0], ends).tolist()
    return TuningNoise(
        draws=draws,
        seed=seed,
        max_drop=max_drop,
        n_fit=len(fit),
        n_judged=len(judged),
        exit_ratio=_spread(r[:-1]),
        drop=_spread(drop[:-1]),
        cost_sd=_spread(r[:-1]).sd,
        broken=float((drop[:-1] > max_drop + SLACK).mean()),
        plain=(float(r[-1]), float(drop[-1])),
        threshold=(low, high),
    )


def tuner(trace: Trace, max_drop: float) -> Callable[[NDArray[np.intp]], float]:
    """times (N,), how often each sample was drawn -> the threshold that a sweep over the drawn samples chooses.

    The samples are sorted once; a draw is then one weighted sum.
    """
    order, last = sorted_groups(trace.values[0])
    ends = np.flatnonzero(last)
    scores = np.append(np.inf, trace.values[0][order][ends])
    change = advantage(*trace.quality)[order]

    def tune(times: NDArray[np.intp]) -> float:
        drawn = times[order]
        exited = np.append(0, np.cumsum(drawn)[ends])
        gain = np.append(0, np.cumsum(drawn * change)[ends])
        total = int(times.sum())
        point = PairPath(scores, exited, gain, total).last_feasible(max_drop)
        if exited[point] == total:
            return -np.inf  # as sweep has it: everybody may exit
        return float(scores[np.searchsorted(exited, exited[point])])  # the last score that was drawn, not one after it

    return tune


def _spread(values: F64) -> Spread:
    low, high = np.quantile(values, [0.05, 0.95]).tolist()
    return Spread(float(values.mean()), float(values.std(ddof=1)), low, high)
