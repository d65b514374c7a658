"""Fitting scores on the calibration part, and scores of its samples by models that did not see them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import RecordsError
from pilotfish.scores import blend, deferral, dirichlet, per_class, temperature
from pilotfish.scores.confidence import Scored
from pilotfish.scores.evidence import Evidence
from pilotfish.scores.exit_score import FITTED, ExitScore, classes_needed, compute, fitted_scale, plain_score
from pilotfish.scores.top import has_top

F64 = NDArray[np.float64]
FOLDS = 5
FEWEST = 50  # samples below which nothing is fitted

FITS: dict[str, Callable[[Evidence], dict[str, F64]]] = {
    "temperature": temperature.fit,
    "per_class": per_class.fit,
    "learned_right": deferral.fit_right,
    "learned_gain": deferral.fit_gain,
    "learned_base_gain": deferral.fit_base_gain,
    "dirichlet": dirichlet.fit,
    "learned": blend.fit,
}


@dataclass(frozen=True)
class FittedScore:
    """score: fitted on all of the evidence; scored: its samples, each by a model fitted without its fold."""

    score: ExitScore
    scored: Scored


def needs_fit(name: str) -> bool:
    """Whether the score is fitted to data."""
    return name in FITTED or name == "auto"


def can_fit(name: str, evidence: Evidence) -> bool:
    """Whether the score can be had from this evidence."""
    if len(evidence) < FEWEST and needs_fit(name):
        return False
    if name in ("max_prob", "per_class", "learned_right", "learned_gain", "learned_base_gain", "learned"):
        return True
    if name == "dirichlet":
        return dirichlet.can_fit(evidence)
    if name == "energy":
        z = evidence.outputs.log_sum_exp
        return z is not None and bool((np.abs(z) > 1e-4).any())
    return has_top(evidence.outputs, 2)


def fit_score(name: str, evidence: Evidence) -> ExitScore:
    """The score *name*, fitted where it needs it. RecordsError when there is too little to fit on."""
    if name not in FITTED:
        return plain_score(name, evidence.outputs)
    if len(evidence) < FEWEST:
        raise RecordsError(
            f"{len(evidence)} samples are too few to fit the score {name}: at least {FEWEST}; use max_prob"
        )
    top_k = classes_needed(name, evidence.outputs)
    return ExitScore(name, fitted_scale(name), FITS[name](evidence), top_k)


def cross_fit(name: str, evidence: Evidence, seed: int = 0) -> FittedScore:
    """The score and, for its own samples, values from models that were fitted on the other folds."""
    if name == "learned" and dirichlet.can_fit(evidence) and len(evidence) >= FEWEST:
        return join(cross_fit("learned_right", evidence, seed), cross_fit("dirichlet", evidence, seed))
    score = fit_score(name, evidence)
    if name not in FITTED:
        return FittedScore(score, compute(score, evidence.outputs))
    fold = folds(len(evidence), seed, evidence.groups)
    values = np.empty(len(evidence))
    for f in np.unique(fold):
        inside, held = np.flatnonzero(fold != f), np.flatnonzero(fold == f)
        part = ExitScore(name, score.scale, FITS[name](evidence.take(inside)), score.top_k)
        values[held] = compute(part, evidence.outputs.take(held)).values
    return FittedScore(score, Scored(values, score.scale))


def folds(n: int, seed: int, groups: NDArray[np.int64] | None = None) -> NDArray[np.intp]:
    """int (n,): the fold of each sample, at random by *seed*; a group is in one fold, and folds are as even as groups
    allow. RecordsError for a single group."""
    rng = np.random.default_rng(seed)
    if groups is None:
        return rng.permutation(np.arange(n) % FOLDS)
    found, member, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(found) < 2:
        raise RecordsError(
            f"all {n} samples to fit on are in one group, and a score is checked on other groups; use max_prob"
        )
    order = rng.permutation(len(found))
    before = np.cumsum(sizes[order]) - sizes[order] / 2  # where the middle of each group lies among the samples
    fold = np.empty(len(found), np.intp)
    fold[order] = before * FOLDS // n if len(found) >= FOLDS else np.arange(len(found))
    if len(np.unique(fold)) < 2:  # one group has nearly all samples
        fold[order] = np.arange(len(found)) % FOLDS
    return fold[member]


def join(right: FittedScore, posterior: FittedScore) -> FittedScore:
    """``learned`` from its two parts: learned_right and dirichlet."""
    parts = (("right", right), ("dirichlet", posterior))
    parameters = {f"{part}.{key}": v for part, one in parts for key, v in one.score.parameters.items()}
    values = (right.scored.values + posterior.scored.values) / 2
    return FittedScore(ExitScore("learned", "log_odds", parameters, right.score.top_k), Scored(values, "log_odds"))
