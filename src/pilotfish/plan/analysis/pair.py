"""A saver and its base on the same samples, as the plain arrays that every analysis takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import UsageError
from pilotfish.plan.sweep import F64, I64, Mask
from pilotfish.records import Table
from pilotfish.scores import Scale, score, to_shown


@dataclass(frozen=True)
class Pair:
    """N samples of one split.

    score                         float64 (N,), larger exits first; NaN never exits
    saver_correct, base_correct   bool (N,)
    scale                         the score's unit, see :mod:`pilotfish.scores`
    saver_cost, base_cost         C_S and C_B per sample in one unit; None when unknown
    groups                        int64 (N,), the group of each sample; None where all are independent
    """

    saver: str
    base: str
    score: F64
    saver_correct: Mask
    base_correct: Mask
    scale: Scale = "identity"
    saver_cost: float | None = None
    base_cost: float | None = None
    groups: I64 | None = None

    def __len__(self) -> int:
        return len(self.score)

    @property
    def cost_ratio(self) -> float | None:
        """C_S / C_B; None when a cost is unknown."""
        return None if self.saver_cost is None or not self.base_cost else self.saver_cost / self.base_cost

    def take(self, rows: NDArray[np.intp]) -> Pair:
        """The same pair on some rows."""
        picked = {name: getattr(self, name)[rows] for name in ("score", "saver_correct", "base_correct")}
        return replace(self, **picked, groups=None if self.groups is None else self.groups[rows])

    def shown(self, value: float) -> float:
        """A threshold as people read it: a probability for max_prob, ±inf as they are."""
        return float(to_shown(self.scale, value))


def pair_of(table: Table, saver: str, score_name: str = "max_prob", cost: str = "macs") -> Pair:
    """*saver* and the base of *table*. RecordsError when the saver's records hold no such score."""
    scored = score(score_name, table.outputs[saver])
    costs: list[Mapping[str, float]] = [table.meta[name].costs for name in (saver, table.base)]
    return Pair(
        saver=saver,
        base=table.base,
        score=scored.values,
        saver_correct=table.quality(saver),
        base_correct=table.quality(table.base),
        scale=scored.scale,
        saver_cost=costs[0].get(cost),
        base_cost=costs[1].get(cost),
        groups=table.groups,
    )


def check_drop(max_drop: float) -> float:
    """*max_drop*, when it is a fraction between -1 and 1; UsageError otherwise."""
    if not -1 <= max_drop <= 1:
        raise UsageError(f"max_drop is a fraction between -1 and 1 (0.005 is half a point), found {max_drop}")
    return max_drop
