"""Budgets, and the operating point of a frontier that meets one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from pilotfish.cascade.frontier import Frontier
from pilotfish.errors import BudgetError, UsageError

SLACK = 1e-12  # so that a drop of 5/1000 meets 0.005 however it was rounded


@dataclass(frozen=True)
class Budget:
    """What an operating point must keep to.

    kind   ``max_drop`` (a fraction, absolute), ``max_cost`` (in the cost's unit), ``min_accuracy`` (a fraction)
    """

    kind: Literal["max_drop", "max_cost", "min_accuracy"]
    value: float

    def __str__(self) -> str:
        if self.kind == "max_cost":
            return f"cost at most {self.value:,.6g}"
        limit = "drop at most" if self.kind == "max_drop" else "accuracy at least"
        return f"{limit} {100 * self.value:.4g}%"


def make_budget(
    max_drop: float | None = None,
    max_cost: float | str | None = None,
    min_accuracy: float | None = None,
    base_cost: float | None = None,
) -> Budget:
    """The one budget that was given. ``max_cost`` may be text such as ``"40%"``, of the base's cost."""
    given = [name for name, value in _named(max_drop, max_cost, min_accuracy) if value is not None]
    if len(given) != 1:
        found = " and ".join(given) or "none"
        raise UsageError(f"exactly one of max_drop, max_cost, min_accuracy is needed, found {found}")
    if max_drop is not None:
        if not -1 <= max_drop <= 1:
            raise UsageError(f"max_drop is a fraction between -1 and 1 (0.005 is half a point), found {max_drop}")
        return Budget("max_drop", float(max_drop))
    if min_accuracy is not None:
        if not 0 <= min_accuracy <= 1:
            raise UsageError(f"min_accuracy is a fraction between 0 and 1, found {min_accuracy}")
        return Budget("min_accuracy", float(min_accuracy))
    return Budget("max_cost", _absolute_cost(max_cost, base_cost))


def choose(frontier: Frontier, budget: Budget) -> int:
    """Index of the policy that meets *budget*: the cheapest for a drop or an accuracy, the most accurate for a
    cost (then the cheapest); of equals the last, which on a grid is the smallest threshold. BudgetError, with the
    best that can be reached, when none does."""
    drop, effort = frontier.drop, frontier.effort
    if budget.kind == "max_cost":
        if frontier.cost is None:
            raise BudgetError(
                f"{budget} cannot be judged: the records hold no such cost; give max_drop or min_accuracy"
            )
        feasible = effort <= budget.value * (1 + SLACK)
        keys = (effort, drop)
    else:
        slack = SLACK
        if budget.kind == "max_drop":
            feasible = drop <= budget.value + slack
        else:
            feasible = frontier.accuracy >= budget.value - slack
        keys = (drop, effort)
    if not feasible.any():
        raise BudgetError(f"no operating point has {budget}; {_best(frontier, budget)}")
    rows = np.flatnonzero(feasible)
    return int(rows[np.lexsort((-rows, keys[0][rows], keys[1][rows]))[0]])


def _best(frontier: Frontier, budget: Budget) -> str:
    if budget.kind == "max_cost":
        cheapest = int(frontier.effort.argmin())
        return f"the cheapest costs {frontier.effort[cheapest]:,.6g}, at a drop of {_points(frontier.drop[cheapest])}"
    best = int(np.lexsort((frontier.effort, frontier.drop))[0])
    if budget.kind == "max_drop":
        return f"the smallest drop that can be reached is {_points(frontier.drop[best])}"
    return f"the best accuracy that can be reached is {100 * frontier.accuracy[best]:.2f}%"


def _points(drop: float) -> str:
    return f"{100 * drop:.2f} points"


def _named(*values: object) -> list[tuple[str, object]]:
    return list(zip(("max_drop", "max_cost", "min_accuracy"), values, strict=True))


def _absolute_cost(value: float | str | None, base_cost: float | None) -> float:
    share = isinstance(value, str) and value.strip().endswith("%")
    try:
        number = float(str(value).strip().removesuffix("%"))
    except ValueError:
        number = np.nan
    if not np.isfinite(number) or number < 0:
        raise UsageError(
            f"max_cost is a number in the cost's unit or a share of the base's such as 40%, found {value!r}"
        )
    if not share:
        return number
    if base_cost is None:
        raise UsageError(f"max_cost {value} is a share of the base's cost, which the records do not hold; add costs")
    return number / 100 * base_cost
