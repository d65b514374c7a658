"""Fitting scores on the calibration part, and scores of its samples by models that did not see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import RecordsError
from pilotfish.scores.outputs import I64, Mask, Outputs
from pilotfish.scores.score_kind import ExitScore, Scored, ScoreKind, compute, plain_score
from pilotfish.text import quantity

F64 = NDArray[np.float64]
FOLDS = 5
FEWEST = 50  # samples below which nothing is fitted


@dataclass(frozen=True)
class Evidence:
    """M samples of the calibration part.

    outputs            of the saver
    reference          int64 (M,), the class that counts as right
    right, base_right  bool (M,)
    base_truth         float64 (M,), the base's probability of the reference class; 1 or 0 where only its class is known
    gain               float64 (M,), M times what the metric gains by the saver's answer to each sample, to first order,
                       where it is no mean of right; None: right - base_right
    groups             int64 (M,), the group of each sample, or None where all are independent
    n_classes          how many classes there are, at least one more than the largest that was seen
    """

    outputs: Outputs
    reference: I64
    right: Mask
    base_right: Mask
    base_truth: F64
    n_classes: int
    groups: I64 | None = None
    gain: F64 | None = None

    def __len__(self) -> int:
        return len(self.reference)

    def take(self, rows: NDArray[np.intp]) -> Evidence:
        """The same for some rows."""
        return Evidence(
            self.outputs.take(rows),
            self.reference[rows],
            self.right[rows],
            self.base_right[rows],
            self.base_truth[rows],
            self.n_classes,
            None if self.groups is None else self.groups[rows],
            None if self.gain is None else self.gain[rows],
        )


def truth_probability(outputs: Outputs, reference: I64) -> F64:
    """float64 (N,): the probability a model gives the reference class; 1 or 0 by its prediction without logits."""
    if outputs.top_logits is None or outputs.log_sum_exp is None or outputs.top_classes is None:
        return np.asarray(outputs.prediction == reference, np.float64)
    hit = outputs.top_classes == reference[:, None]
    with np.errstate(over="ignore", invalid="ignore"):
        p = np.exp(np.minimum(outputs.top_logits - outputs.log_sum_exp[:, None], 0.0))
    return np.asarray(np.where(hit, p, 0.0).sum(axis=1))


@dataclass(frozen=True)
class FittedScore:
    """score: fitted on all of the evidence; scored: its samples, each by a model fitted without its fold."""

    score: ExitScore
    scored: Scored


def can_fit(kind: ScoreKind, evidence: Evidence) -> bool:
    """Whether the score can be had from this evidence."""
    return (kind.fit is None or len(evidence) >= FEWEST) and kind.can(evidence)


def fit_score(kind: ScoreKind, evidence: Evidence) -> ExitScore:
    """The score, fitted where it needs it. RecordsError when there is too little to fit on."""
    if kind.fit is None:
        return plain_score(kind, evidence.outputs)
    if len(evidence) < FEWEST:
        raise RecordsError(
            f"{quantity(len(evidence), 'sample is', 'samples are')} too few to fit the score "
            f"{kind.name}: at least {FEWEST}; use max_prob"
        )
    return ExitScore(kind, kind.scale_of(evidence.outputs), kind.fit(evidence), kind.top_k(evidence.outputs))


def cross_fit(
    kind: ScoreKind, evidence: Evidence, seed: int = 0, known: Mapping[str, FittedScore] | None = None
) -> FittedScore:
    """The score and, for its own samples, values from models that were fitted on the other folds.

    known  by name, scores that were cross-fitted on these very samples: parts of others are taken from there
    """
    if kind.parts and len(evidence) >= FEWEST:
        able = {prefix: part for prefix, part in kind.parts.items() if part.can(evidence)}
        fitted = {
            prefix: (known or {}).get(part.name) or cross_fit(part, evidence, seed) for prefix, part in able.items()
        }
        return _mean(kind, evidence, fitted)
    score = fit_score(kind, evidence)
    if kind.fit is None:
        return FittedScore(score, compute(score, evidence.outputs))
    fold = folds(len(evidence), seed, evidence.groups)
    values = np.empty(len(evidence))
    for f in np.unique(fold):
        inside, held = np.flatnonzero(fold != f), np.flatnonzero(fold == f)
        part = ExitScore(kind, score.scale, kind.fit(evidence.take(inside)), score.top_k)
        values[held] = compute(part, evidence.outputs.take(held)).values
    if kind.ties:
        _, group = np.unique(compute(score, evidence.outputs).values, return_inverse=True)
        values = (np.bincount(group, weights=values) / np.bincount(group))[group]
    return FittedScore(score, Scored(values, score.scale))


def _mean(kind: ScoreKind, evidence: Evidence, parts: Mapping[str, FittedScore]) -> FittedScore:
    parameters = {f"{prefix}.{k}": v for prefix, one in parts.items() for k, v in one.score.parameters.items()}
    values = sum(one.scored.values for one in parts.values()) / len(parts)
    scale = kind.scale_of(evidence.outputs)
    score = ExitScore(kind, scale, parameters, kind.top_k(evidence.outputs))
    return FittedScore(score, Scored(np.asarray(values), scale))


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
