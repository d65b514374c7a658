"""Which chain: all chains of a run's models to a base, each at its best thresholds, and what the third stage buys."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.cascade import Budget, Performance, Rule, make_budget
from pilotfish.errors import RecordsError
from pilotfish.plan.adjust import adjusted
from pilotfish.plan.candidates import find_candidates
from pilotfish.plan.chains import ChainSearch, FoundChain, search_chains
from pilotfish.plan.evaluate import evaluate
from pilotfish.plan.evidence import StageScores, first_order, stage_scores
from pilotfish.plan.holdout import Rows, split_for_certificate, split_rows
from pilotfish.plan.trace import by_quality, make_trace, trace_of
from pilotfish.plan.tuning import budget_missed
from pilotfish.records import GroupBy, Run, Table, compare, is_bad_base, notes_on_chance
from pilotfish.scores import to_shown
from pilotfish.tasks import Metric


@dataclass(frozen=True)
class ChainRanking:
    """Chains for one base, best first; the base alone is among them.

    search    thresholds as people read them, costs and comparisons on the samples that the search used
    held_out  how each chain of ``search.chains`` did on the held-out samples; empty at holdout 0
    """

    search: ChainSearch
    held_out: tuple[Performance, ...]
    budget: str
    cost: str
    score: str
    split: str
    notes: tuple[str, ...] = ()
    metric: str = "accuracy"

    @property
    def best(self) -> FoundChain:
        """The best chain."""
        return self.search.best

    def to_json(self) -> dict[str, Any]:
        """The document of ``pilotfish chains --json``."""
        document = self.search.to_json()
        for i, entry in enumerate(document["chains"]):
            entry["held_out"] = self.held_out[i].to_json() if self.held_out else None
        settings = {"budget": self.budget, "cost": self.cost, "score": self.score, "split": self.split}
        return {**document, **settings, "notes": list(self.notes), "metric": self.metric}


def find_chains(
    run: Run,
    base: str,
    *,
    max_drop: float | None = None,
    max_cost: float | str | None = None,
    max_stages: int = 3,
    top: int = 10,
    cost: str = "macs",
    score: str | None = None,
    split: str = "val",
    holdout: float = 0.5,
    seed: int = 0,
    group_by: GroupBy | None = None,
    min_metric: float | None = None,
    savers: Collection[str] | None = None,
    judge_on: str = "random",
    apart: bool = False,
    metric: str | None = None,
) -> ChainRanking:
    """Search all chains of rising cost to *base* under one budget; up to three stages exhaustively, beyond by a beam.

    Thresholds are chosen on one part of the samples and judged on the other. RecordsError without costs.

    run         records (in :func:`pilotfish.chains`, also its folder)
    base        the model to make cheaper; the last stage of every chain
    max_drop    of the metric, a fraction: 0.005 is half a point (in :func:`pilotfish.chains`, also ``"0.5%"``)
    max_cost    per sample in the unit of *cost*, or text such as ``"40%"``, of the base's
    max_stages  the base included
    top         how many chains at most
    cost        key of the costs in the records: ``macs``, ``ms@cpu``, …
    score       exit score of every stage
    split       that is searched on
    holdout     share of the samples that judges
    seed        of the split, and of what is fitted
    group_by    samples that belong together (see :func:`pilotfish.records.groups_by`); None: as recorded
    min_metric  the least that the task's metric may be, instead of a drop
    savers      the models that may be stages before the base; None: all of the run
    judge_on    ``last``: the last samples of the records judge, as for :func:`pilotfish.tune`
    apart       search on half of the calibration part, and leave the half out that ``tune`` certifies on
    metric      what is measured, by name, where it is not the task's first

    >>> import pilotfish
    >>> found = pilotfish.chains("imagenet_lite", "lite:efficientnet_lite2@300", max_drop="1%")
    >>> found.best.stages
    ('lite:efficientnet_lite1@128', 'lite:efficientnet_lite0@224', 'lite:efficientnet_lite2@300')
    """
    names, notes = find_candidates(run, base, split, cost, savers)
    by = run.groups(base, split, group_by)
    rows = compare([run.read(name, split) for name in names], run.read(base, split), by, metric)
    table = rows.common
    score = table.task.score_name(score)
    base_cost = table.meta[base].costs.get(cost)
    if base_cost is None:
        raise RecordsError(f"{base} has no cost {cost!r} in its records; chains are compared by cost: add it")
    names = [name for name in names if name not in rows.short and cost in table.meta[name].costs]
    notes += [*rows.common_notes("left out of the chains, which need the same samples of all"), *rows.notes]
    if not names:
        raise RecordsError(f"no model of {run.path} on split {split!r} costs less than {base} and has a confidence")
    asked = make_budget(max_drop, max_cost, min_metric, base_cost)
    if apart:
        parts = split_for_certificate(len(table), holdout, seed, True, table.groups, judge_on)
    else:
        parts = split_rows(len(table), holdout, seed, table.groups, judge_on)
    table = adjusted(table, (*names, base), parts.fit)
    budget = asked
    if min_metric is not None:  # on these samples that is a drop
        budget = Budget("max_drop", table.value(base, parts.fit) - min_metric)
    fitted = {name: stage_scores(table, (name, base), score, parts.fit, budget, seed) for name in names}
    quality = np.stack([table.quality(name)[parts.fit] for name in (*names, base)])
    pool = trace_of(
        [fitted[name].scored[0].values for name in names],
        quality,
        [table.meta[name].costs[cost] for name in (*names, base)],
        names=(*names, base),
    )
    if table.task.metric.kind == "ratio":
        shares = _shares(table, (*names, base), parts.fit)
        pool = replace(pool, quality=shares, base_quality=shares[-1])
    found = search_chains(pool, budget, max_stages=max_stages, top=top)
    held_out = []
    for chain in found.chains if len(parts.evaluation) else ():
        scores = [fitted[name].scores[0] for name in chain.stages[:-1]]
        if not scores:
            held, value = parts.evaluation, table.value(base, parts.evaluation)
            groups = None if table.groups is None else len(np.unique(table.groups[held]))
            alone = Performance(len(held), value, value, 0.0, (0.0, 0.0), base_cost, base_cost, (1.0,), groups)
            held_out.append(replace(alone, metric=table.task.metric.name))
            continue
        trace = make_trace(table, chain.stages, Rule(), scores, None, cost, parts.evaluation)
        held_out.append(evaluate(trace, tuple((t,) for t in chain.thresholds)))
    shown = tuple(
        replace(
            chain, thresholds=tuple(_shown(fitted[s], t) for s, t in zip(chain.stages, chain.thresholds, strict=False))
        )
        for chain in found.chains
    )
    found = replace(found, chains=shown)
    missed = budget_missed(held_out[0], asked, "held-out samples", promised=True) if held_out else None
    notes = [
        *([] if missed is None else [f"{missed} (the first chain)"]),
        *notes_on_chance(table, table.models[::-1]),
        *_searched_by(table.task.metric),
        *(_never_asked(found.best) if not is_bad_base(table) else ()),
        *notes,
    ]
    return ChainRanking(
        found,
        tuple(held_out),
        asked.says(table.task.metric.says),
        cost,
        score,
        split,
        tuple(notes),
        table.task.metric.name,
    )


def _never_asked(best: FoundChain) -> list[str]:
    """A line where no sample reaches the base of the best chain."""
    *savers, base = best.stages
    if best.exit_ratio[-1] > 0:
        return []
    if alone := [name for name, share in zip(savers, best.exit_ratio, strict=False) if share == 1]:
        return [f"no cascade is needed: {alone[0]} alone keeps to the budget"]
    shorter = " → ".join(savers)
    return [f"the first chain never asks {base} on the samples searched: {shorter} without {base} would do"]


def _shares(table: Table, models: Sequence[str], rows: Rows) -> NDArray[np.float64]:
    """float64 (K, N), whose means are a ratio of sums to first order: the base's value, and what each answer of a model
    adds to it. The last of *models* is the base."""
    metric, reference = table.task.metric, table.reference[rows]
    assert metric.states is not None
    states = [metric.states(table.outputs[name].take(rows), reference) for name in models]
    return table.value(models[-1], rows) + np.stack([first_order(metric, own, states[-1]) for own in states])


def _searched_by(metric: Metric) -> list[str]:
    """How chains are searched where the metric is no mean over samples."""
    if metric.kind != "ratio":
        return by_quality(metric, "chains are searched")
    how = "chains are searched by what each answer adds to it, to first order"
    return [f"{metric.says} is no mean over samples: {how}; tune judges by {metric.says} itself"]


def _shown(fitted: StageScores, threshold: float) -> float:
    return float(to_shown(fitted.scores[0].scale, threshold))
