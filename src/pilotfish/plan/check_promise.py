"""Whether a cascade still holds: it is held against what was promised when it was tuned, by tests on new samples."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.cascade import Artefact, decide, grouped_interval, independent
from pilotfish.errors import UsageError
from pilotfish.plan.certificate import LEVEL, Promise, Standing, standing
from pilotfish.plan.class_standings import (
    ClassStanding,
    class_standings,
    if_lost,
    limits_classes,
    notes_on_classes,
    parts,
)
from pilotfish.plan.evaluate import evaluate, outcomes
from pilotfish.plan.latency import note_on_requests, requests_standing
from pilotfish.plan.path import PolicyPath
from pilotfish.plan.promise_notes import promise_notes
from pilotfish.plan.shift import notes_on_shift
from pilotfish.plan.trace import Trace, make_trace
from pilotfish.plan.verdict import Evaluation, Interval, Word
from pilotfish.records import Table, is_bad_base

I64 = NDArray[np.int64]
UNSHOWN = (
    "no labels: disagreement with the base bounds the drop, and cannot show that it is too large; give the samples "
    "labels to know"
)


@dataclass(frozen=True)
class Everybody:
    """All samples of which the base answered some only.

    table        the first stage alone on all of them; answered_by: int64 (N,), the stage that answered each
    unanswered   how many more could not be answered
    """

    table: Table
    answered_by: I64
    unanswered: int = 0


def check_promise(
    artefact: Artefact,
    table: Table,
    everybody: Everybody | None = None,
    ms: float | None = None,
    *,
    unanswered: NDArray[Any] | None = None,
    requests: NDArray[np.float64] | None = None,
) -> Evaluation:
    """Hold *artefact* at its operating point against new samples.

    table       its stages on samples that all of them answered, adjusted as the cascade's are; costs are the
                artefact's
    everybody   where these are a random part of the samples: all of them, for exit ratios, cost and shifts
    ms          milliseconds per sample, where the cascade was run
    unanswered  (U,), the truth of more samples like those of *table* that not every stage could answer, or what stands
                for none. The verdict is only that the promise holds where it would hold were all of them lost
    requests    float64 (M,), milliseconds of single requests, where a limit of the latency is to be judged

    Without labels the base's answers are right. Then disagreement bounds a drop: the verdict may be that it holds, and
    broken only where agreement or a cost was promised. UsageError for a cascade of other stages than the table's.
    """
    names = [stage.name for stage in artefact.stages]
    if list(table.models) != names or artefact.task.name != table.task.name:
        raise UsageError(f"the cascade has stages {', '.join(names)}, the records are of {', '.join(table.models)}")
    _refuse_moved(artefact)
    table, kind, limit, notes = _promised(artefact, dataclasses.replace(table, task=artefact.task))
    trace = make_trace(table, names, artefact.rule, artefact.scores, None, artefact.cost_key)
    path = policy_of(artefact)
    found, answered_by = evaluate(trace, path.policy(0)), outcomes(trace, path.policy(0))[0]
    groups, seen = trace.groups, table
    if everybody is not None:
        seen, answered_by, groups = everybody.table, everybody.answered_by, everybody.table.groups
        share = np.bincount(answered_by, minlength=len(names)) / len(answered_by)
        found = dataclasses.replace(
            found,
            exit_ratio=tuple(share.tolist()),
            cost=None if trace.costs is None else float(share @ trace.through),
        )
    lost = table.task.unknown(0) if unanswered is None else unanswered
    more = len(lost) if everybody is None or kind != "cost" else everybody.unanswered

    # as it was certified; a limit that an interval gave is judged as the interval was made
    test = "jackknife" if artefact.guarantee is None else str(artefact.guarantee.get("test"))

    def stands(held: float) -> Standing | None:
        return _standing(trace, path, kind, held, test, table, answered_by, groups)

    stand = stands(limit)
    labelled = table.reference_kind == "label"
    classes = class_standings(artefact, table, trace, path, lost) if labelled else []
    verdict, p, needed, said = _verdict(stand, classes, kind, table)
    if verdict == "holds" and not labelled and limits_classes(artefact):
        verdict = "cannot tell"
    if verdict == "holds" and more:
        most = float(trace.through[-1]) if kind == "cost" else 1.0 if kind in ("drop", "agreement") else 0.0
        sums = trace.metric.kind != "mean" and kind != "cost"  # of which one sample may lose any share
        held = if_lost(limit, len(answered_by) if kind == "cost" else len(trace), more, most)
        worst = None if sums else stands(held)
        if worst is None or not worst.holds:
            verdict, said = "cannot tell", [_decided_by_unanswered(more), *said]
    asked = None if artefact.limits is None else artefact.limits.latency_p95
    late = None if asked is None or requests is None else requests_standing(requests, asked)
    if verdict == "holds" and late is not None and late.broken:
        verdict = "cannot tell"
    if asked is not None:
        said = [*said, note_on_requests(asked, late)]
    if late is not None:
        found = dataclasses.replace(found, latency_p95=late.p95)
    per_stage = tuple(_interval((answered_by == k).astype(np.float64), groups) for k in range(len(names)))
    return Evaluation(
        verdict=verdict,
        stages=tuple(names),
        n=found.n,
        promised=artefact.evaluation or artefact.calibration,
        found=dataclasses.replace(found, classes=tuple(one.found for one in classes if one.found.n)),
        limit=limit,
        kind=kind,
        p=p,
        reference=table.reference_kind,
        notes=(
            *said,
            *notes_on_classes(classes),
            *promise_notes(artefact, table, trace, found),
            *notes,
            *_shifts(artefact, trace, seen),
        ),
        bound=None if stand is None else stand.bound,
        needed=needed,
        exit_ratio_interval=per_stage,
        cost_interval=_cost_interval(trace, answered_by, groups),
        cost_key=None if found.cost is None else artefact.cost_key,
        ms=ms,
        unanswered=len(lost),
        latency_limit=asked,
        latency_interval=None if late is None else late.interval,
    )


def _decided_by_unanswered(count: int) -> str:
    return (
        f"the {count:,} samples that could not be answered leave it open: were all of them lost, the limit would not "
        "be shown to hold; mend them, or take them out of the data"
    )


def _refuse_moved(artefact: Artefact) -> None:
    """UsageError where the operating point is another than the one whose figures tune printed."""
    frontier, point = artefact.frontier, artefact.operating_point
    here = np.flatnonzero((frontier.thresholds == np.array(point.thresholds)).all(axis=1))
    if len(here) and not np.isclose(frontier.exit_ratio[here], artefact.calibration.exit_ratio).all(axis=1).any():
        raise UsageError(
            "the operating point was moved, and what tune promised is of another one; load the cascade again, or tune "
            "for this budget"
        )


def policy_of(artefact: Artefact) -> PolicyPath:
    """The operating point in force, as the one policy of a path."""
    point = artefact.operating_point
    return PolicyPath(np.array([point.thresholds]), None if point.exit_sets is None else (point.exit_sets,))


def _promised(artefact: Artefact, table: Table) -> tuple[Table, str, float, list[str]]:
    """(the table with the costs that were promised, and with the reference that the promise is about; the kind; the
    limit; notes)."""
    costs = {stage.name: stage.costs for stage in artefact.stages}
    meta = {name: dataclasses.replace(one, costs=costs[name]) for name, one in table.meta.items()}
    table, notes = dataclasses.replace(table, meta=meta), []
    guarantee: Mapping[str, Any] = artefact.guarantee or {}
    if guarantee:
        kind, limit = str(guarantee["kind"]), float(guarantee["target"])
    else:
        judged = artefact.evaluation or artefact.calibration
        kind, limit = "agreement" if artefact.origin.get("reference") == "base" else "drop", judged.drop_interval[1]
        if artefact.evaluation is None:
            notes.append(
                "the limit is of the samples that the thresholds were chosen on (holdout 0), which is optimistic: tune "
                "with a holdout, or with --guarantee 90%"
            )
    if kind == "agreement" and table.reference_kind == "label":
        answers = table.task.reference(table.outputs[table.base])
        table = dataclasses.replace(table, reference=answers, reference_kind="base")
        notes.append("the cascade was tuned without labels and promises agreement with its base: labels are not used")
    return table, kind, limit, notes


def _standing(
    trace: Trace,
    path: PolicyPath,
    kind: str,
    limit: float,
    test: str,
    table: Table,
    answered_by: I64,
    groups: I64 | None,
) -> Standing | None:
    """None where these samples say nothing about the promise; *test*: of ratios and ranks."""
    binary, sums = trace.quality.dtype == np.bool_, trace.metric.kind != "mean"
    if kind in ("drop", table.task.metric.name) and table.reference_kind == "base":
        if kind != "drop" or not binary or sums:
            return None
        kind = "agreement"  # who agrees with the base loses nothing: disagreement bounds the drop
    if kind == "cost":
        if trace.costs is None:
            return None
        return standing(
            _known(trace, answered_by, groups),
            PolicyPath(np.zeros((1, trace.stages - 1))),
            Promise("cost", limit, LEVEL),
        )
    return standing(trace, path, Promise(kind, limit, LEVEL, test if sums else "exact" if binary else "wsr"))


def _known(trace: Trace, answered_by: I64, groups: I64 | None) -> Trace:
    """The trace of samples of which only who answers them is known, by thresholds of 0."""
    quality = np.ones((trace.stages, len(answered_by)), bool)
    return dataclasses.replace(
        trace,
        values=np.where(np.arange(trace.stages - 1)[:, None] == answered_by, 1.0, -1.0),
        quality=quality,
        base_quality=quality[-1],
        groups=groups,
        cap=1 if groups is None else int(np.bincount(groups).max()),
        mixed=False,
    )


def _verdict(
    stand: Standing | None, classes: Sequence[ClassStanding], kind: str, table: Table
) -> tuple[Word, float | None, int | None, list[str]]:
    """(the verdict, p, how many samples would tell, why it is no other).

    With limits per class the promise holds where each part does; p is that of the worst part, times their number.
    """
    if stand is None:
        return "cannot tell", None, None, [_unsaid(kind, table)]
    if kind != "cost" and is_bad_base(table):
        return "cannot tell", stand.p, None, [f"the base {table.base} is no better than chance: nothing follows of it"]
    if kind == "drop" and table.reference_kind == "base":
        if stand.holds:
            return "holds", None, None, []
        return (
            "cannot tell",
            None,
            None if stand.broken else stand.needed,
            [UNSHOWN],
        )
    p = min(1.0, parts(classes) * min(stand.p, *(one.p for one in classes), 1.0))
    if p <= LEVEL:
        return "broken", p, None, []
    if stand.holds and all(one.holds for one in classes):
        return "holds", p, None, []
    return "cannot tell", p, None if stand.holds else stand.needed, []


def _unsaid(kind: str, table: Table) -> str:
    if kind == "cost":
        return "a cost was promised, and the cascade does not know what each of its stages costs: tune it again"
    says = table.task.metric.says
    if kind == "drop":
        return (
            f"no labels: how far answers are from the base's does not bound a drop of {says}; give the samples labels"
        )
    return f"no labels: a least {says} was promised, and only labels tell it; give the samples labels"


def _shifts(artefact: Artefact, trace: Trace, seen: Table) -> list[str]:
    """Notes on shifts; the first stage is looked at on all samples that it answered."""
    names, outputs = [stage.name for stage in artefact.stages], seen.outputs[artefact.stages[0].name]
    first = decide(artefact.rule, artefact.scores, 0, [outputs], len(names), artefact.task).values
    values = [(first, independent(seen.groups, len(seen)))]
    values += [(row, independent(trace.groups, len(trace))) for row in trace.values[1:]]
    return notes_on_shift(artefact, values, outputs.prediction if artefact.task.classes else None)


def _interval(values: NDArray[np.float64], groups: I64 | None) -> Interval:
    """95 % interval of the mean of values in [0, 1]."""
    low, high = grouped_interval(values, np.arange(len(values)) if groups is None else groups)
    return max(low, 0.0), high


def _cost_interval(trace: Trace, answered_by: I64, groups: I64 | None) -> Interval | None:
    if trace.costs is None:
        return None
    most = float(trace.through[-1])
    low, high = _interval(trace.through[answered_by] / most, groups) if most > 0 else (0.0, 0.0)
    return low * most, high * most
