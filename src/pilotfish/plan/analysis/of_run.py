"""Every analysis of a run at once: each saver of a base by itself, all of them together, and between splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pilotfish.cascade import Rule, make_budget
from pilotfish.documents import as_document
from pilotfish.errors import RecordsError, UsageError, nearest
from pilotfish.plan.adjust import adjusted
from pilotfish.plan.analysis.breakeven import BreakEven, break_even
from pilotfish.plan.analysis.curves import GainCurve, MatchCurves, gain_curve, match_curves
from pilotfish.plan.analysis.mistakes import MistakeQuantiles, mistake_quantiles
from pilotfish.plan.analysis.noise import TuningNoise, tuning_noise
from pilotfish.plan.analysis.ranking import FailureRanking, failure_ranking
from pilotfish.plan.analysis.routing import References, references
from pilotfish.plan.analysis.transfer import Selection, Transfer, selection, transfers
from pilotfish.plan.candidates import candidates_with
from pilotfish.plan.holdout import split_rows
from pilotfish.plan.trace import Trace, by_quality, make_trace
from pilotfish.records import Compared, GroupBy, Run, Table, compare
from pilotfish.scores import to_shown
from pilotfish.text import quantity

TRAIN = "train"
ENOUGH = 10_000  # below, r_match is the extreme of a noisy walk (see noise.py)


@dataclass(frozen=True)
class PairAnalysis:
    """One saver with the base. ``curve`` is of all judged samples, ``curves`` of train and validation side by side.

    break_even  None without costs
    curves      None where the saver has no records on the split that savers are chosen on
    transfers   empty where the run has one split
    """

    saver: str
    saver_cost: float | None
    ranking: FailureRanking
    mistakes: MistakeQuantiles
    break_even: BreakEven | None
    noise: TuningNoise
    references: References
    curve: GainCurve
    curves: MatchCurves | None
    transfers: tuple[Transfer, ...]


@dataclass(frozen=True)
class Analysis:
    """All of a base's savers.

    train          the split that savers are chosen on, or None: then it is one half of ``split``, by ``seed``
    base_accuracy  or what else the task's metric is, by the name ``metric``
    pairs          in the order of the selection (best ΔC on train first), then those that it leaves out
    """

    base: str
    split: str
    train: str | None
    cost: str
    score: str
    max_drop: float
    seed: int
    n: int
    reference: str
    base_accuracy: float
    base_cost: float | None
    pairs: tuple[PairAnalysis, ...]
    selection: Selection | None
    notes: tuple[str, ...]
    metric: str = "accuracy"

    def to_json(self) -> dict[str, Any]:
        """The document of ``pilotfish analyse --json``."""
        found: dict[str, Any] = as_document(self)
        return {**found, "savers": found.pop("pairs")}


def pair_of(table: Table, saver: str, score_name: str | None = None, cost: str = "macs") -> Trace:
    """The trace of *saver* and the base of *table*. RecordsError when the saver's records hold no such score."""
    table = adjusted(table, (saver, table.base), np.arange(len(table)))
    return make_trace(
        table, (saver, table.base), Rule(), (), [table.task.scored(score_name, table.outputs[saver])], cost
    )


def analyse(
    run: Run,
    base: str,
    *,
    savers: Sequence[str] | None = None,
    split: str = "val",
    train: str | None = None,
    cost: str = "macs",
    score: str | None = None,
    max_drop: float = 0.0,
    draws: int = 200,
    seed: int = 0,
    group_by: GroupBy | None = None,
    metric: str | None = None,
) -> Analysis:
    """Analyse *savers* (by default all that can be) of *base* on *split*.

    run       records (in :func:`pilotfish.analyse`, also its folder)
    base      the model to make cheaper
    cost      key of the costs in the records: ``macs``, ``ms@cpu``, …
    score     exit score
    seed      of the halves and the draws
    train     split that savers are chosen on; by default ``train`` where the run has it, else a random half of *split*
    max_drop  of the metric, to be lost wherever a threshold is chosen; at 0 the exit ratios are TinySaver's r_match
    draws     bootstrap draws per saver
    group_by  samples that belong together (see :func:`pilotfish.records.groups_by`); None: as recorded
    metric    what is measured, by name, where it is not the task's first

    RecordsError for records that are not there, UsageError for arguments that make no sense.

    >>> import pilotfish
    >>> found = pilotfish.analyse("imagenet_lite", "lite:efficientnet_lite2@300", draws=20)
    >>> found.n, found.pairs[0].saver
    (500, 'lite:efficientnet_lite0@224')
    """
    make_budget(max_drop=max_drop)  # refuses what is no drop
    score = run.read(base, split).task.score_name(score)
    names, notes = candidates_with(run, base, split, cost, score, savers)
    on = _train_split(run, base, split, train)
    tables = _tables(run, base, names, [split, *(s for s in run.splits() if s != split)], group_by, metric)
    here = tables[split].common
    pairs = {name: pair_of(table, name, score, cost) for name, table in tables[split].tables.items()}
    alike = {  # those that are compared with each other, on the same samples
        name: pairs[name] if table is here else pair_of(here, name, score, cost)
        for name, table in tables[split].tables.items()
        if name not in tables[split].short
    }
    chosen_on, judged_on = _train_and_judged(alike, None if on is None else tables[on], score, cost, seed)
    chosen = _selection(chosen_on, judged_on, max_drop, notes)
    ranked = [] if chosen is None else [s.saver for s in chosen.savers]
    found = {}
    for name in [*ranked, *(n for n in names if n not in ranked)]:
        elsewhere = {s: pair_of(t.tables[name], name, score, cost) for s, t in tables.items() if name in t.tables}
        sides = (chosen_on[name], judged_on[name]) if name in chosen_on else None
        found[name] = _one(pairs[name], tables[split].tables[name], cost, sides, elsewhere, max_drop, draws, seed)
    return Analysis(
        base=base,
        split=split,
        train=on,
        cost=cost,
        score=score,
        max_drop=max_drop,
        seed=seed,
        n=len(here),
        reference=here.reference_kind,
        base_accuracy=here.value(base),
        base_cost=here.meta[base].costs.get(cost),
        pairs=tuple(found.values()),
        selection=chosen,
        notes=(*notes, *_remarks(tables, split, on, cost, base)),
        metric=here.task.metric.name,
    )


def _tables(
    run: Run, base: str, savers: Sequence[str], splits: Sequence[str], group_by: GroupBy | None, metric: str | None
) -> dict[str, Compared]:
    """The records per split of those *savers* that are recorded there, beside the base's; only splits with the base and
    a saver."""
    found = {}
    for split in splits:
        here = run.models(split)
        names = [name for name in savers if name in here]
        if base in here and names:
            by = run.groups(base, split, group_by)
            found[split] = compare([run.read(name, split) for name in names], run.read(base, split), by, metric)
    return found


def _one(
    pair: Trace,
    table: Table,
    cost: str,
    sides: tuple[Trace, Trace] | None,
    elsewhere: Mapping[str, Trace],
    max_drop: float,
    draws: int,
    seed: int,
) -> PairAnalysis:
    saver = pair.names[0]
    confidence = table.task.scored(None, table.outputs[saver])
    return PairAnalysis(
        saver=saver,
        saver_cost=table.meta[saver].costs.get(cost),
        ranking=failure_ranking(pair, to_shown(confidence.scale, confidence.values)),
        mistakes=mistake_quantiles(pair),
        break_even=break_even(pair, max_drop),
        noise=tuning_noise(pair, max_drop, draws, seed),
        references=references(pair),
        curve=gain_curve(pair),
        curves=None if sides is None else match_curves(*sides),
        transfers=transfers(elsewhere, max_drop),
    )


def _train_split(run: Run, base: str, split: str, train: str | None) -> str | None:
    """The split that savers are chosen on; None for a half of *split*."""
    if train is None:
        return TRAIN if split != TRAIN and base in run.models(TRAIN) else None
    if train == split:
        raise UsageError(
            f"savers are chosen on one split and judged on another, and --train and --split are both {split}"
        )
    if base not in run.models(train):
        raise RecordsError(f"{run.path} has no records of {base} on split {train!r}; {nearest(train, run.splits())}")
    return train


def _train_and_judged(
    pairs: Mapping[str, Trace], train: Compared | None, score: str, cost: str, seed: int
) -> tuple[dict[str, Trace], dict[str, Trace]]:
    """The pairs that savers are chosen by, and the same ones to judge by."""
    if train is not None:
        shared = [name for name in pairs if name in train.tables and name not in train.short]
        first = {name: pair_of(train.common, name, score, cost) for name in shared}
        return first, {name: pairs[name] for name in shared}
    one = next(iter(pairs.values()))
    halves = split_rows(len(one), 0.5, seed, one.groups)
    first = {name: pair.take(halves.fit) for name, pair in pairs.items()}
    return first, {name: pair.take(halves.evaluation) for name, pair in pairs.items()}


def _selection(
    chosen_on: Mapping[str, Trace], judged_on: Mapping[str, Trace], max_drop: float, notes: list[str]
) -> Selection | None:
    """The selection among savers whose costs are comparable; *notes* gets who is left out."""
    priced = [name for name, pair in judged_on.items() if pair.costs is not None and pair.base_cost]
    names = priced or list(judged_on)
    if left_out := [name for name in judged_on if name not in names]:
        notes.append(f"without a cost, and so not ranked: {', '.join(left_out)}")
    if not names:
        return None
    return selection([chosen_on[name] for name in names], [judged_on[name] for name in names], max_drop)


def _remarks(tables: Mapping[str, Compared], split: str, on: str | None, cost: str, base: str) -> list[str]:
    here = tables[split].common
    metric = here.task.metric.says
    remarks = [*tables[split].row_notes(), *tables[split].notes]
    remarks += [f"split {s}: {note}" for s, t in tables.items() if s != split for note in t.short_notes()]
    if here.meta[base].costs.get(cost) is None:
        remarks.append(f"{base} has no cost {cost!r}: no break-even, and savers are ranked by exit ratio")
    if on is None:
        remarks.append(f"one split to choose savers on: split {split} is halved by --seed into train and validation")
    if len(here) < ENOUGH:
        remarks.append(
            f"{quantity(len(here), 'sample')}: exit ratios at a drop are noisy below {ENOUGH:,}, see the noise table"
        )
    kinds = {s: t.common.reference_kind for s, t in tables.items()}
    if len(set(kinds.values())) > 1:
        unlabelled = ", ".join(s for s, kind in kinds.items() if kind == "base")
        remarks.append(f"split {unlabelled} has no labels: there, {metric} is agreement with the base")
    remarks += by_quality(here.task.metric, "savers are analysed")
    if here.quality(base).dtype != np.bool_:
        remarks.append(
            f"{metric} is no matter of right and wrong: a mistake is an answer worse than the base's, and there is no "
            "ranking of right answers and no calibration error"
        )
    return remarks
