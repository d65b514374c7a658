"""What the records of a run say about a base, a pair and the pool of savers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pilotfish.cascade import Artefact, ClassDrop, Frontier, Limits, Rule
from pilotfish.errors import AlignmentError, RecordsError, UsageError
from pilotfish.plan import SaverRanking, r_match, rank_savers
from pilotfish.plan.adjust import adjusted, adjusted_as
from pilotfish.plan.analysis import pair_frontier
from pilotfish.plan.class_drops import class_names, drops_of
from pilotfish.plan.costs import stage_costs
from pilotfish.plan.evaluate import evaluate, measure
from pilotfish.plan.path import PolicyPath, route
from pilotfish.plan.sweep import I64
from pilotfish.plan.trace import Trace, make_trace
from pilotfish.records import Records, RecordsMeta, Run, Table, align
from pilotfish.records.compare import with_labels_of
from pilotfish.report.details import details_of
from pilotfish.report.differences import Difference, Images, differences_of
from pilotfish.report.format import format_count
from pilotfish.report.from_cascade import (
    cascade_notes,
    cascade_policy,
    differences,
    missed_on,
    same_records,
    same_samples,
    tuned_on,
)
from pilotfish.report.subject import ModelFacts, ModelPoint, Policy, Subject
from pilotfish.scores import ExitScore, compute, plain_score, to_shown

ANSWERS_ONLY = ("id", "label", "prediction", "content", "group")


def about_records(
    run: Run,
    base: str,
    given: Sequence[str] | None,
    artefact: Artefact | None,
    cost: str,
    score_name: str | None,
    split: str,
    metric: str | None = None,
    data: Images | None = None,
) -> Subject:
    """The pair *given* (its last is the base), the cascade's, or else the best of the pool, beside the whole pool.

    data  the images, where those that saver and base answer most differently are to be drawn
    """
    tolerated = RecordsError if artefact is not None else AlignmentError if given else None
    ranked_by = score_name if artefact is None or not artefact.task.needs_fit(score_name) else None
    ranking, notes = _ranking(run, base, cost, ranked_by, split, tolerated, metric)
    stages = tuple(given) if given else (*([ranking.savers[0].saver] if ranking and ranking.savers else []), base)
    pool = [] if artefact is not None or ranking is None else [s.saver for s in ranking.savers]
    table = _table(run, stages, pool, split, metric)
    table = adjusted(table, stages, np.arange(len(table))) if artefact is None else adjusted_as(table, artefact)
    costs = stage_costs(table, stages, cost)
    pair, threshold, policy, trace, same = None, math.inf, None, None, True
    classes: tuple[ClassDrop, ...] = ()
    answered_by: I64 | None = None
    drawn: tuple[Difference, ...] = ()
    if len(stages) > 1:
        rule, scores = _scores(table, stages, score_name, artefact)
        pair, threshold = _pair(table, stages, scores, costs, artefact)
        trace = make_trace(table, stages, rule, scores, None, cost)
        same = artefact is None or same_records(artefact, table)
        if artefact is not None:
            classes = _classes(table, trace, artefact)
        policy = _policy(trace, threshold, artefact, same, split, classes)
        answered_by = route(trace, ((threshold,),) if artefact is None else artefact.operating_point.bounds)
        if data is not None:
            drawn, lacking = differences_of(table, pair, answered_by, data)
            notes = [*notes, *lacking]
    facts = tuple(_facts(table.meta[name]) for name in stages)
    points, left_out = _points(run, table, cost, split)
    return Subject(
        base=base,
        stages=stages,
        chosen="cascade" if artefact is not None else "given" if given else "best",
        split=split,
        n=len(table),
        reference=table.reference_kind,
        cost=cost if costs is not None else None,
        score=table.task.score_name(score_name),
        base_accuracy=table.value(base),
        stage_costs=None if costs is None else tuple(costs),
        policy=policy,
        pair=pair,
        threshold=threshold,
        frontier=None if pair is None else _frontier(pair, artefact, None if same else trace),
        points=points,
        metric=table.task.metric.name,
        classes=classes,
        details=details_of(table, stages, answered_by),
        by_class=table.task.by_class[0] if table.task.by_class else "",
        class_names=tuple(table.meta[base].class_names or ()),
        differences=drawn,
        ranking=ranking,
        models=facts,
        data={
            "data": table.meta[base].data.get("spec"),
            "fingerprint": table.meta[base].fingerprint,
            "run": run.path.name,
        },
        notes=(
            *([] if policy is None or policy.missed is None else [policy.missed]),
            *dict.fromkeys([*notes, *(ranking.notes if ranking else ()), *table.notes, *left_out]),
            *(() if artefact is None else (*differences(artefact.stages, facts), *cascade_notes(artefact, not same))),
        ),
    )


def _ranking(
    run: Run,
    base: str,
    cost: str,
    score_name: str | None,
    split: str,
    tolerated: type[RecordsError] | None,
    metric: str | None,
) -> tuple[SaverRanking | None, list[str]]:
    """The pool, ranked. Where one pair was asked for, a stranger in the run does not spoil its page."""
    try:
        return rank_savers(run, base, cost=cost, score=score_name, split=split, metric=metric), []
    except RecordsError as error:
        if tolerated is None or not isinstance(error, tolerated):
            raise
        return None, [f"no table of savers: {error}"]


def _table(run: Run, stages: Sequence[str], pool: Sequence[str], split: str, metric: str | None) -> Table:
    """The stages on the samples that they share, beside those of the pool that have all the same; of the pool only the
    answers are read."""
    base = run.read(stages[-1], split)
    others: list[Records] = [run.read(name, split) for name in stages[:-1]]
    ids = others[0].ids if others else base.ids
    more = [run.read(name, split, ANSWERS_ONLY) for name in pool if name not in stages]
    base = with_labels_of([*others, *more], base)
    if all(records.ids.equals(ids) for records in (*others, base)):
        others += [records for records in more if records.ids.equals(ids)]
    return align(others, base, metric=metric)


def _scores(
    table: Table, stages: Sequence[str], name: str | None, artefact: Artefact | None
) -> tuple[Rule, tuple[ExitScore, ...]]:
    """How the stages decide: as the cascade says, or by the plain score *name*."""
    if artefact is None:
        kind = table.task.score(name)
        return Rule(), tuple(plain_score(kind, table.outputs[stage]) for stage in stages[:-1])
    for stage, one in zip(stages, artefact.scores, strict=False):
        here = one.kind.scale_of(table.outputs[stage])
        if here != one.scale:
            raise UsageError(
                f"the cascade's thresholds are in the unit {one.scale}, the records of {stage} give {here}; "
                "tune again on these records, or report the cascade without the run"
            )
    return artefact.rule, artefact.scores


def _pair(
    table: Table,
    stages: Sequence[str],
    scores: Sequence[ExitScore],
    costs: Sequence[float] | None,
    artefact: Artefact | None,
) -> tuple[Trace, float]:
    """The first stage and the base, and the threshold in force: of the cascade, else that of r_match. Where a rule
    compares votes, the saver is drawn by its usual score."""
    outputs = table.outputs[stages[0]]
    drawn = bool(scores) and (artefact is None or artefact.is_threshold_vector)
    scored = compute(scores[0], outputs) if drawn else table.task.scored(None, outputs)
    trace = make_trace(table, (stages[0], stages[-1]), Rule(), (), [scored], None)
    trace = replace(trace, costs=None if costs is None else (costs[0], costs[-1]))
    if artefact is not None and drawn:
        return trace, artefact.operating_point.thresholds[0]
    return trace, r_match(trace.values[0], *trace.quality)[1]


def _classes(table: Table, trace: Trace, artefact: Artefact) -> tuple[ClassDrop, ...]:
    """What each class of the samples at hand loses, and its limit where the cascade has one; none where samples have
    no class as their label."""
    if table.reference_kind != "label" or not table.task.classes or table.reference.ndim != 1:
        return ()
    limits = artefact.limits or Limits()
    found = drops_of(trace, artefact.operating_point.bounds, table.reference, class_names(table))
    return tuple(replace(c, limit=limits.class_drop.get(c.name, limits.worst_class_drop)) for c in found)


def _policy(
    trace: Trace, threshold: float, artefact: Artefact | None, same: bool, split: str, classes: Sequence[ClassDrop]
) -> Policy:
    """The figures of the thresholds in force. Those that the cascade's folder holds, where these are the samples that
    it was tuned on; else those of the samples at hand."""
    if artefact is None:
        here = evaluate(trace, ((threshold,),))
        shown = (float(to_shown(trace.scales[0], threshold)),)
        return Policy(shown=shown, judged=here, interval=here.drop_interval, protocol=same_samples(here.n))
    here = evaluate(trace, artefact.operating_point.bounds)
    here = replace(here, classes=tuple(c for c in classes if c.limit is not None))
    if not same:
        protocol = (
            f"The thresholds were chosen on {tuned_on(artefact)}. All figures here are of the {format_count(here.n)} "
            f"samples of split {split} of the run at hand, which are other samples."
        )
        missed = missed_on(here, artefact, f"split {split}")
        return Policy(artefact.shown_thresholds, here, here.drop_interval, protocol, missed=missed)
    return replace(cascade_policy(artefact), drawn=here)


def _frontier(pair: Trace, artefact: Artefact | None, other: Trace | None) -> Frontier:
    """The curve to draw; *other*: the samples at hand, where the cascade was tuned on others."""
    if artefact is not None and (len(artefact.stages) > 2 or artefact.rule.kind != "score" or not _plain(artefact)):
        if other is None:
            return artefact.frontier
        return measure(other, PolicyPath(artefact.frontier.thresholds, artefact.frontier.exit_sets)).pareto()
    return pair_frontier(pair)


def _plain(artefact: Artefact) -> bool:
    return artefact.operating_point.exit_sets is None


def _points(run: Run, table: Table, cost: str, split: str) -> tuple[tuple[ModelPoint, ...], list[str]]:
    """Every model of the run alone. Those outside the table are joined with the base one by one."""
    points, left_out = [], []
    base = run.read(table.base, split, ANSWERS_ONLY)
    if table.reference_kind == "label" and not base.has_labels:
        base = with_labels_of([run.read(name, split, ANSWERS_ONLY) for name in table.meta], base)
    for meta in run.metas(split):
        if meta.model in table.meta:
            here = table
        else:
            try:
                here = align([run.read(meta.model, split, ANSWERS_ONLY)], base)
            except AlignmentError as error:
                left_out.append(f"{meta.model} is not in the plot: {error}")
                continue
            if here.reference_kind != table.reference_kind:
                left_out.append(f"{meta.model} is not in the plot: it alone has labels")
                continue
        points.append(ModelPoint(meta.model, here.value(meta.model), meta.costs.get(cost)))
    return tuple(points), left_out


def _facts(meta: RecordsMeta) -> ModelFacts:
    return ModelFacts(
        name=meta.model,
        costs=meta.costs,
        spec=meta.spec,
        source=meta.source,
        weights_hash=meta.weights_hash,
        preprocessing=meta.preprocessing,
        preprocessing_hash=meta.preprocessing_hash,
        created=meta.created,
        failures=len(meta.failures),
    )
