"""Policies along a path and the best of them: thresholds, exit ratios, the metric's value, cost."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.cascade.numbers import from_json, to_json
from pilotfish.errors import ArtefactError

F64 = NDArray[np.float64]
ACCURACY = "accuracy"  # the metric of cascades that name none
ExitSets = tuple[tuple[float, ...], ...]  # per stage but the last: rising bounds, see pilotfish.cascade.exits


@dataclass(frozen=True)
class Frontier:
    """P policies of a cascade of K stages, measured on one set of samples.

    thresholds  float64 (P, K-1), in the score's own unit; +inf exits nobody, -inf everybody
    exit_ratio  float64 (P, K), share of the samples that each stage answers; rows sum to 1
    value       float64 (P,), the metric's value, such as the accuracy
    drop        float64 (P,), the base's value minus it; of accuracy from whole counts (no rounding of a difference)
    cost        float64 (P,), mean cost per sample, or None when costs are unknown
    exit_sets   P exit sets where policies are no thresholds (then ``thresholds`` holds their lowest bounds), else None
    metric      the name of what is measured
    """

    thresholds: F64
    exit_ratio: F64
    value: F64
    drop: F64
    cost: F64 | None
    exit_sets: tuple[ExitSets, ...] | None = None
    metric: str = ACCURACY

    def __len__(self) -> int:
        return len(self.value)

    @property
    def effort(self) -> F64:
        """What a policy spends: its cost or, without costs, the share that reaches the last stage."""
        return self.cost if self.cost is not None else self.exit_ratio[:, -1]

    def take(self, rows: Any) -> Frontier:
        """Some of the policies, in the order given."""
        return Frontier(
            self.thresholds[rows],
            self.exit_ratio[rows],
            self.value[rows],
            self.drop[rows],
            None if self.cost is None else self.cost[rows],
            None if self.exit_sets is None else tuple(self.exit_sets[i] for i in np.arange(len(self))[rows]),
            self.metric,
        )

    def pareto(self) -> Frontier:
        """The policies that no other beats in both value and effort, cheapest first; of equals the last."""
        order = np.lexsort((-np.arange(len(self)), self.drop, self.effort))
        best_before = np.minimum.accumulate(np.concatenate([[np.inf], self.drop[order]]))[:-1]
        return self.take(order[self.drop[order] < best_before])

    def to_json(self) -> dict[str, Any]:
        """Columns as JSON lists; of accuracies ``accuracy``, of other metrics ``metric`` and ``value``."""
        document = {
            "thresholds": [[to_json(t) for t in row] for row in self.thresholds.tolist()],
            "exit_ratio": self.exit_ratio.tolist(),
            **({} if self.metric == ACCURACY else {"metric": self.metric}),
            "accuracy" if self.metric == ACCURACY else "value": self.value.tolist(),
            "drop": self.drop.tolist(),
            "cost": None if self.cost is None else self.cost.tolist(),
        }
        if self.exit_sets is not None:
            document["exit_sets"] = [exit_sets_to_json(sets) for sets in self.exit_sets]
        return document

    @classmethod
    def from_json(cls, document: Any) -> Frontier:
        """The inverse of :meth:`to_json`; ArtefactError when the columns do not fit together."""
        try:
            metric = str(document.get("metric", ACCURACY))
            thresholds = [[from_json(t) for t in row] for row in document["thresholds"]]
            cost, sets = document["cost"], document.get("exit_sets")
            frontier = cls(
                np.array(thresholds, np.float64).reshape(len(thresholds), -1),
                np.array(document["exit_ratio"], np.float64),
                np.array(document["accuracy" if metric == ACCURACY else "value"], np.float64),
                np.array(document["drop"], np.float64),
                None if cost is None else np.array(cost, np.float64),
                None if sets is None else tuple(exit_sets_from_json(entry) for entry in sets),
                metric,
            )
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise ArtefactError(f"the frontier is damaged: {str(error)[:160]}") from error
        n, stages = len(thresholds), frontier.thresholds.shape[1] + 1
        columns = [c for c in (frontier.value, frontier.drop, frontier.cost) if c is not None]
        if n == 0 or frontier.exit_ratio.shape != (n, stages) or any(column.shape != (n,) for column in columns):
            raise ArtefactError(f"the frontier is damaged: its columns do not have {n} policies of {stages} stages")
        if not all(np.isfinite(column).all() for column in (*columns, frontier.exit_ratio)):
            raise ArtefactError("the frontier is damaged: some of its numbers are missing")
        if any(((column < 0) | (column > 1)).any() for column in (frontier.value, frontier.exit_ratio)):
            raise ArtefactError("the frontier is damaged: a value or an exit ratio is no share")
        if frontier.exit_sets is not None and [len(s) for s in frontier.exit_sets] != [stages - 1] * n:
            raise ArtefactError(f"the frontier is damaged: its exit sets are not {n} policies of {stages} stages")
        return frontier


def exit_sets_to_json(sets: ExitSets) -> list[list[float | str | None]]:
    """Bounds as JSON lists."""
    return [[to_json(b) for b in bounds] for bounds in sets]


def exit_sets_from_json(document: Any) -> ExitSets:
    """The inverse of :func:`exit_sets_to_json`; ArtefactError when the bounds do not rise."""
    sets = tuple(tuple(from_json(b) for b in bounds) for bounds in document)
    if any(not bounds or any(a >= b for a, b in pairwise(bounds)) for bounds in sets):
        raise ArtefactError("an exit set is damaged: its bounds do not rise")
    return sets
