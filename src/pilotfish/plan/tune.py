"""Tuning: from records and a budget to a cascade. One flow for every method, score and guarantee.

split rows -> scores (fitted on fit rows) -> trace -> method's path -> choose, or certify -> judge on held-out rows
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pilotfish.cascade import Artefact, Budget, OperatingPoint, Performance, Rule, Stage, choose, make_budget
from pilotfish.errors import UsageError
from pilotfish.plan.certificate import Promise, certify
from pilotfish.plan.costs import base_cost, stage_costs
from pilotfish.plan.evaluate import evaluate, measure
from pilotfish.plan.fit import Fitted, fit
from pilotfish.plan.holdout import Holdout, split_for_certificate, split_rows
from pilotfish.plan.job import Job
from pilotfish.plan.methods import Method, find_method, read_options
from pilotfish.plan.path import PolicyPath, densify
from pilotfish.plan.same_cost import check_cost, refuse_unknown, side_keys
from pilotfish.plan.trace import Trace
from pilotfish.plan.tuning import Tuning, notes_on
from pilotfish.records import GroupBy, Run, Table, read_table, refuse_bad_base
from pilotfish.scores import needs_fit


def tune(
    run: Run,
    stages: Sequence[str],
    *,
    max_drop: float | None = None,
    max_cost: float | str | None = None,
    min_metric: float | None = None,
    min_accuracy: float | None = None,
    method: str = "sweep",
    score: str = "max_prob",
    cost: str = "macs",
    split: str = "val",
    holdout: float = 0.5,
    seed: int = 0,
    guarantee: float | None = None,
    test: str = "exact",
    savers_tried: int = 1,
    options: Mapping[str, Any] | None = None,
    group_by: GroupBy | None = None,
    judge_on: str = "random",
    allow_bad_base: bool = False,
) -> Tuning:
    """Choose the policy of a cascade (savers, then the base) for one budget.

    The samples are split at random by *seed*: the policy is chosen on one part and judged on the other. With
    ``holdout=0`` it is judged on the samples it was chosen on, as the papers do; such a figure is optimistic.

    method        a key of METHODS; *options* are its further choices, such as ``{"diagram": "survivors"}``
    score         a plain score, a fitted one, or ``auto``
    guarantee     confidence, such as 0.9: the budget then holds on all data of this kind but for a chance of 0.1.
                  What is fitted is fitted on half of the calibration part and certified on the other half
    test          of a guaranteed drop: ``exact``, ``paired_cp`` or ``wsr``
    savers_tried  how many savers competed on these samples: the chance of error is divided by it
    group_by      samples that belong together (see :func:`pilotfish.records.groups_by`); None: as recorded. A group is
                  on one side of every split, and intervals and certificates count groups
    judge_on      ``last``: the last samples of the records judge, not a random part; for data in the order of time
    allow_bad_base  go on with a base that is no better than chance; it is a note then

    Raises BudgetError, with the best that can be reached, when the budget cannot be met or certified; RecordsError for
    a base that is no better than chance on its labels.
    """
    names = _stages(stages)
    found = find_method(method, len(names))
    chosen: Any = read_options(found.options, options or {}, method)
    if score != "max_prob" and not Rule(found.rule, 1.0).scores:
        raise UsageError(f"method {method} counts votes and compares no score; leave --score out")
    if found.rule == "average" and needs_fit(score):
        raise UsageError(f"method average mixes probabilities, and {score} is fitted to one model's; use max_prob")
    table = read_table(run, names[:-1], names[-1], split, group_by)
    if not allow_bad_base:
        refuse_bad_base(table)
    refuse_unknown(table.meta, names, cost)
    checked = tuple(check_cost(table.meta, names, cost))
    budget = make_budget(max_drop, max_cost, min_metric, _full_cost(table, names, cost), min_accuracy=min_accuracy)
    if budget.kind != "max_drop" and found.takes_last:
        raise UsageError(f"method {method} stops at a drop; give max_drop, or use method sweep")
    parts = _split(table, holdout, seed, guarantee, found, score, test, len(names), judge_on)
    job = Job(
        table, run.path.name, names, method, found, chosen, score, cost, budget, parts, holdout, seed, checked, judge_on
    )
    promise = None if guarantee is None else _promise(budget, table, guarantee, test, savers_tried)
    return _result(job, fit(job), promise, guarantee or 0.0)


def _result(job: Job, fitted: Fitted, promise: Promise | None, confidence: float) -> Tuning:
    """Choose or certify a policy of the fitted path, judge it, and make the cascade of it."""
    parts, scores = job.parts, fitted.scores
    trace, path = _to_choose_from(job, fitted, promise)
    frontier = measure(trace, path)
    certificate = None if promise is None else certify(trace, path, promise, confidence)
    if certificate is not None:
        index = certificate.index
    else:
        index = len(frontier) - 1 if job.method.takes_last else choose(frontier, job.budget)
    policy = path.policy(index)
    calibration = evaluate(trace, policy)
    evaluation = None
    if len(parts.evaluation):
        evaluation = evaluate(job.trace(fitted.rule, scores.scores, parts.evaluation), policy)
    artefact = Artefact(
        stages=tuple(Stage.from_meta(job.table.meta[name]) for name in job.stages),
        score=job.score,
        scores=scores.scores,
        method=job.name,
        cost_key=None if trace.costs is None else job.cost,
        frontier=frontier.pareto(),
        operating_point=OperatingPoint(
            tuple(path.thresholds[index].tolist()), job.budget, None if path.exit_sets is None else policy
        ),
        calibration=calibration,
        evaluation=evaluation,
        origin={**job.origin, "options": dataclasses.asdict(job.options), "parameter": _parameter(path, index)},
        guarantee=None if certificate is None else certificate.to_json(),
        rule=fitted.rule,
    )
    costs, left_out = _all_costs(job, evaluation or calibration)
    return Tuning(
        artefact=artefact,
        calibration=calibration,
        evaluation=evaluation,
        split={"fit": len(parts.fit), "certify": len(parts.certify), "evaluation": len(parts.evaluation)},
        saves=_saves(calibration),
        reference=job.table.reference_kind,
        notes=(*notes_on(job, scores, calibration, evaluation, costs, promise), *left_out),
        costs=costs,
        choices=scores.choices,
    )


def _to_choose_from(job: Job, fitted: Fitted, promise: Promise | None) -> tuple[Trace, PolicyPath]:
    """The samples that choose, and the path: the fitted one, in finer steps for a certificate; where nothing was
    fitted, that of the certified samples themselves."""
    if promise is None:
        return fitted.trace, fitted.path
    if not len(job.parts.fit):
        return fitted.trace, fitted.path
    return job.trace(fitted.rule, fitted.scores.scores, job.parts.certify), densify(fitted.path, fitted.trace)


def _stages(stages: Sequence[str]) -> tuple[str, ...]:
    if len(stages) < 2 or len(set(stages)) != len(stages):
        raise UsageError(
            "at least two different stages are needed, savers first and the base last; "
            f"found {', '.join(stages) or 'none'}"
        )
    return tuple(stages)


def _split(
    table: Table,
    holdout: float,
    seed: int,
    guarantee: float | None,
    method: Method,
    score: str,
    test: str,
    stages: int,
    judge_on: str,
) -> Holdout:
    n, groups = len(table), table.groups
    if guarantee is None:
        return split_rows(n, holdout, seed, groups, judge_on)
    if not 0 < guarantee < 1:
        raise UsageError(f"a guarantee is a confidence between 0 and 1, such as 0.9 (90%), found {guarantee}")
    # the thresholds of one score may be cut at any of the certified scores; whatever else is fitted needs other samples
    counts_only = method.rule in ("patience", "agreement")
    slow = test == "wsr" and groups is None
    fitted = method.fitted or needs_fit(score) or slow or (stages > 2 and not counts_only)
    return split_for_certificate(n, holdout, seed, fitted, groups, judge_on)


def _promise(budget: Budget, table: Table, guarantee: float, test: str, savers_tried: int) -> Promise:
    if savers_tried < 1:
        raise UsageError(f"savers_tried is a whole number of at least 1, found {savers_tried}")
    delta = (1 - guarantee) / savers_tried
    if budget.kind == "max_cost":
        return Promise("cost", budget.value, delta, test)  # type: ignore[arg-type]
    if budget.kind == "min_metric":
        return Promise("accuracy", budget.value, delta, test)  # type: ignore[arg-type]
    kind = "agreement" if table.reference_kind == "base" else "drop"
    return Promise(kind, budget.value, delta, test)  # type: ignore[arg-type]


def _full_cost(table: Table, stages: Sequence[str], cost: str) -> float | None:
    return None if stage_costs(table, stages, cost) is None else base_cost(table, stages[-1], cost)


def _all_costs(job: Job, judged: Performance) -> tuple[dict[str, tuple[float, float]], list[str]]:
    """By every key that all stages have, and a note on those that cannot be compared."""
    found = {}
    keys, left_out = side_keys(job.table.meta, job.stages)
    for key in keys:
        costs, base = stage_costs(job.table, job.stages, key), base_cost(job.table, job.stages[-1], key)
        if costs is not None and base is not None:
            found[key] = (float(np.dot(judged.exit_ratio, np.cumsum(costs))), base)
    return found, left_out


def _saves(found: Performance) -> bool | None:
    return None if found.cost is None or found.base_cost is None else found.cost < found.base_cost


def _parameter(path: PolicyPath, index: int) -> dict[str, float | None] | None:
    """What runs along the path, at the policy that was chosen: {"delta": 0.93}, say."""
    if path.at is None:
        return None
    value = float(path.at[index])
    return {path.parameter: value if np.isfinite(value) else None}
