"""What was asked of tuning, and the samples it has: checked, read and split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pilotfish.cascade import Budget, Rule
from pilotfish.plan.evidence import StageScores
from pilotfish.plan.holdout import Holdout, Rows
from pilotfish.plan.methods import Method
from pilotfish.plan.trace import Trace, make_trace
from pilotfish.records import Table
from pilotfish.scores import ExitScore


@dataclass(frozen=True)
class Job:
    """stages: savers, then the base; options: of the method; holdout: the share that parts.evaluation was drawn by;
    checked: what to know of the costs."""

    table: Table
    run_name: str
    stages: tuple[str, ...]
    name: str
    method: Method
    options: Any
    score: str
    cost: str
    budget: Budget
    parts: Holdout
    holdout: float
    seed: int
    checked: tuple[str, ...] = ()
    judge_on: str = "random"

    def trace(self, rule: Rule, scores: Sequence[ExitScore], rows: Rows, fitted: StageScores | None = None) -> Trace:
        """The stages on some rows; *fitted* where these rows' scores were cross-fitted."""
        scored = None if fitted is None or not fitted.scored else fitted.scored
        return make_trace(self.table, self.stages, rule, scores, scored, self.cost, rows)

    @property
    def origin(self) -> dict[str, Any]:
        """Where the thresholds come from, for the cascade folder."""
        meta = self.table.meta[self.table.base]
        return {
            "data": meta.data.get("spec"),
            "fingerprint": meta.fingerprint,
            "split": self.table.split,
            "n": len(self.table),
            "holdout": self.holdout,
            "seed": self.seed,
            "reference": self.table.reference_kind,
            "run": self.run_name,
            **({} if self.table.groups is None else {"groups": int(self.table.groups.max()) + 1}),
            **({} if self.judge_on == "random" else {"judge_on": self.judge_on}),
        }
