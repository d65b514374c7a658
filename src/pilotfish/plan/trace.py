"""What every stage would say of every sample: the one input of all ways to choose thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pilotfish.cascade import Decision, Rule, decide
from pilotfish.errors import UsageError
from pilotfish.plan.costs import base_cost, stage_costs
from pilotfish.records import Table
from pilotfish.scores import ExitScore, Scale, Scored
from pilotfish.scores.outputs import LARGEST
from pilotfish.tasks import ACCURACY, Metric
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
    names       of the stages, where they are known
    metric      what is measured
    states      of each stage's answers, and base_states, where the metric is no mean (:class:`~pilotfish.tasks.Metric`)
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
    names: tuple[str, ...] = ()
    metric: Metric = ACCURACY
    states: tuple[Any, ...] = ()
    base_states: Any = None

    def __len__(self) -> int:
        return int(self.quality.shape[1])

    @property
    def stages(self) -> int:
        """K."""
        return int(self.quality.shape[0])

    @property
    def whole_counts(self) -> bool:
        """Whether the metric is a share of right answers, so that drops are differences of whole counts."""
        return self.metric.kind == "mean" and self.quality.dtype == np.bool_

    def take(self, rows: Rows) -> Trace:
        """The same stages on some rows."""
        return replace(
            self,
            values=self.values[:, rows],
            quality=self.quality[:, rows],
            base_quality=self.base_quality[rows],
            groups=None if self.groups is None else self.groups[rows],
            states=tuple(_some(states, rows) for states in self.states),
            base_states=None if self.base_states is None else _some(self.base_states, rows),
        )

    def pick(self, savers: Sequence[int]) -> Trace:
        """The stages with these indices, and the last one: the chain of a few models of a pool."""
        stages = [*savers, self.stages - 1]
        return replace(
            self,
            values=self.values[stages[:-1]],
            scales=tuple(self.scales[k] for k in savers),
            quality=self.quality[stages],
            costs=None if self.costs is None else tuple(self.costs[k] for k in stages),
            names=tuple(self.names[k] for k in stages) if self.names else (),
            states=tuple(self.states[k] for k in stages) if self.states else (),
        )

    @property
    def added(self) -> tuple[float, ...]:
        """What running each stage adds; without costs, 1 for the last stage alone."""
        return self.costs if self.costs is not None else (*(0.0,) * (self.stages - 1), 1.0)

    @property
    def through(self) -> F64:
        """float64 (K,): what a sample has cost that leaves at each stage, by :attr:`added`."""
        return np.cumsum(self.added)

    @property
    def whole(self) -> float:
        """Cost of the last model alone; 1 where costs are unknown."""
        return self.base_cost if self.base_cost is not None else 1.0


def _some(states: Any, rows: Rows) -> Any:
    return states[rows] if isinstance(states, np.ndarray) else states.take(rows)


def numbers(quality: Quality) -> NDArray[Any]:
    """What can be added up and subtracted: right and wrong as int8 1 and 0, other quality as it is."""
    return quality.view(np.int8) if quality.dtype == np.bool_ else quality


def by_quality(metric: Metric, what: str) -> list[str]:
    """What to say where *what* goes by the quality of each answer and the metric is no mean of it; else nothing."""
    if metric.kind == "mean":
        return []
    return [
        f"{metric.says} is no mean over samples: {what} by the quality of each answer; tune judges by {metric.says}"
    ]


def trace_of(
    values: Sequence[ArrayLike] | F64,
    quality: ArrayLike,
    costs: Sequence[float] | None = None,
    *,
    scales: Sequence[Scale] | None = None,
    groups: I64 | None = None,
    names: Sequence[str] = (),
) -> Trace:
    """The trace of K stages from plain arrays.

    values   float (K-1, N), larger exits first; NaN never exits, and what is +inf is cut to the largest number
    quality  bool (K, N) right or wrong, or float (K, N) in [0, 1]
    costs    what running each stage adds, K numbers of at least 0; None when unknown
    scales   the unit of each row of values; by default ``identity``
    groups   int (N,), the group of each sample; None where all are independent
    names    K names

    UsageError where shapes do not fit together or a number is out of range.
    """
    rows, good = [np.asarray(row, np.float64) for row in values], np.asarray(quality)
    if len({row.shape for row in rows}) > 1:
        raise UsageError(f"scores of one length per stage are needed, found shapes {[row.shape for row in rows]}")
    exits = np.minimum(np.stack(rows), LARGEST) if rows else np.empty((0, 0))
    k = len(good)
    if good.ndim != 2 or k < 2 or not good.shape[1] or exits.shape != (k - 1, good.shape[1]):
        raise UsageError(
            f"K stages need scores (K-1, N) and the quality of their answers (K, N) with K >= 2, N >= 1; "
            f"found {exits.shape} and {good.shape}"
        )
    good = good.astype(np.float64 if good.dtype.kind == "f" else np.bool_, copy=False)
    if good.dtype.kind == "f" and not ((good >= 0) & (good <= 1)).all():
        raise UsageError("the quality of an answer is a number from 0 to 1; there are others, or NaN, among them")
    if costs is not None and (len(costs) != k or not all(np.isfinite(c) and c >= 0 for c in costs)):
        raise UsageError(f"expected {k} finite costs of at least 0, one per stage, found {list(costs)}")
    priced = None if costs is None else tuple(float(c) for c in costs)
    unscaled: Scale = "identity"
    return Trace(
        values=exits,
        scales=(unscaled,) * (k - 1) if scales is None else tuple(scales),
        quality=good,
        base_quality=good[-1],
        costs=priced,
        base_cost=None if priced is None else priced[-1],
        groups=groups,
        cap=1 if groups is None else int(np.unique(groups, return_counts=True)[1].max()),
        names=tuple(names),
    )


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
    task = table.task
    values, answers, scales = [], [], []
    for k in range(len(stages)):
        if scored is not None and k + 1 < len(stages):
            decision = Decision(scored[k].values, picked[k], scored[k].scale)
        else:
            decision = decide(rule, scores, k, picked[: k + 1], len(stages), task)
        values.append(decision.values)
        scales.append(decision.scale)
        answers.append(decision.outputs)
    costs, states = stage_costs(table, stages, cost_key), task.metric.states
    return Trace(
        values=np.stack(values[:-1]),
        scales=tuple(scales[:-1]),
        quality=np.stack([task.quality(outputs, reference) for outputs in answers]),
        base_quality=task.quality(picked[-1], reference),
        costs=None if costs is None else tuple(costs),
        base_cost=base_cost(table, stages[-1], cost_key),
        mixed=rule.mixes,
        groups=table.groups if table.groups is None or rows is None else table.groups[rows],
        cap=table.largest_group,
        names=tuple(stages),
        metric=task.metric,
        states=() if states is None else tuple(states(outputs, reference) for outputs in answers),
        base_states=None if states is None else states(picked[-1], reference),
    )
