"""Scores of a cascade's stages: plain, fitted on the calibration part alone, or the best by cross-validation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pilotfish.cascade import Budget, Rule
from pilotfish.cascade.budget import SLACK
from pilotfish.plan.evaluate import blocks_of, measure
from pilotfish.plan.path import route, threshold_path
from pilotfish.plan.sweep import sorted_groups
from pilotfish.plan.trace import make_trace, numbers
from pilotfish.records import Table
from pilotfish.scores import (
    Evidence,
    ExitScore,
    FittedScore,
    Scored,
    can_fit,
    cross_fit,
    plain_score,
    truth_probability,
)
from pilotfish.tasks import CLASSES, Metric, Task
from pilotfish.tasks.task import USUAL_SCORE

F64 = NDArray[np.float64]
Rows = NDArray[np.intp]
Exits = Callable[[F64, float], F64]
"""(scores of M samples, a drop) -> shares that exit within it: on the samples themselves, then on some draws."""
RESAMPLES = 40
CUTS = 32  # thresholds at which a rank is asked for
BLOCKS = 8  # parts of the samples without which it is asked for again
CERTAIN = 1.0  # standard errors by which a score must beat the usual one to be taken for it
USUAL_DROP = 0.005
STEP = 1e-4  # of a sum: its slope


@dataclass(frozen=True)
class ScoreChoice:
    """What ``auto`` found at one stage: the share that exits beyond that of the *usual* score, by cross-validation, and
    its standard error; ``chosen`` is the usual one unless another is better by more than that."""

    chosen: str
    advantage: dict[str, tuple[float, float]]
    usual: str = USUAL_SCORE


@dataclass(frozen=True)
class StageScores:
    """scores: one per stage but the last; scored: their values on the rows they were fitted on, each by a model that
    did not see the sample; choices: per stage, for ``auto`` alone."""

    scores: tuple[ExitScore, ...]
    scored: tuple[Scored, ...]
    choices: tuple[ScoreChoice, ...] = ()


def stage_scores(
    table: Table, stages: Sequence[str], name: str, rows: Rows, budget: Budget | None = None, seed: int = 0
) -> StageScores:
    """The score *name* for every stage but the last, fitted on *rows* where it needs that."""
    task = table.task
    name, found, choices = task.score_name(name), [], []
    for stage in stages[:-1]:
        if name == "auto":
            found_on = evidence(table, stage, stages[-1], rows)
            exits = None if task.metric.kind != "rank" else exits_of_metric(table, stage, stages[-1], rows)
            fitted, choice = auto_score(found_on, budget, seed, task=task, exits=exits)
            choices.append(choice)
        else:
            fitted = cross_fit(task.score(name), evidence(table, stage, stages[-1], rows), seed)
        found.append(fitted)
    return StageScores(tuple(f.score for f in found), tuple(f.scored for f in found), tuple(choices))


def plain_stage_scores(table: Table, stages: Sequence[str], name: str) -> tuple[ExitScore, ...]:
    """Unfitted scores of every stage but the last."""
    kind = table.task.score(name)
    return tuple(plain_score(kind, table.outputs[stage]) for stage in stages[:-1])


def evidence(table: Table, saver: str, base: str, rows: Rows) -> Evidence:
    """What the score of *saver* is fitted on."""
    own, theirs, reference = table.outputs[saver].take(rows), table.outputs[base].take(rows), table.reference[rows]
    right, base_right = table.task.quality(own, reference), table.task.quality(theirs, reference)
    groups = None if table.groups is None else table.groups[rows]
    metric = table.task.metric
    if not table.task.classes:
        gain = None
        if metric.kind == "ratio" and metric.states is not None:
            gain = first_order(metric, metric.states(own, reference), metric.states(theirs, reference))
        return Evidence(own, reference, right, base_right, base_right, 0, groups, gain)
    known = [m.n_classes for m in (table.meta[saver], table.meta[base]) if m.n_classes is not None]
    seen = max(int(reference.max(initial=0)), int(own.prediction.max(initial=0))) + 1
    return Evidence(
        outputs=own,
        reference=reference,
        right=right,
        base_right=base_right,
        base_truth=truth_probability(theirs, reference),
        n_classes=max([*known, seen, 2]),
        groups=groups,
    )


def first_order(metric: Metric, own: F64, base: F64) -> F64:
    """float64 (N,): N times what a ratio of sums gains by one sample's states instead of the base's, to first order.

    own, base  float64 (N, S), states; sums that are 0 are taken to stay so
    """
    assert metric.value is not None
    sums = base.sum(axis=0)
    step = np.diag(STEP * sums)
    slope = (metric.value(sums + step) - metric.value(sums - step)) / np.where(sums > 0, 2 * STEP * sums, np.inf)
    return np.asarray(len(base) * ((own - base) @ slope))


def auto_score(
    found: Evidence,
    budget: Budget | None,
    seed: int = 0,
    known: Mapping[str, FittedScore] | None = None,
    task: Task = CLASSES,
    exits: Exits | None = None,
) -> tuple[FittedScore, ScoreChoice]:
    """The score whose cross-validated exit ratio at the budget's drop is best.

    Exit ratios are averaged over half, once and twice the drop: less noisy than at one. A score replaces the usual
    one only where its advantage exceeds one standard error over resamples of the samples.

    known  scores without ``uses_base`` that were cross-fitted on these very samples for another base
    exits  of scores and a drop, where the metric is a rank; see :func:`exits_of_metric`
    """
    drop = budget.value if budget is not None and budget.kind == "max_drop" else USUAL_DROP
    plain = cross_fit(task.score(), found, seed)
    exits = exits or _exits_of_quality(found, seed)
    best, best_lead, fitted = plain.score.name, 0.0, plain
    reference = exits(plain.scored.values, drop)
    advantage: dict[str, tuple[float, float]] = {}
    tried = dict(known or {})
    for name, kind in task.scores.items():
        if not kind.candidate or not can_fit(kind, found):
            continue
        if name not in tried:
            tried[name] = cross_fit(kind, found, seed, tried)
        one = tried[name]
        difference = exits(one.scored.values, drop) - reference
        lead, error = float(difference[0]), float(difference[1:].std())
        advantage[name] = (lead, error)
        if lead > max(best_lead, CERTAIN * error):
            best, best_lead, fitted = name, lead, one
    return fitted, ScoreChoice(best, advantage, plain.score.name)


def _resamples(n: int, groups: NDArray[np.int64] | None, rng: np.random.Generator) -> NDArray[np.int64]:
    """int64 (RESAMPLES, n): how often each sample is drawn; groups are drawn whole."""
    if groups is None:
        return rng.multinomial(n, np.full(n, 1 / n), RESAMPLES)
    found, member = np.unique(groups, return_inverse=True)
    count = len(found)
    return np.asarray(rng.multinomial(count, np.full(count, 1 / count), RESAMPLES)[:, member])


def _exits_of_quality(found: Evidence, seed: int) -> Exits:
    """Exits on the samples themselves, then on resamples of them."""
    change = numbers(found.right).astype(np.float64) - numbers(found.base_right) if found.gain is None else found.gain
    draws = _resamples(len(found), found.groups, np.random.default_rng([seed, 2]))
    weights = np.concatenate([np.ones((1, len(found)), np.int64), draws])
    return lambda values, drop: _exits(values, change, weights, drop)


def _exits(values: F64, change: F64, weights: NDArray[np.int64], drop: float) -> F64:
    """(draws,): share that exits within the drop, the mean over half, once and twice of it, for each weighting."""
    order, ends = sorted_groups(values)
    if not len(order):  # no sample has a score: nobody exits
        return np.zeros(len(weights))
    total = weights.sum(axis=1)
    exited = np.cumsum(weights[:, order], axis=1)[:, ends]
    gain = np.cumsum(weights[:, order] * change[order], axis=1)[:, ends]
    shares = []
    for limit in (drop / 2, drop, 2 * drop):
        feasible = gain >= -limit * total[:, None] - 1e-9
        last = feasible.shape[1] - 1 - feasible[:, ::-1].argmax(axis=1)
        share = np.take_along_axis(exited, last[:, None], axis=1)[:, 0] / total
        shares.append(np.where(feasible.any(axis=1), share, 0.0))
    return np.asarray(np.mean(shares, axis=0))


def exits_of_metric(table: Table, saver: str, base: str, rows: Rows) -> Exits:
    """Exits by the metric itself, where it is a rank: at some thresholds, on all samples and then without
    each of some parts of them. These are spread as far as the jackknife's standard error has it."""
    plain = plain_stage_scores(table, (saver, base), table.task.score().name)
    trace = make_trace(table, (saver, base), Rule(), plain, None, None, rows)
    blocks = blocks_of(trace, BLOCKS)
    before = blocks.replicates(None)[:, None]

    def exits(values: F64, drop: float) -> F64:
        own, falling = replace(trace, values=values[None]), np.sort(values[~np.isnan(values)])[::-1]
        if not len(falling):
            return np.zeros(1 + blocks.count)
        path = threshold_path(falling[np.unique(np.linspace(0, len(falling) - 1, CUTS).astype(np.intp))][:, None])
        found = measure(own, path)
        without = np.stack([blocks.replicates(route(own, path.policy(i))) for i in range(len(path))], axis=1)
        drops = np.concatenate([found.drop[None], before - without])
        kept = [np.where(drops <= limit + SLACK, found.exit_ratio[:, 0], 0.0) for limit in (drop / 2, drop, 2 * drop)]
        shares = np.mean([one.max(axis=1) for one in kept], axis=0)
        spread = (shares[1:] - shares[1:].mean()) * math.sqrt(blocks.count - 1)
        return np.concatenate([shares[:1], shares[0] + spread])

    return exits
