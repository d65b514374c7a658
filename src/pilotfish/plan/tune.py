"""Tuning: from records and a budget to a cascade. One flow for every method, score, metric and guarantee.

split rows -> scores (fitted on fit rows) -> trace -> method's path -> choose, or certify -> judge on held-out rows
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.cascade import (
    Artefact,
    Frontier,
    Limits,
    OperatingPoint,
    Rule,
    Stage,
    check_rule,
    independent,
    make_budget,
    profile_of,
)
from pilotfish.errors import UsageError
from pilotfish.plan.adjust import adjusted
from pilotfish.plan.certificate import Promise, begun, certify, make_promise, without_guarantee
from pilotfish.plan.constraints import (
    beside,
    check_samples,
    clauses_of,
    find_constraints,
    kept_by,
    latency_bound,
)
from pilotfish.plan.costs import base_cost, stage_costs
from pilotfish.plan.evaluate import evaluate, measure
from pilotfish.plan.fitted_path import Job, fit_path
from pilotfish.plan.holdout import Holdout, split_for_certificate, split_rows
from pilotfish.plan.methods import Method, find_method, read_options
from pilotfish.plan.path import PolicyPath, densify
from pilotfish.plan.same_cost import all_costs, check_cost, refuse_unknown
from pilotfish.plan.tuning import Tuning, notes_on
from pilotfish.records import GroupBy, Run, Table, read_table, refuse_bad_base
from pilotfish.tasks.task import USUAL_SCORE

MOST_POINTS = 500  # that a cascade keeps of a frontier where every sample may be a point


def tune(
    run: Run,
    stages: Sequence[str],
    *,
    max_drop: float | None = None,
    max_cost: float | str | None = None,
    min_metric: float | None = None,
    min_accuracy: float | None = None,
    method: str = "sweep",
    score: str | None = None,
    cost: str = "macs",
    split: str = "val",
    holdout: float = 0.5,
    seed: int = 0,
    guarantee: float | None = None,
    test: str = "auto",
    savers_tried: int = 1,
    options: Mapping[str, Any] | None = None,
    group_by: GroupBy | None = None,
    judge_on: str = "random",
    allow_bad_base: bool = False,
    class_max_drop: Mapping[str, float] | None = None,
    worst_class_drop: float | None = None,
    max_latency_p95: float | None = None,
    apart: bool = False,
    metric: str | None = None,
) -> Tuning:
    """Choose the policy of a cascade (savers, then the base) for one budget.

    The samples are split at random by *seed*: the policy is chosen on one part and judged on the other. With
    ``holdout=0`` it is judged on the samples it was chosen on, as the papers do; such a figure is optimistic.

    run           records of all stages (in :func:`pilotfish.tune`, also its folder)
    stages        names of the savers, cheapest first, and last the base
    max_drop      of the metric, a fraction: 0.005 is half a point (in :func:`pilotfish.tune`, also ``"0.5%"``)
    max_cost      per sample in the unit of *cost*, or text such as ``"40%"``, of the base's
    cost          key of the costs in the records: ``macs``, ``ms@cpu``, …
    split         that is tuned on
    holdout       share of the samples that judges
    seed          of the split
    method        a key of METHODS; *options* are its further choices, such as ``{"diagram": "survivors"}``
    score         a plain score, a fitted one, or ``auto``; None: the task's first, max_prob of classes
    guarantee     confidence, such as 0.9: the budget then holds on all data of this kind but for a chance of 0.1.
                  What is fitted is fitted on half of the calibration part and certified on the other half
    test          of a guarantee: ``exact``, ``paired_cp``, ``wsr`` or ``jackknife``; ``auto`` is exact where answers
                  are right or wrong, wsr for other means and for single fractions (micro F1), else jackknife, which is
                  asymptotic
    savers_tried  how many savers competed on these samples: the chance of error is divided by it
    group_by      samples that belong together (see :func:`pilotfish.records.groups_by`); None: as recorded. A group is
                  on one side of every split, and intervals and certificates count groups
    judge_on      ``last``: the last samples of the records judge, not a random part; for data in the order of time
    allow_bad_base  accept a base that is no better than chance; it is a note then
    class_max_drop  beside the budget, the accuracy that may be lost among the samples of a class, by its name, or its
                  number where classes have no names: ``{"fire": 0.01}``
    worst_class_drop  the same for every other class that has samples
    max_latency_p95  beside the budget, the milliseconds that 95 % of single requests may take, by times of single
                  samples in the records. With a guarantee all limits are promised as well

    apart         with a guarantee, certify on the samples that :func:`find_chains` with ``apart`` left out: the stages
                  that it found need no *savers_tried*
    metric        what is measured, by name, where it is not the task's first

    min_metric    the least that the task's metric may be; ``min_accuracy`` is another name of it

    Raises BudgetError, with the best that can be reached, when the budget cannot be met or certified; RecordsError for
    a base that is no better than chance on its labels.

    >>> import pilotfish
    >>> tuned = pilotfish.tune(
    ...     "imagenet_lite", ["lite:efficientnet_lite0@160", "lite:efficientnet_lite2@300"], max_drop="1%"
    ... )
    >>> tuned.calibration.exit_ratio, tuned.evaluation.drop
    ((0.52, 0.48), 0.008)
    """
    names = _stages(stages)
    how = find_method(method, len(names))
    chosen: Any = read_options(how.options, options or {}, method)
    if score not in (None, USUAL_SCORE) and not Rule(how.rule, 1.0).scores:
        raise UsageError(f"method {method} counts votes and compares no score; leave --score out")
    table = read_table(run, names[:-1], names[-1], split, group_by, metric)
    check_rule(how.rule, table.task)
    score = table.task.score_name(score)
    if how.rule == "average" and table.task.needs_fit(score):
        usual = table.task.score().name
        raise UsageError(f"method average mixes probabilities, and {score} is fitted to one model's; use {usual}")
    if not allow_bad_base:
        refuse_bad_base(table)
    refuse_unknown(table.meta, names, cost)
    checked = check_cost(table.meta, names, cost)
    known = stage_costs(table, names, cost) is not None
    base = base_cost(table, names[-1], cost) if known else None
    budget = make_budget(max_drop, max_cost, min_metric, base, min_accuracy=min_accuracy)
    if budget.kind != "max_drop" and how.takes_last:
        raise UsageError(f"method {method} stops at a drop; give max_drop, or use method sweep")
    limits = Limits({str(k): drop for k, drop in (class_max_drop or {}).items()}, worst_class_drop, max_latency_p95)
    constraints = find_constraints(table, names, method, how, cost, limits)
    asked = None if constraints is None else limits
    promise = None if guarantee is None else make_promise(budget, table, guarantee, test, savers_tried)
    unused = [] if promise is not None else without_guarantee(test, savers_tried)
    parts = _split(table, how, score, promise, len(names), holdout, seed, judge_on, apart)
    table = adjusted(table, names, parts.fit)
    job = Job(table, names, how, chosen, score, cost, budget, seed, constraints)

    rows = parts.fit if len(parts.fit) else parts.certify  # nothing is fitted to samples that certify
    fitted = fit_path(job, rows)
    trace, path, traces = fitted.trace, fitted.path, [fitted.trace]
    if promise is not None and len(parts.fit):  # other samples certify, and the path is tested in finer steps
        rows = parts.certify
        trace, path = job.trace(fitted.rule, fitted.scores.scores, rows), densify(path, trace)
        path = begun(path, fitted.trace, trace, promise)
        traces.append(trace)
    said = [] if constraints is None else check_samples(constraints, rows, promise is not None)
    frontier = measure(trace, path)
    kept = kept_by(constraints, trace, path, frontier, rows)
    certificate = None
    if promise is not None:
        clauses = clauses_of(constraints, trace, path, rows, promise)
        certificate = certify(trace, path, promise, guarantee or 0.0, clauses)
    index = how.point(frontier, budget, kept, asked) if certificate is None else certificate.index
    policy = path.policy(index)
    calibration, evaluation = beside(constraints, evaluate(trace, policy), trace, policy, rows), None
    if len(parts.evaluation):
        held_out = job.trace(fitted.rule, fitted.scores.scores, parts.evaluation)
        traces.append(held_out)
        evaluation = beside(constraints, evaluate(held_out, policy), held_out, policy, parts.evaluation)
    meta = table.meta[table.base]
    origin = {
        "data": meta.data.get("spec"),
        "fingerprint": meta.fingerprint,
        "split": table.split,
        "n": len(table),
        "holdout": holdout,
        "seed": seed,
        "reference": table.reference_kind,
        "run": run.path.name,
        **({} if table.groups is None else {"groups": int(table.groups.max()) + 1}),
        **({} if judge_on == "random" else {"judge_on": judge_on}),
        **({} if savers_tried == 1 else {"savers_tried": savers_tried}),
        **({"apart": True} if apart and promise is not None else {}),
        "options": dataclasses.asdict(chosen),
        "parameter": _parameter(path, index),
    }
    artefact = Artefact(
        stages=tuple(Stage.from_meta(table.meta[name], table.adjustments.get(name)) for name in names),
        score=score,
        scores=fitted.scores.scores,
        method=method,
        cost_key=None if trace.costs is None else cost,
        frontier=_worth_keeping(frontier, None if trace.whole_counts else MOST_POINTS, index, kept),
        operating_point=OperatingPoint(
            tuple(path.thresholds[index].tolist()), budget, None if path.exit_sets is None else policy
        ),
        calibration=calibration,
        evaluation=evaluation,
        origin=origin,
        guarantee=None
        if certificate is None
        else {**certificate.to_json(), **latency_bound(constraints, trace, path, certificate)},
        rule=fitted.rule,
        task=table.task,
        limits=asked,
        profile=profile_of(
            np.concatenate([one.values for one in traces], axis=1),
            independent(table.groups, len(table)),
            table.outputs[names[0]].prediction if table.task.classes else None,
        ),
    )
    costs, left_out = all_costs(table, names, evaluation or calibration)
    notes = notes_on(artefact, table, parts, cost, costs, promise, fitted.scores.choices, checked)
    return Tuning(
        artefact=artefact,
        calibration=calibration,
        evaluation=evaluation,
        split={"fit": len(parts.fit), "certify": len(parts.certify), "evaluation": len(parts.evaluation)},
        saves=calibration.saves,
        reference=table.reference_kind,
        notes=(*unused, *notes, *said, *left_out),
        costs=costs,
        choices=fitted.scores.choices,
    )


def _worth_keeping(frontier: Frontier, most: int | None, index: int, kept: NDArray[np.bool_] | None) -> Frontier:
    """The Pareto set of the policies that keep to the limits; see :meth:`Frontier.pareto`."""
    if kept is None:
        return frontier.pareto(most, index)
    kept[index] = True  # certified, whatever it comes to on these samples
    rows = np.flatnonzero(kept)
    return frontier.take(rows).pareto(most, int(np.searchsorted(rows, index)))


def _stages(stages: Sequence[str]) -> tuple[str, ...]:
    if len(stages) < 2 or len(set(stages)) != len(stages):
        raise UsageError(
            "at least two different stages are needed, savers first and the base last; "
            f"found {', '.join(stages) or 'none'}"
        )
    return tuple(stages)


def _split(
    table: Table,
    method: Method,
    score: str,
    promise: Promise | None,
    stages: int,
    holdout: float,
    seed: int,
    judge_on: str,
    apart: bool,
) -> Holdout:
    if promise is None:
        return split_rows(len(table), holdout, seed, table.groups, judge_on)
    # the thresholds of one score may be cut at any of the certified scores; whatever else is fitted needs other samples
    counts_only = method.rule in ("patience", "agreement")
    slow = (promise.test == "wsr" and table.groups is None) or table.task.metric.kind != "mean"
    fits = method.fitted or table.task.adjustment is not None or table.task.needs_fit(score)
    fitted = apart or fits or slow or (stages > 2 and not counts_only)
    return split_for_certificate(len(table), holdout, seed, fitted, table.groups, judge_on)


def _parameter(path: PolicyPath, index: int) -> dict[str, float | None] | None:
    """What runs along the path, at the policy that was chosen: {"delta": 0.93}, say."""
    if path.at is None:
        return None
    value = float(path.at[index])
    return {path.parameter: value if np.isfinite(value) else None}
