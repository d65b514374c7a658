"""Which saver: the pool ranked by ΔC (TinySaver 3.3, Eq. 6, 7 and 10)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from pilotfish.cascade import Budget, ExitSets, Rule, leaves, make_budget
from pilotfish.cascade.budget import SLACK
from pilotfish.documents import as_document
from pilotfish.errors import BudgetError, PilotfishError, UsageError
from pilotfish.plan.adjust import adjusted
from pilotfish.plan.candidates import find_candidates
from pilotfish.plan.certificate import Promise, begun, certify, find_test
from pilotfish.plan.costs import delta_cost
from pilotfish.plan.evaluate import evaluate, measure
from pilotfish.plan.evidence import stage_scores
from pilotfish.plan.holdout import Holdout, split_for_certificate, split_rows
from pilotfish.plan.limit_notes import MISSED
from pilotfish.plan.methods import METHODS, Method, saver_method
from pilotfish.plan.path import MOST
from pilotfish.plan.same_cost import side_keys
from pilotfish.plan.saver_ranking import SaverRanking, SaverResult
from pilotfish.plan.trace import Trace, make_trace
from pilotfish.records import GroupBy, RecordsMeta, Run, Table, compare, is_bad_base, notes_on_chance
from pilotfish.scores import to_shown


def rank_savers(
    run: Run,
    base: str,
    *,
    cost: str = "macs",
    score: str | None = None,
    split: str = "val",
    holdout: float = 0.0,
    seed: int = 0,
    method: str = "sweep",
    max_drop: float = 0.0,
    guarantee: float | None = None,
    test: str = "auto",
    group_by: GroupBy | None = None,
    metric: str | None = None,
) -> SaverRanking:
    """Rank every model of *run* as a saver for *base*.

    Candidates cost less than the base (all, where costs are unknown) and have a confidence. With costs the smallest
    ΔC ranks first, without them the largest exit ratio. With ``holdout`` > 0 thresholds come from one part and the
    drop they cause is shown on the other. Each is judged on the rows that it shares with the base; savers that share
    fewer than 90 % of the most that one of them has rank after the others (see :func:`pilotfish.records.compare`).

    run        records (in :func:`pilotfish.savers`, also its folder)
    base       the model to make cheaper
    cost       key of the costs in the records: ``macs``, ``ms@cpu``, …
    score      exit score: a plain one, a fitted one, or ``auto``
    split      that is judged on
    holdout    share of the samples that the drop is shown on
    seed       of the split, and of what is fitted
    method     way to choose a threshold
    max_drop   of the metric, a fraction: 0.005 is half a point (in :func:`pilotfish.savers`, also ``"0.5%"``)
    test       of the certified drops, as for :func:`pilotfish.tune`
    guarantee  confidence, such as 0.9. Savers are ranked on half of the samples and certified on the other half, each
               at (1 - guarantee) / K for K savers, so that all K promises hold together. A saver that cannot be
               compared and has too few samples is not certified, and a note says so
    group_by   samples that belong together (see :func:`pilotfish.records.groups_by`); None: as recorded
    metric     what is measured, by name, where it is not the task's first

    RecordsError for records that are not there, UsageError for arguments that make no sense.

    >>> import pilotfish
    >>> ranking = pilotfish.savers("imagenet_lite", "lite:efficientnet_lite2@300")
    >>> ranking.best, round(ranking.savers[0].delta_cost, 3)
    ('lite:efficientnet_lite0@224', -0.513)
    """
    budget = make_budget(max_drop=max_drop)  # refuses what is no drop
    candidates, notes = find_candidates(run, base, split, cost)
    by = run.groups(base, split, group_by)
    rows = compare([run.read(name, split) for name in candidates], run.read(base, split), by, metric)
    table, way = rows.common, saver_method(method)
    score = table.task.score_name(score)
    promise = _promise(table, len(candidates), max_drop, guarantee, test)

    def split_of(own: Table) -> Holdout:
        if promise is None:
            return split_rows(len(own), holdout, seed, own.groups)
        return split_for_certificate(len(own), holdout, seed, True, own.groups)

    parts = split_of(table)

    def judge(own: Table, name: str, promise: Promise | None = promise) -> SaverResult:
        mine = parts if own is table else split_of(own)
        own = adjusted(own, (name, base), mine.fit)
        fitted = stage_scores(own, (name, base), score, mine.fit, budget, seed)
        on = partial(make_trace, own, (name, base), Rule(), fitted.scores)
        policy, r, threshold = _chosen(on(fitted.scored, None, mine.fit), way, budget)
        delta = partial(delta_cost, own.meta, name, base, cost)
        c_s, c_b = (own.meta[one].costs.get(cost) for one in (name, base))
        return SaverResult(
            saver=name,
            exit_ratio=r,
            threshold=threshold,
            cost_ratio=None if c_s is None or not c_b else c_s / c_b,
            delta_cost=delta(r),
            accuracy=own.value(name, mine.fit),
            held_out=_held_out(on(None, None, mine.evaluation), policy, delta) if len(mine.evaluation) else None,
            certified=None
            if promise is None
            else _certified(
                on(None, None, mine.certify), on(None, None, mine.fit), promise, guarantee or 0.0, budget, delta
            ),
            n=len(mine.fit),
            base_accuracy=own.value(base, mine.fit),
        )

    fair: dict[str, SaverResult] = {}
    refused: list[BudgetError] = []
    for name in (one for one in candidates if one not in rows.short):
        try:
            fair[name] = judge(table, name)
        except BudgetError as error:
            if table.task.metric.kind == "mean":  # there too few samples for one are too few for all
                raise
            refused.append(error)
            fair[name] = judge(table, name, None)
            notes.append(f"{name} is not certified: {error}")
    if refused and len(refused) == len(fair):
        raise refused[0]
    results = []
    for name, own in rows.tables.items():
        if name in fair:
            results.append(fair[name] if own is table else judge(own, name))
            continue
        try:
            judged = judge(own, name)
        except PilotfishError as error:  # too few for a certificate; that stops none of the others
            judged = judge(own, name, None)
            notes.append(f"{name} is not certified: {error}")
        results.append(replace(judged, comparable=False))

    def place(s: SaverResult) -> tuple[Any, ...]:
        ranked_by = fair.get(s.saver, s)  # on the same samples for all that can be compared
        delta = ranked_by.delta_cost
        return (not s.comparable, delta is None, delta or 0.0, -ranked_by.exit_ratio, s.saver)

    results.sort(key=place)
    compared = [s for s in results if s.comparable]
    saving = [s for s in compared if (d := fair[s.saver].delta_cost) is not None and d < 0]
    metas = {name: one.meta[name] for name, one in rows.tables.items()} | {base: table.meta[base]}
    bad = is_bad_base(table)  # any saver is as good as it, and nothing follows from that
    return SaverRanking(
        base=base,
        cost=cost,
        n=len(parts.fit),
        best=saving[0].saver if saving else None,
        savers=tuple(results),
        base_accuracy=adjusted(table, (base,), parts.fit).value(base, parts.fit),
        split=split,
        score=score,
        method=method,
        max_drop=max_drop,
        holdout=holdout,
        reference=table.reference_kind,
        metric=table.task.metric.name,
        notes=(
            *notes_on_chance(table, table.models[::-1]),
            *(said for name in rows.short for said in notes_on_chance(rows.tables[name], [name])),
            *([] if bad else _verdicts(saving[0] if saving else None, base, budget, guarantee is not None)),
            *notes,
            *rows.row_notes(),
            *rows.notes,
            *_other_costs(metas, base, compared, cost),
        ),
        guarantee=None
        if promise is None
        else {
            "confidence": guarantee,
            "savers": len(candidates),
            "n": len(parts.certify),
            "test": promise.test if table.groups is None or promise.asymptotic else "wsr",
            **({"asymptotic": True} if promise.asymptotic else {}),
            **({} if table.groups is None else {"groups": len(np.unique(table.groups[parts.certify]))}),
        },
    )


def _promise(table: Table, savers: int, max_drop: float, guarantee: float | None, test: str) -> Promise | None:
    """What is promised of each saver, so that all promises hold together; None where nothing is."""
    if guarantee is None:
        return None
    if not 0 < guarantee < 1:
        raise UsageError(f"a guarantee is a confidence between 0 and 1, such as 0.9 (90%), found {guarantee}")
    if not savers:
        return None
    test = find_test(test, table.task.metric, table.quality(table.base).dtype == np.bool_)
    kind = "agreement" if table.reference_kind == "base" else "drop"
    return Promise(kind, max_drop, (1 - guarantee) / savers, test)


def _chosen(trace: Trace, method: Method, budget: Budget) -> tuple[ExitSets, float, float]:
    """(exit sets, exit ratio, threshold as people read it: NaN where the sets are none) that *method* takes."""
    path = method.path(trace, budget, method.options())
    frontier = measure(trace, path)
    try:
        point = method.point(frontier, budget)
    except BudgetError:  # below a drop of 0 there may be none: exit nobody
        point = 0
    policy = path.policy(point)
    plain = len(policy[0]) == 1
    threshold = float(to_shown(trace.scales[0], path.thresholds[point, 0])) if plain else math.nan
    return policy, float(frontier.exit_ratio[point, 0]), threshold


def _held_out(trace: Trace, policy: ExitSets, delta: Callable[[float], float | None]) -> dict[str, Any]:
    judged = evaluate(trace, policy)
    return {
        "exit_ratio": judged.exit_ratio[0],
        "delta_cost": delta(judged.exit_ratio[0]),
        "drop": judged.drop,
        "drop_interval": list(judged.drop_interval),
        **({} if judged.groups is None else {"groups": judged.groups}),
    }


def _certified(
    trace: Trace, fit: Trace, promise: Promise, guarantee: float, budget: Budget, delta: Callable[[float], float | None]
) -> dict[str, Any]:
    path = METHODS["sweep"].path(trace if trace.whole_counts else fit, budget, None)
    if not trace.whole_counts:  # each test is a pass over the samples: some policies, fixed on others
        path = path.take(np.unique(np.linspace(0, len(path) - 1, MOST).astype(np.intp)))
        path = begun(path, fit, trace, promise)
    certificate = certify(trace, path, promise, guarantee)
    threshold = float(path.thresholds[certificate.index, 0])
    r = float(leaves(trace.values[0], [threshold]).mean())
    return {
        "exit_ratio": r,
        "delta_cost": delta(r),
        "threshold": as_document(float(to_shown(trace.scales[0], threshold))),
        "bound": certificate.bound,
    }


def _verdicts(best: SaverResult | None, base: str, budget: Budget, promised: bool) -> list[str]:
    """What the best saver comes to: a drop that was missed on held-out samples, or that it needs no base."""
    if best is None:
        return []
    notes = []
    if best.held_out is not None and best.held_out["drop"] > budget.value + SLACK:
        low, high = best.held_out["drop_interval"]
        drop = best.held_out["drop"]
        notes.append(
            f"{MISSED} on held-out samples by {best.saver}: {100 * drop:.2f} points against {100 * budget.value:.2f} "
            f"(95 % interval {100 * low:.2f} to {100 * high:.2f})"
            + ("" if promised else "; ask for a smaller drop, or for --guarantee 90%")
        )
    if best.exit_ratio == 1:
        notes.append(
            f"the saver alone keeps within a drop of {100 * budget.value:g} points: run {best.saver} alone "
            f"(every sample exits there, and {base} is never asked)"
        )
    return notes


def _other_costs(metas: Mapping[str, RecordsMeta], base: str, results: Sequence[SaverResult], cost: str) -> list[str]:
    """Where another cost would choose another saver."""
    best = min((s for s in results if s.delta_cost is not None), key=lambda s: s.delta_cost or 0.0, default=None)
    keys, notes = side_keys(metas, tuple(metas)) if results else ([], [])
    for key in keys if best is not None else ():
        ranked = sorted((delta_cost(metas, s.saver, base, key, s.exit_ratio) or 0.0, s.saver) for s in results)
        if key != cost and best is not None and ranked[0][1] != best.saver:
            notes.append(f"by {key} the best saver would be {ranked[0][1]} (ΔC {100 * ranked[0][0]:.1f}%)")
    return notes
