"""Policies along a path and the best of them: thresholds, exit ratios, the metric's value, cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.documents import OFF_DEFAULT, Unbounded, Within, as_document

F64 = NDArray[np.float64]
ACCURACY = "accuracy"  # the metric of cascades that name none
ExitSets = tuple[tuple[Unbounded, ...], ...]  # per stage but the last: rising bounds, see pilotfish.cascade.exits


@dataclass(frozen=True)
class Frontier:
    """P policies of a cascade of K stages, measured on one set of samples.

    thresholds  float64 (P, K-1), in the score's own unit; +inf exits nobody, -inf everybody
    exit_ratio  float64 (P, K), share of the samples that each stage answers; rows sum to 1
    value       float64 (P,), the metric's value, such as the accuracy
    drop        float64 (P,), the base's value minus it; of accuracy from whole counts (no rounding of a difference)
    cost        float64 (P,), mean cost per sample, or None when costs are unknown
    exit_sets   P exit sets if policies are not thresholds (then ``thresholds`` holds their lowest bounds), else None
    metric      the name of what is measured
    """

    thresholds: Annotated[F64, Within(infinities=True)]
    exit_ratio: Annotated[F64, Within(0, 1)]
    value: Annotated[F64, Within(0, 1)]
    drop: F64
    cost: F64 | None
    exit_sets: tuple[ExitSets, ...] | None = field(default=None, metadata=OFF_DEFAULT)
    metric: str = field(default=ACCURACY, metadata=OFF_DEFAULT)

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

    def pareto(self, most: int | None = None, keep: int | None = None) -> Frontier:
        """The policies that no other beats in both value and effort, cheapest first; among equals the last.

        most  about how many to keep, evenly along the curve: the others are within 2 / most of the range of drops and
              of efforts of one that is kept. None keeps all
        keep  the index of a policy that is always kept if it is one of these, as are both ends and the cheapest without
              a drop
        """
        order = np.lexsort((-np.arange(len(self)), self.drop, self.effort))
        best_before = np.minimum.accumulate(np.concatenate([[np.inf], self.drop[order]]))[:-1]
        rows = order[self.drop[order] < best_before]
        if most is not None and len(rows) > most:
            drop, effort = self.drop[rows], self.effort[rows]
            along = (effort - effort[0]) / (np.ptp(effort) or 1.0) + (drop[0] - drop) / np.ptp(drop)  # from 0 to 2
            _, first = np.unique(np.floor(along * (most / 2)), return_index=True)  # the cheapest of each step
            wanted = np.isin(np.arange(len(rows)), [*first, len(rows) - 1, int(np.argmax(drop <= 0))])
            rows = rows[wanted | (rows == keep)]
        return self.take(rows)

    def to_json(self) -> dict[str, Any]:
        """Columns as JSON lists: ``accuracy`` for accuracies, ``metric`` and ``value`` for other metrics."""
        document: dict[str, Any] = as_document(self)
        if self.metric == ACCURACY:
            return {"accuracy" if key == "value" else key: column for key, column in document.items()}
        return document

    @staticmethod
    def modern(document: Mapping[str, Any]) -> Mapping[str, Any]:
        """``accuracy`` as ``value``."""
        return {"value" if key == "accuracy" and "metric" not in document else key: v for key, v in document.items()}

    def validate(self) -> None:
        """ValueError when the columns do not fit together."""
        n, stages = len(self), self.exit_ratio.shape[-1]
        columns = [c for c in (self.value, self.drop, self.cost) if c is not None]
        if (
            n == 0
            or (self.exit_ratio.shape, self.thresholds.shape) != ((n, stages), (n, stages - 1))
            or any(column.shape != (n,) for column in columns)
        ):
            raise ValueError(f"its columns do not have {n} policies of {stages} stages")
        if self.exit_sets is not None:
            if [len(sets) for sets in self.exit_sets] != [stages - 1] * n:
                raise ValueError(f"its exit sets are not {n} policies of {stages} stages")
            for sets in self.exit_sets:
                check_bounds(sets)


def check_bounds(sets: ExitSets) -> None:
    """ValueError when the bounds of some stage do not rise."""
    if any(not bounds or any(a >= b for a, b in pairwise(bounds)) for bounds in sets):
        raise ValueError("the bounds of an exit set do not rise")
