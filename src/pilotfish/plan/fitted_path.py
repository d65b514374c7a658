"""What is fitted before a policy is chosen: the scores, the rule and the path of policies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pilotfish.cascade import Budget, Rule, choose
from pilotfish.errors import BudgetError
from pilotfish.plan.constraints import Constraints, kept_by
from pilotfish.plan.evaluate import measure
from pilotfish.plan.evidence import StageScores, plain_stage_scores, stage_scores
from pilotfish.plan.holdout import Rows
from pilotfish.plan.methods import WEIGHTS, Method
from pilotfish.plan.path import PolicyPath
from pilotfish.plan.trace import Trace, make_trace
from pilotfish.records import Table
from pilotfish.scores import ExitScore
from pilotfish.scores.outputs import TOP_K, available


@dataclass(frozen=True)
class Job:
    """What is tuned: stages, savers then the base, of a table; options: of the method; constraints: beside the
    budget."""

    table: Table
    stages: tuple[str, ...]
    method: Method
    options: Any
    score: str
    cost: str
    budget: Budget
    seed: int
    constraints: Constraints | None = None

    def trace(self, rule: Rule, scores: Sequence[ExitScore], rows: Rows, fitted: StageScores | None = None) -> Trace:
        """The stages on some rows; *fitted* where these rows' scores were cross-fitted."""
        scored = None if fitted is None or not fitted.scored else fitted.scored
        return make_trace(self.table, self.stages, rule, scores, scored, self.cost, rows)


@dataclass(frozen=True)
class FittedPath:
    """rule, scores and path as they came out; trace: the samples they were fitted on."""

    rule: Rule
    scores: StageScores
    path: PolicyPath
    trace: Trace


def fit_path(job: Job, rows: Rows) -> FittedPath:
    """The scores, the rule and the policy path, on the rows that may be used for it."""
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
    return FittedPath(rule, scores, job.method.path(trace, job.budget, job.options), trace)


def _ensemble(job: Job, scores: StageScores, rows: Rows) -> FittedPath:
    """Little-Big's Eq. 8 with the weight that serves the budget best; of equals the closest to the plain rule.

    BudgetError, with the best of the weights, when none meets the budget.
    """
    found: list[tuple[tuple[float, float], FittedPath]] = []
    refusals = []
    for weight in WEIGHTS if job.options.weight is None else (job.options.weight,):
        rule = Rule("ensemble", weight, _classes(job))
        trace = job.trace(rule, scores.scores, rows, scores)
        path = job.method.path(trace, job.budget, job.options)
        frontier = measure(trace, path)
        try:
            kept = kept_by(job.constraints, trace, path, frontier, rows)
            i = choose(frontier, job.budget, kept, None if job.constraints is None else job.constraints.asked)
        except BudgetError as error:
            refusals.append((float(frontier.drop.min()), error))
            continue
        spent, lost = float(frontier.effort[i]), float(frontier.drop[i])
        merit = (lost, spent) if job.budget.kind == "max_cost" else (spent, lost)
        found.append((merit, FittedPath(rule, scores, path, trace)))
    if not found:
        raise min(refusals, key=lambda refusal: refusal[0])[1]
    return min(found, key=lambda one: one[0])[1]


def _classes(job: Job) -> int:
    """How many of the best classes all stages' records hold, as far as a mixture looks; other tasks keep all."""
    if not job.table.task.classes:
        return TOP_K
    return min(TOP_K, *(max(1, available(job.table.outputs[name])) for name in job.stages))
