"""Fitting: the scores, the rule and the policy path of a job, on the samples that may be used for it."""

from __future__ import annotations

from dataclasses import dataclass

from pilotfish.cascade import Rule, choose
from pilotfish.errors import BudgetError
from pilotfish.plan.evaluate import measure
from pilotfish.plan.evidence import StageScores, plain_stage_scores, stage_scores
from pilotfish.plan.holdout import Rows
from pilotfish.plan.job import Job
from pilotfish.plan.methods import WEIGHTS, EnsembleOptions
from pilotfish.plan.path import PolicyPath
from pilotfish.plan.trace import Trace
from pilotfish.scores.outputs import TOP_K, available


@dataclass(frozen=True)
class Fitted:
    """rule, scores and path as they came out; trace: the samples they were fitted on."""

    rule: Rule
    scores: StageScores
    path: PolicyPath
    trace: Trace


def fit(job: Job) -> Fitted:
    """On the fit rows; on those to be certified where nothing is fitted to them."""
    rows = job.parts.fit if len(job.parts.fit) else job.parts.certify
    kind = job.method.rule
    if not Rule(kind, 1.0).scores:
        scores = StageScores((), ())
    elif kind == "average":
        scores = StageScores(plain_stage_scores(job.table, job.stages, job.score), ())
    else:
        scores = stage_scores(job.table, job.stages, job.score, rows, job.budget, job.seed)
    if kind == "ensemble":
        return _ensemble(job, scores, rows)
    rule = Rule(kind, top_k=_classes(job)) if kind == "average" else Rule(kind)
    trace = job.trace(rule, scores.scores, rows, scores)
    return Fitted(rule, scores, job.method.path(trace, job.budget, job.options), trace)


def _ensemble(job: Job, scores: StageScores, rows: Rows) -> Fitted:
    """Little-Big's Eq. 8 with the weight that serves the budget best; of equals the closest to the plain rule.

    BudgetError, with the best of the weights, when none meets the budget.
    """
    options: EnsembleOptions = job.options
    found: list[tuple[tuple[float, float], Fitted]] = []
    refusals = []
    for weight in WEIGHTS if options.weight is None else (options.weight,):
        rule = Rule("ensemble", weight, _classes(job))
        trace = job.trace(rule, scores.scores, rows, scores)
        path = job.method.path(trace, job.budget, job.options)
        frontier = measure(trace, path)
        try:
            i = choose(frontier, job.budget)
        except BudgetError as error:
            refusals.append((float(frontier.drop.min()), error))
            continue
        spent, lost = float(frontier.effort[i]), float(frontier.drop[i])
        merit = (lost, spent) if job.budget.kind == "max_cost" else (spent, lost)
        found.append((merit, Fitted(rule, scores, path, trace)))
    if not found:
        raise min(refusals, key=lambda refusal: refusal[0])[1]
    return min(found, key=lambda one: one[0])[1]


def _classes(job: Job) -> int:
    """How many of the best classes all stages' records hold, as far as a mixture looks."""
    return min(TOP_K, *(max(1, available(job.table.outputs[name])) for name in job.stages))
