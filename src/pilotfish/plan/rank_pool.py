"""The pool of a run: every model as a saver for every other, read lean and ranked at once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pilotfish.documents import as_document
from pilotfish.errors import RecordsError
from pilotfish.plan.pool import pool_r_match
from pilotfish.plan.same_cost import check_cost, cost_keys
from pilotfish.plan.sweep import F64, Mask
from pilotfish.records import GroupBy, Outputs, Records, Run, fair_table, notes_on_chance
from pilotfish.scores import Scale, can_score, to_shown
from pilotfish.scores import score as compute_score

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

    def to_json(self) -> dict[str, Any]:
        """The matrices as lists of rows, null where there is no pair."""
        return {
            "models": list(self.models),
            "cost": self.cost,
            "costs": self.costs.tolist(),
            "n": self.n,
            "split": self.split,
            "score": self.score,
            "max_drop": self.max_drop,
            "exit_ratio": _rows(self.exit_ratio),
            "threshold": _rows(self.thresholds),
            "delta_cost": _rows(self.delta_cost),
            "best": self.best,
            "notes": list(self.notes),
        }


def _rows(matrix: F64) -> list[list[Any]]:
    return [[None if np.isnan(x) else as_document(x) for x in row] for row in matrix.tolist()]


def rank_pool(
    run: Run,
    *,
    split: str = "val",
    cost: str = "macs",
    score: str = "max_prob",
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
    pool = _read(run, split, cost, score, group_by)
    found = pool_r_match(pool.scores, pool.right, pool.costs, max_drop, threads)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = pool.costs[:, None] / pool.costs[None, :]
    delta = np.where(found.pair, ratio - found.exit_ratio, np.nan)
    lowest = np.where(np.isnan(delta), np.inf, delta)
    best = {
        name: pool.models[int(column.argmin())] if column.min() < 0 else None
        for name, column in zip(pool.models, lowest.T, strict=True)
    }
    shown = np.stack([to_shown(scale, row) for scale, row in zip(pool.scales, found.thresholds, strict=True)])
    return PoolRanking(
        models=pool.models,
        cost=cost,
        costs=pool.costs,
        n=found.n,
        split=split,
        score=score,
        max_drop=max_drop,
        exit_ratio=found.exit_ratio,
        thresholds=np.where(found.pair, shown, np.nan),
        delta_cost=delta,
        best=best,
        notes=pool.notes,
    )


@dataclass(frozen=True)
class _Pool:
    models: tuple[str, ...]
    scores: F64
    scales: tuple[Any, ...]
    right: Mask
    costs: F64
    notes: tuple[str, ...]


def _read(run: Run, split: str, cost: str, score: str, group_by: GroupBy | None) -> _Pool:
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
    scales = []
    for meta in costed:
        records, scale, note = _scored(run, meta.model, split, score)
        if kept and records.ids.equals(kept[0].ids):
            records = replace(records, ids=kept[0].ids)
            if np.array_equal(records.label, kept[0].label):
                records = replace(records, label=kept[0].label)
            if records.content is not None and records.content.equals(kept[0].content):
                records = replace(records, content=kept[0].content)
        kept.append(records)
        scales.append(scale)
        notes += note
    by = run.groups(kept[-1].meta.model, split, group_by)
    table, said = fair_table(kept, by if isinstance(by, str | Path) else None)
    if table.reference_kind != "label":
        raise RecordsError(
            f"the records in {run.path} on split {split} hold no labels; a pool has many bases and needs one truth: "
            "give --labels when you import, or rank savers for one base"
        )
    costed = [meta for meta in costed if meta.model in table.outputs]
    scales = [scale for scale, records in zip(scales, kept, strict=True) if records.meta.model in table.outputs]
    names = tuple(meta.model for meta in costed)
    values = np.stack([np.asarray(table.outputs[name].confidence) for name in names])
    right = np.stack([table.quality(name) for name in names])
    prices = np.array([meta.costs[cost] for meta in costed], np.float64)
    return _Pool(names, values, tuple(scales), right, prices, (*notes_on_chance(table, names[::-1]), *notes, *said))


def _scored(run: Run, model: str, split: str, name: str) -> tuple[Records, Scale, list[str]]:
    """One model's records with its score, as the only output beside the class; NaN where it has none."""
    records = run.read(model, split, LEAN) if name == "max_prob" else run.read(model, split)
    if name == "max_prob" and not can_score(records.outputs):
        records = run.read(model, split)  # files of other programs may hold top logits instead
    scale: Scale = "identity"
    values, notes = np.full(len(records), np.nan), []
    try:
        found = compute_score(name, records.outputs)
        values, scale = found.values, found.scale
    except RecordsError:
        notes.append(f"{model} has no score {name!r} and can be a base only")
    return replace(records, outputs=Outputs(records.outputs.prediction, confidence=values)), scale, notes
