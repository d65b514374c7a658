"""Thresholds of a cascade for a budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pilotfish.cascade import (
    Artefact,
    Budget,
    OperatingPoint,
    Performance,
    Stage,
    choose,
    make_budget,
    save_artefact,
    to_json,
)
from pilotfish.errors import UsageError
from pilotfish.plan.evaluate import Rows, evaluate, route, stage_costs
from pilotfish.plan.holdout import split_rows
from pilotfish.plan.methods import TAKES_LAST, path_method
from pilotfish.records import Run, Table, read_table
from pilotfish.scores import Scored, score


@dataclass(frozen=True)
class Tuning:
    """The result of :func:`tune`.

    calibration   the chosen thresholds on the samples they were chosen on
    evaluation    the same on held-out samples; None at holdout 0
    saves         whether the cascade costs less than the base alone; when not, "no saver" is the answer.
                  None where costs are unknown
    """

    artefact: Artefact
    calibration: Performance
    evaluation: Performance | None
    split: dict[str, int]
    saves: bool | None
    reference: str
    notes: tuple[str, ...] = ()

    @property
    def thresholds(self) -> tuple[float, ...]:
        """As people read them: probabilities for max_prob."""
        return self.artefact.shown_thresholds

    def save(self, folder: str | Path) -> Path:
        """Write the cascade folder."""
        return save_artefact(self.artefact, folder)

    def to_json(self) -> dict[str, Any]:
        """The document of ``pilotfish tune --json``."""
        return {
            "stages": [stage.name for stage in self.artefact.stages],
            "method": self.artefact.method,
            "score": self.artefact.score,
            "thresholds": [to_json(t) for t in self.thresholds],
            "policy": "thresholds",
            "split": self.split,
            "calibration": self.calibration.to_json(),
            "evaluation": None if self.evaluation is None else self.evaluation.to_json(),
            "guarantee": None,
            "saves": self.saves,
            "reference": self.reference,
            "notes": list(self.notes),
        }


def tune(
    run: Run,
    stages: Sequence[str],
    *,
    max_drop: float | None = None,
    max_cost: float | str | None = None,
    min_accuracy: float | None = None,
    method: str = "sweep",
    score: str = "max_prob",
    cost: str = "macs",
    split: str = "val",
    holdout: float = 0.5,
    seed: int = 0,
) -> Tuning:
    """Choose the threshold of a pair (saver, base) for one budget.

    The samples are split at random by *seed*: the threshold is chosen on one part and judged on the other. With
    ``holdout=0`` it is judged on the samples it was chosen on, as both papers do; such a figure is optimistic.

    Raises BudgetError, with the best that can be reached, when the budget cannot be met.
    """
    saver, base = _pair(stages)
    table = read_table(run, [saver], base, split)
    costs = stage_costs(table, (saver, base), cost)
    budget = make_budget(max_drop, max_cost, min_accuracy, None if costs is None else costs[-1])
    if budget.kind != "max_drop" and method in TAKES_LAST:
        raise UsageError(f"method {method} stops at a drop; give max_drop, or use method sweep")
    parts = split_rows(len(table), holdout, seed)
    scored = _scored(table, saver, score)
    path = path_method(method)(
        Scored(scored.values[parts.fit], scored.scale),
        table.correct(saver)[parts.fit],
        table.correct(base)[parts.fit],
        budget.value if budget.kind == "max_drop" else 0.0,
    )
    base_correct = int(table.correct(base)[parts.fit].sum())
    frontier = path.frontier(base_correct, *(costs or (None, None)))
    chosen = len(frontier) - 1 if method in TAKES_LAST else choose(frontier, budget)
    thresholds = tuple(frontier.thresholds[chosen].tolist())

    def judged(rows: Rows) -> Performance:
        return evaluate(table, (saver, base), route([scored.values[rows]], thresholds), rows, cost)

    calibration = judged(parts.fit)
    evaluation = judged(parts.evaluation) if len(parts.evaluation) else None
    artefact = Artefact(
        stages=tuple(Stage.from_meta(table.meta[name]) for name in (saver, base)),
        score=score,
        scale=scored.scale,
        method=method,
        cost_key=None if costs is None else cost,
        frontier=frontier.pareto(),
        operating_point=OperatingPoint(thresholds, budget),
        calibration=calibration,
        evaluation=evaluation,
        origin=_origin(table, run, split, holdout, seed),
    )
    saves = (
        None
        if calibration.cost is None or calibration.base_cost is None
        else (calibration.cost < calibration.base_cost)
    )
    return Tuning(
        artefact=artefact,
        calibration=calibration,
        evaluation=evaluation,
        split={"fit": len(parts.fit), "certify": 0, "evaluation": len(parts.evaluation)},
        saves=saves,
        reference=table.reference_kind,
        notes=(*table.notes, *_advice(calibration, budget, saves, costs, cost, holdout, table)),
    )


def _pair(stages: Sequence[str]) -> tuple[str, str]:
    if len(stages) != 2 or len(set(stages)) != 2:
        raise UsageError(
            f"two different stages are needed, the saver and the base; found {', '.join(stages) or 'none'}"
        )
    return stages[0], stages[1]


def _scored(table: Table, saver: str, name: str) -> Scored:
    return score(name, table.outputs[saver])


def _origin(table: Table, run: Run, split: str, holdout: float, seed: int) -> dict[str, Any]:
    meta = table.meta[table.base]
    return {
        "data": meta.data.get("spec"),
        "fingerprint": meta.fingerprint,
        "split": split,
        "n": len(table),
        "holdout": holdout,
        "seed": seed,
        "reference": table.reference_kind,
        "run": run.path.name,
    }


def _advice(
    calibration: Performance,
    budget: Budget,
    saves: bool | None,
    costs: list[float] | None,
    cost: str,
    holdout: float,
    table: Table,
) -> list[str]:
    notes = []
    if saves is False:
        notes.append("no saver: at this budget the cascade costs as much as the base alone or more; run the base alone")
    if costs is None:
        notes.append(f"no cost {cost!r} in the records: the cheapest point is the one with the largest exit ratio")
    if holdout == 0:
        notes.append("judged on the samples the threshold was chosen on (holdout 0): the drop is optimistic")
    if table.reference_kind == "base":
        notes.append("no labels: the base's own answers are the reference, so accuracy means agreement with the base")
    if len(np.unique(table.reference)) == 1:
        notes.append("all samples have one class: these thresholds say little about other classes")
    if calibration.n < 500:
        notes.append(f"chosen on {calibration.n} samples only: expect the drop on new data to differ by points")
    return notes
