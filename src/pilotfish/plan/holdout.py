"""Splitting samples into parts to fit on, to certify on and to judge by."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import UsageError
from pilotfish.text import quantity

Rows = NDArray[np.intp]
Groups = NDArray[np.int64]
JUDGE_ON = ("random", "last")


@dataclass(frozen=True)
class Holdout:
    """Row indices, sorted. ``evaluation`` is empty at holdout 0: thresholds are judged where they were chosen.

    fit      scores and paths are fitted here, and thresholds chosen unless they are certified
    certify  thresholds are chosen here by a certificate; empty without one
    """

    fit: Rows
    evaluation: Rows
    certify: Rows = field(default_factory=lambda: np.empty(0, np.intp))


def split_rows(n: int, holdout: float, seed: int, groups: Groups | None = None, judge_on: str = "random") -> Holdout:
    """A random split of n rows by *seed*; the share *holdout* goes to evaluation.

    groups    int (n,), or None. The groups are then put in a random order by *seed* and cut where the evaluation part
              is as near to its share of the samples as whole groups allow
    judge_on  ``last``: the last rows go to evaluation instead, for samples that stand in the order of time; a group is
              on the side where it begins
    """
    if judge_on not in JUDGE_ON:
        raise UsageError(f"judge on is random or last, found {judge_on!r}")
    if judge_on == "last" and holdout == 0:
        raise UsageError("the last samples can judge only where some are held out; give a holdout above 0")
    if not 0 <= holdout < 1:
        raise UsageError(f"holdout is a share from 0 to below 1, found {holdout}")
    if seed < 0:
        raise UsageError(f"a seed is a whole number of at least 0, found {seed}")
    rows = np.arange(n)
    if holdout == 0:
        return Holdout(rows, rows[:0])
    held = round(n * holdout)
    if held == 0 or held == n:
        raise UsageError(
            f"{quantity(n, 'sample')} cannot be split with holdout {holdout}; use --holdout 0 or record more samples"
        )
    if judge_on == "last":
        return _last(rows, held, groups)
    evaluation, rest = _cut(rows, held, np.random.default_rng(seed), groups)
    return Holdout(rest, evaluation)


def split_for_certificate(
    n: int, holdout: float, seed: int, fitted: bool, groups: Groups | None = None, judge_on: str = "random"
) -> Holdout:
    """As :func:`split_rows`; the calibration part is halved into fit and certify where something is *fitted*, and
    is all for the certificate where nothing is."""
    parts = split_rows(n, holdout, seed, groups, judge_on)
    if not fitted:
        return Holdout(parts.fit[:0], parts.evaluation, parts.fit)
    if len(parts.fit) < 2:
        raise UsageError(
            f"{quantity(n, 'sample')} cannot be split into fit, certify and evaluation; record more samples"
        )
    fit, certify = _cut(parts.fit, len(parts.fit) // 2, np.random.default_rng([seed, 1]), groups)
    return Holdout(fit, parts.evaluation, certify)


def _last(rows: Rows, held: int, groups: Groups | None) -> Holdout:
    """The last *held* rows judge; of groups, those that begin there."""
    if groups is None:
        return Holdout(rows[: len(rows) - held], rows[len(rows) - held :])
    _, first, member = np.unique(groups, return_index=True, return_inverse=True)
    later = first[member] >= len(rows) - held
    if not later.any():
        raise UsageError(
            f"no group begins among the last {held:,} of {len(rows):,} samples, so none can judge; give a larger "
            "holdout, or smaller groups"
        )
    return Holdout(rows[~later], rows[later])


def _cut(rows: Rows, wanted: int, rng: np.random.Generator, groups: Groups | None) -> tuple[Rows, Rows]:
    """(*wanted* of the rows at random, the others), both sorted; about so many where groups stay whole."""
    if groups is None:
        order = rng.permutation(rows)
        return np.sort(order[:wanted]), np.sort(order[wanted:])
    found, member, sizes = np.unique(groups[rows], return_inverse=True, return_counts=True)
    if len(found) < 2:
        raise UsageError(
            f"{quantity(len(rows), 'sample')} of one group cannot be split; use --holdout 0, "
            "smaller groups or more of them"
        )
    order = rng.permutation(len(found))
    ends = np.cumsum(sizes[order])[:-1]  # a group at least on the other side
    inside = np.isin(member, order[: 1 + int(np.abs(ends - wanted).argmin())])
    return rows[inside], rows[~inside]
