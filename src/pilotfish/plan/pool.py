"""Every saver of a pool against every base at once: r_match of all pairs (TinySaver 3.3, Eq. 7 and 10).

One sort per saver serves all its bases. In that order the running gain of a base, #saver right - #base right, moves by
at most 1 per sample, so sums over blocks of samples bound it inside each block: only the blocks where it may still be
within the limit are looked into, from the last backwards.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pilotfish.cascade import make_budget
from pilotfish.cascade.budget import SLACK
from pilotfish.documents import as_document
from pilotfish.errors import RecordsError
from pilotfish.plan.adjust import adjusted
from pilotfish.plan.same_cost import check_cost, cost_keys
from pilotfish.plan.sweep import F64, I64, Mask
from pilotfish.plan.trace import Trace, by_quality, numbers, trace_of
from pilotfish.records import GroupBy, Outputs, Records, RecordsMeta, Run, fair_table, notes_on_chance
from pilotfish.scores import Scored, to_shown
from pilotfish.tasks import CLASSES, Task
from pilotfish.tasks.task import USUAL_SCORE

I8 = NDArray[np.int8]
BLOCK = 126  # sums of fewer than 128 zeros and ones fit int8
LOOK = 64  # blocks looked into at a time
LEAN = ("id", "label", "prediction", "log_odds", "confidence", "content", "group")


@dataclass(frozen=True)
class PoolRanking:
    """All savers of a run for all its bases; rows of the matrices are savers, columns bases.

    models      names, the cheapest first
    costs       float64 (M,), by the key ``cost``
    exit_ratio  float64 (M, M), r_match; NaN where the saver does not cost less than the base
    thresholds  float64 (M, M), as people read them (probabilities for max_prob)
    delta_cost  float64 (M, M), C_S / C_B - r_match; below 0 is a saving
    best        the saver with the smallest ``delta_cost`` of each base, None where none is below 0
    """

    models: tuple[str, ...]
    cost: str
    costs: F64
    n: int
    split: str
    score: str
    max_drop: float
    exit_ratio: F64
    thresholds: F64
    delta_cost: F64
    best: dict[str, str | None]
    notes: tuple[str, ...] = ()
    metric: str = "accuracy"

    def to_json(self) -> dict[str, Any]:
        """The matrices as lists of rows, null where there is no pair."""
        found: dict[str, Any] = as_document(self)
        return {**found, "threshold": found.pop("thresholds")}


def rank_pool(
    run: Run,
    *,
    split: str = "val",
    cost: str = "macs",
    score: str | None = None,
    max_drop: float = 0.0,
    threads: int = 2,
    group_by: GroupBy | None = None,
) -> PoolRanking:
    """Rank every model of *run* as a saver for every other, on the samples that all of them have.

    A model with fewer than 90 % of these samples is left out and named.

    group_by  ``none`` counts copies of a sample as often as they stand there; groups change nothing else here

    Models without the cost are left out; those without a confidence can be bases only. RecordsError when fewer than
    two models are left, or the records hold no labels: what is right must be the same for all bases.
    """
    trace, notes, task = _read(run, split, cost, score, group_by)
    costs = np.array(trace.added)
    exited, thresholds = match_pool(trace, max_drop, threads)
    pair = exited >= 0
    exit_ratio = np.where(pair, exited / len(trace), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        delta = costs[:, None] / costs[None, :] - exit_ratio
    lowest = np.where(pair, delta, np.inf)
    best = {
        name: trace.names[int(column.argmin())] if column.min() < 0 else None
        for name, column in zip(trace.names, lowest.T, strict=True)
    }
    shown = [to_shown(scale, row) for scale, row in zip((*trace.scales, "identity"), thresholds, strict=True)]
    return PoolRanking(
        models=trace.names,
        cost=cost,
        costs=costs,
        n=len(trace),
        split=split,
        score=task.score(score).name,
        max_drop=max_drop,
        exit_ratio=exit_ratio,
        thresholds=np.where(pair, shown, np.nan),
        delta_cost=delta,
        best=best,
        notes=notes,
        metric=task.metric.name,
    )


def match_pool(trace: Trace, max_drop: float = 0.0, threads: int = 2) -> tuple[I64, F64]:
    """The most samples that each model can answer for each other within *max_drop*, and from which score on.

    trace  M models with their costs, each with the score that it would decide by alone; the last costs the most

    exited int64 (M, M) and thresholds float64 (M, M): rows are savers, columns bases; -1 and +inf where the saver does
    not cost less than the base. Each pair equals ``sweep(score, saver, base).last_feasible(max_drop)``.
    """
    make_budget(max_drop=max_drop)  # refuses what is no drop
    costs = np.array(trace.added)
    pair = costs[:, None] < costs[None, :]
    exited, thresholds = np.where(pair, 0, -1), np.full(pair.shape, np.inf)
    least_gain = -(max_drop + SLACK) * len(trace)

    def one_saver(saver: int) -> None:
        bases = np.flatnonzero(pair[saver])
        if len(bases):
            exited[saver, bases], thresholds[saver, bases] = _match(trace, saver, bases, least_gain)

    with ThreadPoolExecutor(max(1, threads)) as workers:
        list(workers.map(one_saver, range(trace.stages - 1)))
    return exited, thresholds


def _match(trace: Trace, saver: int, bases: NDArray[np.intp], least_gain: float) -> tuple[I64, F64]:
    """exited and thresholds (B,) of one saver for its bases."""
    values, quality, n = trace.values[saver], numbers(trace.quality), len(trace)
    order = np.argsort(-values)[: n - np.count_nonzero(np.isnan(values))]  # ties in any order: cuts are at their ends
    falling = values[order]
    ends = np.ones(len(order), np.bool_)
    np.not_equal(falling[1:], falling[:-1], out=ends[:-1])
    mine = quality[saver].take(order)
    last = _last_feasible if quality.dtype == np.int8 else _last_of_all
    exited = np.array([last(mine, quality[base].take(order), ends, least_gain) for base in bases], np.int64)
    thresholds = np.full(len(bases), np.inf)
    thresholds[exited > 0] = falling[exited[exited > 0] - 1]
    thresholds[exited == n] = -np.inf
    return exited, thresholds


def _last_feasible(saver: I8, base: I8, ends: Mask, least_gain: float) -> int:
    """The most samples that can exit: the last end of a group of ties where the running gain is at least the limit.

    saver, base  int8 (k,), 1 where right, in the order of exit; ends bool (k,)
    """
    k = len(saver)
    change = saver - base
    starts = np.arange(0, k, BLOCK)
    after = np.cumsum(np.add.reduceat(change, starts, dtype=np.int8) if k else change, dtype=np.int64)
    before = np.concatenate([[0], after[:-1]]).astype(np.int64)
    highest = (before + after + np.minimum(BLOCK, k - starts)) / 2  # steps of at most 1 from before to after
    hopeful = np.flatnonzero(highest >= least_gain)[::-1]
    for at in range(0, len(hopeful), LOOK):
        blocks = hopeful[at : at + LOOK]
        places = starts[blocks][:, None] + np.arange(BLOCK)
        inside = np.minimum(places, k - 1)
        gain = before[blocks][:, None] + np.cumsum(change[inside], axis=1, dtype=np.int64)
        feasible = ends[inside] & (places < k) & (gain >= least_gain)
        rows = np.flatnonzero(feasible.any(axis=1))
        if len(rows):
            row = int(rows[0])
            return int(places[row][feasible[row]][-1]) + 1
    return 0


def _last_of_all(saver: F64, base: F64, ends: Mask, least_gain: float) -> int:
    """:func:`_last_feasible` of quality float64 (k,)."""
    feasible = np.flatnonzero(ends & (np.cumsum(saver - base) >= least_gain))
    return int(feasible[-1]) + 1 if len(feasible) else 0


def _read(
    run: Run, split: str, cost: str, score: str | None, group_by: GroupBy | None
) -> tuple[Trace, tuple[str, ...], Task]:
    """Only the columns that are needed, and one copy of ids and labels where the models agree on them."""
    metas = run.metas(split)
    costed = sorted((m for m in metas if cost in m.costs), key=lambda m: (m.costs[cost], m.model))
    if len(costed) < 2:
        known = sorted({key for meta in metas for key in meta.costs})
        raise RecordsError(
            f"{len(costed)} of the {len(metas)} models in {run.path} on split {split} have a cost {cost!r}, and a pool "
            f"needs two; {cost_keys(cost, known)}"
        )
    notes = [f"{m.model} has no cost {cost!r} and is left out" for m in metas if cost not in m.costs]
    notes += check_cost({m.model: m for m in metas}, [m.model for m in costed], cost)
    kept: list[Records] = []
    scored: dict[str, Scored] = {}
    for meta in costed:
        records, found = _scored(run, meta, split, score)
        if kept and records.ids.equals(kept[0].ids):
            records = replace(records, ids=kept[0].ids)
            if np.array_equal(records.label, kept[0].label):
                records = replace(records, label=kept[0].label)
            if records.content is not None and records.content.equals(kept[0].content):
                records = replace(records, content=kept[0].content)
        kept.append(records)
        if found is None:
            notes.append(f"{meta.model} has no score {records.task.score(score).name!r} and can be a base only")
        scored[meta.model] = found or Scored(np.full(len(records), np.nan), "identity")
    by = run.groups(kept[-1].meta.model, split, group_by)
    table, said = fair_table(kept, by if isinstance(by, str | Path) else None)
    if table.reference_kind != "label":
        raise RecordsError(
            f"the records in {run.path} on split {split} hold no labels; a pool has many bases and needs one truth: "
            "give --labels when you import, or rank savers for one base"
        )
    used = [(meta, records) for meta, records in zip(costed, kept, strict=True) if meta.model in table.outputs]
    names = tuple(meta.model for meta, _ in used)
    if table.task.adjustment is None:
        values = [_in_order(scored[records.meta.model].values, records.ids, table.ids) for _, records in used[:-1]]
    else:
        table = adjusted(table, table.models, np.arange(len(table)))
        values = [table.task.scored(score, table.outputs[name]).values for name in names[:-1]]
    trace = trace_of(
        values,
        np.stack([table.quality(name) for name in names]),
        [meta.costs[cost] for meta, _ in used],
        scales=[scored[name].scale for name in names[:-1]],
        names=names,
    )
    ranked = by_quality(table.task.metric, "pairs are ranked")
    return trace, (*notes_on_chance(table, names[::-1]), *ranked, *notes, *said), table.task


def _in_order(values: F64, ids: pa.Array, wanted: pa.Array) -> F64:
    """*values* of the samples *ids*, of those *wanted*."""
    return values if ids.equals(wanted) else values[np.asarray(pc.index_in(wanted, value_set=ids)).astype(np.intp)]


def _scored(run: Run, meta: RecordsMeta, split: str, name: str | None) -> tuple[Records, Scored | None]:
    """One model's records, of classes the predicted ones alone, and the score *name* where they have it."""
    usual = name in (None, USUAL_SCORE) and meta.task == CLASSES.name
    records = run.read(meta.model, split, LEAN if usual else None)
    if usual and records.task.confidence(records.outputs) is None:
        records = run.read(meta.model, split)  # files of other programs may hold top logits instead
    try:
        found = records.task.scored(name, records.outputs)
    except RecordsError:
        found = None
    return replace(records, outputs=Outputs(records.outputs.prediction)) if records.task.classes else records, found
