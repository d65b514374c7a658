"""Which saver: the pool ranked by ΔC (TinySaver 3.3, Eq. 6, 7 and 10)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from pilotfish.cascade import make_budget, to_json
from pilotfish.errors import RecordsError, nearest
from pilotfish.plan.evaluate import Rows
from pilotfish.plan.holdout import Holdout, split_rows
from pilotfish.plan.methods import PathMethod, chosen_saver_point, path_method
from pilotfish.plan.sweep import PairPath
from pilotfish.records import Run, Table, align
from pilotfish.scores import Scored, can_score, score, to_shown


@dataclass(frozen=True)
class SaverResult:
    """One candidate saver.

    exit_ratio  r_match, the largest share it can answer within the drop
    threshold   the exit threshold as people read it (a probability for max_prob)
    cost_ratio  C_S / C_B, None without costs
    delta_cost  ΔC = C_S / C_B - r_match; below 0 is a saving
    accuracy    of the saver alone, on the samples that were used
    held_out    exit ratio, ΔC and drop on the held-out samples, when some were held out
    """

    saver: str
    exit_ratio: float
    threshold: float
    cost_ratio: float | None
    delta_cost: float | None
    accuracy: float
    held_out: dict[str, float | None] | None = None


@dataclass(frozen=True)
class SaverRanking:
    """Candidates for one base, best first. ``best`` is None when no saver saves anything: run the base alone."""

    base: str
    cost: str
    n: int
    best: str | None
    savers: tuple[SaverResult, ...]
    base_accuracy: float
    split: str
    score: str
    method: str
    max_drop: float
    holdout: float
    reference: str
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The document of ``pilotfish savers --json``."""
        rows = [
            {
                "saver": s.saver,
                "exit_ratio": s.exit_ratio,
                "threshold": to_json(s.threshold),
                "cost_ratio": s.cost_ratio,
                "delta_cost": s.delta_cost,
                "accuracy": s.accuracy,
                "held_out": s.held_out,
            }
            for s in self.savers
        ]
        return {
            "base": self.base,
            "cost": self.cost,
            "n": self.n,
            "best": self.best,
            "savers": rows,
            "base_accuracy": self.base_accuracy,
            "split": self.split,
            "score": self.score,
            "method": self.method,
            "max_drop": self.max_drop,
            "holdout": self.holdout,
            "reference": self.reference,
            "notes": list(self.notes),
        }


def rank_savers(
    run: Run,
    base: str,
    *,
    cost: str = "macs",
    score: str = "max_prob",
    split: str = "val",
    holdout: float = 0.0,
    seed: int = 0,
    method: str = "sweep",
    max_drop: float = 0.0,
) -> SaverRanking:
    """Rank every model of *run* as a saver for *base*.

    Candidates cost less than the base (all, where costs are unknown) and have a confidence. With costs the smallest
    ΔC ranks first, without them the largest exit ratio. With ``holdout`` > 0 thresholds come from one part and the
    drop they cause is shown on the other.
    """
    make_budget(max_drop=max_drop)  # refuses what is no drop
    candidates, notes = _candidates(run, base, split, cost)
    table = align([run.read(name, split) for name in candidates], run.read(base, split))
    parts = split_rows(len(table), holdout, seed)
    find = path_method(method)
    results = [_judge(table, name, cost, score, parts, find, method, max_drop) for name in candidates]
    results.sort(key=lambda s: (s.delta_cost is None, s.delta_cost or 0.0, -s.exit_ratio, s.saver))
    saving = [s for s in results if s.delta_cost is not None and s.delta_cost < 0]
    return SaverRanking(
        base=base,
        cost=cost,
        n=len(parts.fit),
        best=saving[0].saver if saving else None,
        savers=tuple(results),
        base_accuracy=float(table.correct(base)[parts.fit].mean()),
        split=split,
        score=score,
        method=method,
        max_drop=max_drop,
        holdout=holdout,
        reference=table.reference_kind,
        notes=(*notes, *table.notes),
    )


def _candidates(run: Run, base: str, split: str, cost: str) -> tuple[list[str], list[str]]:
    metas = {meta.model: meta for meta in run.metas(split)}
    if base not in metas:
        run.read(base, split)  # raises the error that lists what there is
    base_cost = metas[base].costs.get(cost)
    if base_cost is None and cost != "macs":
        known = sorted({key for meta in metas.values() for key in meta.costs})
        raise RecordsError(f"{base} has no cost {cost!r} in its records; {nearest(cost, known)}")
    names, notes = [], []
    for name, meta in metas.items():
        its_cost = meta.costs.get(cost)
        if name == base or (base_cost is not None and its_cost is not None and its_cost >= base_cost):
            continue
        if base_cost is not None and its_cost is None:
            notes.append(f"{name} has no cost {cost!r}; it is ranked by exit ratio, after the others")
        names.append(name)
    if base_cost is None:
        notes.append(f"{base} has no cost {cost!r}; savers are ranked by exit ratio")
    kept = [name for name in names if can_score(run.read(name, split).outputs)]
    if left_out := [name for name in names if name not in kept]:
        notes.append(f"without a confidence, and so left out: {', '.join(left_out)}")
    return kept, notes


def _judge(
    table: Table,
    saver: str,
    cost: str,
    score_name: str,
    parts: Holdout,
    find: PathMethod,
    method: str,
    max_drop: float,
) -> SaverResult:
    scored = score(score_name, table.outputs[saver])
    path = _path(table, saver, scored, parts.fit, find, max_drop)
    point = chosen_saver_point(method, path, max_drop)
    threshold, r = float(path.thresholds[point]), float(path.exited[point] / path.n)
    c_s, c_b = table.meta[saver].costs.get(cost), table.meta[table.base].costs.get(cost)
    ratio = None if c_s is None or not c_b else c_s / c_b
    return SaverResult(
        saver=saver,
        exit_ratio=r,
        threshold=float(to_shown(scored.scale, threshold)),
        cost_ratio=ratio,
        delta_cost=None if ratio is None else ratio - r,
        accuracy=float(table.correct(saver)[parts.fit].mean()),
        held_out=_held_out(table, saver, scored, parts.evaluation, threshold, ratio),
    )


def _path(table: Table, saver: str, scored: Scored, rows: Rows, find: PathMethod, max_drop: float) -> PairPath:
    part = Scored(scored.values[rows], scored.scale)
    return find(part, table.correct(saver)[rows], table.correct(table.base)[rows], max_drop)


def _held_out(
    table: Table, saver: str, scored: Scored, rows: Rows, threshold: float, ratio: float | None
) -> dict[str, float | None] | None:
    if not len(rows):
        return None
    exits = scored.values[rows] >= threshold
    s, b = table.correct(saver)[rows], table.correct(table.base)[rows]
    r = float(exits.mean())
    drop = float((b & exits).sum() - (s & exits).sum()) / len(rows)
    return {"exit_ratio": r, "delta_cost": None if ratio is None else ratio - r, "drop": drop}


def r_match(score: Any, saver_correct: Any, base_correct: Any) -> tuple[float, float]:
    """(r_match, t) of TinySaver Eq. 7: the largest share that can exit with the saver at least as good as the base.

    score (M,), larger exits first; saver_correct, base_correct bool (M,). t = +inf with r = 0 when there is none,
    -inf with r = 1 when all can exit.
    """
    from pilotfish.plan.sweep import sweep

    path = sweep(np.asarray(score, np.float64), np.asarray(saver_correct, bool), np.asarray(base_correct, bool))
    point = path.last_feasible()
    return float(path.exited[point] / path.n), (float(path.thresholds[point]) if point else math.inf)
