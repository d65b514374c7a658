"""What every stage would say of every sample: the one input of all ways to choose thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pilotfish.cascade import Rule, decide
from pilotfish.plan.costs import base_cost, stage_costs
from pilotfish.records import Table
from pilotfish.scores import ExitScore, Scale, Scored
from pilotfish.tasks.task import Quality

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Mask = NDArray[np.bool_]
Rows = NDArray[np.intp]


@dataclass(frozen=True)
class Trace:
    """K stages on N samples.

    values      float64 (K-1, N), what each stage but the last compares with its threshold; NaN never exits
    scales      the unit of each row of values
    quality     of the answer of each stage, if it answers: bool (K, N) right or wrong, else float64 (K, N) in [0, 1]
    base_quality  (N,), of the last model alone; differs from quality[-1] where the last stage's answer is a mixture
    costs       what running each stage adds, float per stage, or None when unknown
    base_cost   of the last model alone
    groups      int64 (N,), the group of each sample; None where all are independent
    cap         the most samples that a group may have, by the whole table; 1 without groups
    mixed       whether the last stage answers with a mixture: then "exit nobody" is not the base
    """

    values: F64
    scales: tuple[Scale, ...]
    quality: Quality
    base_quality: Quality
    costs: tuple[float, ...] | None = None
    base_cost: float | None = None
    mixed: bool = False
    groups: I64 | None = None
    cap: int = 1

    def __len__(self) -> int:
        return int(self.quality.shape[1])

    @property
    def stages(self) -> int:
        """K."""
        return int(self.quality.shape[0])

    def take(self, rows: Rows) -> Trace:
        """The same stages on some rows."""
        picked = replace(
            self, values=self.values[:, rows], quality=self.quality[:, rows], base_quality=self.base_quality[rows]
        )
        return picked if self.groups is None else replace(picked, groups=self.groups[rows])

    @property
    def through(self) -> F64:
        """float64 (K,): what a sample has cost that leaves at each stage; without costs, 1 for the last stage alone."""
        costs = self.costs if self.costs is not None else (*(0.0,) * (self.stages - 1), 1.0)
        return np.cumsum(costs)

    @property
    def whole(self) -> float:
        """Cost of the last model alone; 1 where costs are unknown."""
        return self.base_cost if self.base_cost is not None else 1.0


def make_trace(
    table: Table,
    stages: Sequence[str],
    rule: Rule,
    scores: Sequence[ExitScore],
    scored: Sequence[Scored] | None,
    cost_key: str | None,
    rows: Rows | None = None,
) -> Trace:
    """The trace of *stages* on the rows of a table.

    scored  values of these rows to use instead of what *scores* give: of cross-fitted scores, say
    """
    picked = [table.outputs[name] if rows is None else table.outputs[name].take(rows) for name in stages]
    reference = table.reference if rows is None else table.reference[rows]
    values, quality, scales = [], [], []
    for k in range(len(stages)):
        if scored is not None and k + 1 < len(stages):
            decided_values, scale, prediction = scored[k].values, scored[k].scale, picked[k].prediction
        else:
            decision = decide(rule, scores, k, picked[: k + 1], len(stages))
            decided_values, scale, prediction = decision.values, decision.scale, decision.prediction
        values.append(decided_values)
        scales.append(scale)
        quality.append(prediction == reference)
    costs = stage_costs(table, stages, cost_key)
    return Trace(
        values=np.stack(values[:-1]),
        scales=tuple(scales[:-1]),
        quality=np.stack(quality),
        base_quality=table.task.quality(picked[-1], reference),
        costs=None if costs is None else tuple(costs),
        base_cost=base_cost(table, stages[-1], cost_key),
        mixed=rule.mixes,
        groups=table.groups if table.groups is None or rows is None else table.groups[rows],
        cap=table.largest_group,
    )
