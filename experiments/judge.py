"""Cascades chosen on one split and judged on another, from records alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pilotfish.cascade import Budget, Frontier, Rule, choose
from pilotfish.errors import BudgetError
from pilotfish.plan.evaluate import measure
from pilotfish.plan.evidence import stage_scores
from pilotfish.plan.methods import METHODS, read_options
from pilotfish.plan.path import PolicyPath
from pilotfish.plan.trace import Trace, make_trace
from pilotfish.records import Run, Table, read_table


@dataclass(frozen=True)
class Cascade:
    """One cascade on two splits: val chooses, test judges."""

    val: Trace
    test: Trace

    def path(self, method: str, budget: Budget | None = None, **options: Any) -> PolicyPath:
        """The policies of *method*, fitted on val."""
        found = METHODS[method]
        return found.path(self.val, budget or Budget("max_drop", 0.0), read_options(found.options, options, method))

    def judged(self, path: PolicyPath, budget: Budget) -> tuple[float, float, float] | None:
        """(accuracy, drop, cost) on test of the policy that val chooses; None where val has none."""
        try:
            i = choose(measure(self.val, path), budget)
        except BudgetError:
            return None
        one: Frontier = measure(self.test, path.take(np.array([i])))
        assert one.cost is not None
        return float(one.value[0]), float(one.drop[0]), float(one.cost[0])


def cascade(run: Run, stages: Sequence[str], score: str = "max_prob", cost: str = "macs") -> Cascade:
    """The cascade of *stages* in *run*; scores that are fitted are fitted on val."""
    tables = [read_table(run, stages[:-1], stages[-1], split) for split in ("val", "test")]
    rows = np.arange(len(tables[0]))
    found = stage_scores(tables[0], stages, score, rows)
    val = make_trace(tables[0], stages, Rule(), found.scores, found.scored or None, cost, rows)
    return Cascade(val, make_trace(tables[1], stages, Rule(), found.scores, None, cost))


def accuracy(run: Run, model: str, split: str = "test") -> float:
    """Share of right answers of one model."""
    records = run.read(model, split)
    return float((records.outputs.prediction == records.label).mean())


def macs(run: Run, model: str) -> float:
    """Its multiply-adds, alone."""
    return run.read(model, "test").meta.costs["macs"]


def spread(values: Sequence[float], unit: float = 100, digits: int = 2) -> str:
    """``mean ± standard deviation`` over seeds, in points."""
    found = unit * np.asarray(values)
    return f"{found.mean():.{digits}f} ± {found.std(ddof=1) if len(found) > 1 else 0:.{digits}f}"


__all__ = ["Budget", "Cascade", "Table", "accuracy", "cascade", "macs", "spread"]
