"""Budgets, and the operating point of a frontier that meets one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pilotfish.cascade.frontier import Frontier
from pilotfish.documents import OFF_DEFAULT, Within
from pilotfish.errors import BudgetError, UsageError
from pilotfish.tasks import says_of

F64 = NDArray[np.float64]
SLACK = 1e-12  # so that a drop of 5/1000 meets 0.005 however it was rounded; relative for costs


@dataclass(frozen=True)
class Budget:
    """What an operating point must meet, and which of those that do is best.

    kind   ``max_drop`` (a fraction, absolute) and ``min_metric`` (a fraction): the least cost, then the smallest drop;
           ``max_cost`` (in the cost's unit): the smallest drop, then the least cost; ``price``: the least cost + value
           x drop, then the least cost, without a limit
    """

    kind: Literal["max_drop", "max_cost", "min_metric", "price"]
    value: float

    @staticmethod
    def modern(document: Mapping[str, Any]) -> Mapping[str, Any]:
        """``min_accuracy`` as ``min_metric``."""
        return {**document, "kind": "min_metric"} if document.get("kind") == "min_accuracy" else document

    def __str__(self) -> str:
        return self.says("value")

    def says(self, metric: str) -> str:
        """The budget in words; *metric* is what the metric is called in prose."""
        if self.kind == "max_cost":
            return f"cost at most {plain_cost(self.value)}"
        limit = "drop at most" if self.kind == "max_drop" else f"{metric} at least"
        return f"{limit} {100 * self.value:.4g}%"

    def violation(self, gain: NDArray[Any], cost: NDArray[Any], n: int = 1) -> F64:
        """How far each policy is from an allowed drop or cost; 0 where it is met.

        gain  what the cascade's answers are worth beyond the base's, summed over *n* samples; whole numbers or float64
        cost  float64, mean per sample
        """
        if self.kind == "max_drop":
            return np.maximum(0.0, -(self.value + SLACK) * n - gain)
        if self.kind == "max_cost":
            return np.where(cost <= self.value * (1 + SLACK), 0.0, cost - self.value)
        return np.zeros(np.shape(gain))

    def keys(self, gain: NDArray[Any], cost: NDArray[Any], n: int = 1) -> tuple[F64, F64]:
        """First and second aim of each policy, smaller is better; arguments as in :meth:`violation`."""
        lost = np.asarray(-gain, np.float64)
        if self.kind == "max_cost":
            return lost, cost
        if self.kind == "price":
            return cost + self.value * lost / n, cost
        return cost, lost

    def rank(self, gain: float, cost: float, n: int = 1) -> tuple[float, float, float]:
        """The place of one policy: (violation, first aim, second aim), compared as a tuple."""
        one, its_cost = np.array([gain]), np.array([cost])
        first, second = self.keys(one, its_cost, n)
        return float(self.violation(one, its_cost, n)[0]), float(first[0]), float(second[0])

    def best(self, gain: NDArray[Any], cost: NDArray[Any], n: int = 1) -> int:
        """Flat index of the best policy, the first among equals; the one with the least violation if none is
        allowed."""
        gain, cost = gain.ravel(), cost.ravel()
        broken = self.violation(gain, cost, n)
        rows = np.flatnonzero(broken == broken.min())
        first, second = self.keys(gain[rows], cost[rows], n)
        least = np.flatnonzero(first == first.min())
        return int(rows[least[np.argmin(second[least])]])


def plain_cost(cost: float) -> str:
    """A cost as it is typed after ``--max-cost``, digit for digit: 10,897,600, not 1.08976e+07."""
    return f"{cost:,.0f}" if abs(cost) >= 1e4 else f"{cost:.6g}"


@dataclass(frozen=True)
class Limits:
    """What an operating point must meet besides its budget.

    class_drop        by the name of a class, the most accuracy that may be lost among the samples labelled so
    worst_class_drop  the same for every class that ``class_drop`` does not name; None: no limit
    latency_p95       milliseconds that 95 % of single requests may take; None: no limit
    """

    class_drop: Mapping[str, Annotated[float, Within(0, 1)]] = field(default_factory=dict)
    worst_class_drop: Annotated[float, Within(0, 1)] | None = field(default=None, metadata=OFF_DEFAULT)
    latency_p95: Annotated[float, Within(0)] | None = field(default=None, metadata=OFF_DEFAULT)

    def __str__(self) -> str:
        named = [f"{name} {100 * drop:.4g}%" for name, drop in list(self.class_drop.items())[:4]]
        if (more := len(self.class_drop) - 4) > 0:
            named.append(f"{more} more")
        if self.worst_class_drop is not None:
            named.append(f"{'any other' if named else 'any'} class {100 * self.worst_class_drop:.4g}%")
        parts = [f"drops at most {', '.join(named)}"] if named else []
        if self.latency_p95 is not None:
            parts.append(f"p95 at most {self.latency_p95:g} ms")
        return " and ".join(parts)


def make_budget(
    max_drop: float | None = None,
    max_cost: float | str | None = None,
    min_metric: float | None = None,
    base_cost: float | None = None,
    *,
    min_accuracy: float | None = None,
) -> Budget:
    """The one budget that was given. ``max_cost`` may be text such as ``"40%"``, of the base's cost; ``min_accuracy``
    is another name for ``min_metric``."""
    options = {"max_drop": max_drop, "max_cost": max_cost, "min_metric": min_metric, "min_accuracy": min_accuracy}
    given = [name for name, value in options.items() if value is not None]
    if len(given) != 1:
        found = " and ".join(given) or "none"
        raise UsageError(f"exactly one of max_drop, max_cost, min_metric is needed, found {found}")
    if max_cost is not None:
        return Budget("max_cost", _absolute_cost(max_cost, base_cost))
    if max_drop is not None:
        if not -1 <= max_drop <= 1:
            raise UsageError(f"max_drop is a fraction between -1 and 1 (0.005 is half a point), found {max_drop}")
        return Budget("max_drop", float(max_drop))
    least = float(options[given[0]])  # type: ignore[arg-type]
    if not 0 <= least <= 1:
        raise UsageError(f"{given[0]} is a fraction between 0 and 1, found {least:g}")
    return Budget("min_metric", least)


def choose(
    frontier: Frontier, budget: Budget, kept: NDArray[np.bool_] | None = None, limits: Limits | None = None
) -> int:
    """Index of the policy that meets *budget*: the cheapest for a drop or a minimum value, the best for a cost (then
    the cheapest); among equals the last, which on a grid is the smallest threshold. BudgetError, with the best that can
    be reached, if none does.

    kept    bool (P,), the policies that meet *limits*; None: all of them do
    limits  what the policies meet besides the budget, named in the error
    """
    if kept is not None and not kept.all():
        rows = np.flatnonzero(kept)
        if not len(rows):
            raise BudgetError(f"no operating point meets {limits}")
        return int(rows[choose(frontier.take(rows), budget, None, limits)])
    if budget.kind == "max_cost" and frontier.cost is None:
        raise BudgetError(f"{budget} cannot be judged: the records hold no such cost; give max_drop or min_metric")
    gain, effort = -frontier.drop, frontier.effort
    if budget.kind == "min_metric":
        met = frontier.value >= budget.value - SLACK
    else:
        met = budget.violation(gain, effort) == 0
    if not met.any():
        says = says_of(frontier.metric)
        asked = budget.says(says) + ("" if limits is None else f" with {limits}")
        raise BudgetError(f"no operating point has {asked}; {_best(frontier, budget, says)}")
    rows = np.flatnonzero(met)
    first, second = budget.keys(gain[rows], effort[rows])
    return int(rows[np.lexsort((-rows, second, first))[0]])


def _best(frontier: Frontier, budget: Budget, says: str) -> str:
    if budget.kind == "max_cost":
        cheapest = int(frontier.effort.argmin())
        cost, drop = float(frontier.effort[cheapest]), f"{100 * frontier.drop[cheapest]:.2f} points"
        is_share = 0 < budget.value <= 1 and cost >= 100  # where costs are small, as in ms, it may well be a cost
        share = f'; write "{100 * budget.value:g}%" for that share of the base\'s cost' if is_share else ""
        return f"the cheapest costs {plain_cost(cost)}, at a drop of {drop}{share}"
    best = int(np.lexsort((frontier.effort, frontier.drop))[0])
    if budget.kind == "max_drop":
        return f"the smallest drop that can be reached is {100 * frontier.drop[best]:.2f} points"
    return f"the best {says} that can be reached is {100 * frontier.value[best]:.2f}%"


def _absolute_cost(value: float | str, base_cost: float | None) -> float:
    share = isinstance(value, str) and value.strip().endswith("%")
    try:
        number = float(str(value).strip().removesuffix("%"))
    except ValueError:
        number = np.nan
    if share and base_cost is not None:
        number = number / 100 * base_cost
    if not np.isfinite(number) or number < 0:  # also of a share, or no document could hold it
        raise UsageError(
            f"max_cost is a number in the cost's unit or a share of the base's such as 40%, found {value!r}"
        )
    if share and base_cost is None:
        raise UsageError(f"max_cost {value} is a share of the base's cost, which the records do not hold; add costs")
    return number
