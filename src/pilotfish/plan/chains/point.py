"""One policy of a chain, and what it does to samples whose records are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from pilotfish.cascade import Budget
from pilotfish.cascade.budget import plain_cost
from pilotfish.errors import BudgetError
from pilotfish.plan.path import parted
from pilotfish.plan.sweep import F64, Mask
from pilotfish.plan.trace import Trace
from pilotfish.tasks.task import Quality

Place = tuple[float, float, float]


@dataclass(frozen=True)
class ChainPoint:
    """Thresholds of a chain of K stages and what they do.

    thresholds  K-1 numbers; +inf exits nobody, -inf everybody
    exits       samples that each of the K stages answers
    cost        mean per sample: sum over stages of c_k x the share that reaches stage k
    gain        what the chain's answers are worth beyond the last stage's, summed: a whole number of right answers,
                else a float
    """

    thresholds: tuple[float, ...]
    exits: tuple[int, ...]
    cost: float
    gain: float

    @property
    def n(self) -> int:
        """N samples."""
        return int(sum(self.exits))

    @property
    def drop(self) -> float:
        """What is lost against the last stage, a fraction."""
        return -self.gain / self.n + 0.0

    @property
    def exit_ratio(self) -> tuple[float, ...]:
        """Share of the samples that each stage answers."""
        return tuple(count / self.n for count in self.exits)

    def place(self, budget: Budget) -> Place:
        """How far it is from what *budget* allows, and its first and second aim; smaller is better."""
        return budget.rank(self.gain, self.cost, self.n)


def mean_cost(trace: Trace, reached: Sequence[ArrayLike]) -> F64:
    """Mean cost per sample, from the counts of samples that reach each stage (arrays of one shape)."""
    costs = trace.added
    total: F64 = np.asarray(costs[0] * np.asarray(reached[0], np.float64))
    for cost, count in zip(costs[1:], reached[1:], strict=True):
        total = total + cost * np.asarray(count, np.float64)
    return total / len(trace)


def measure(trace: Trace, thresholds: Sequence[float]) -> ChainPoint:
    """What *thresholds* (K-1) do to a chain."""
    parts = parted(trace, tuple((t,) for t in thresholds))
    exits = [int(np.count_nonzero(part)) for part in parts]
    worth = sum(total(quality, part) for quality, part in zip(trace.quality, parts, strict=True))
    reached = len(trace) - np.concatenate([[0], np.cumsum(exits)[:-1]])
    return ChainPoint(
        thresholds=tuple(float(t) for t in thresholds),
        exits=tuple(exits),
        cost=float(mean_cost(trace, list(reached))),
        gain=worth - total(trace.quality[-1]),
    )


def total(quality: Quality, where: Mask | None = None) -> float:
    """The sum of a quality, of all samples or some: a whole number where it is right or wrong."""
    if quality.dtype == np.bool_:
        return int(np.count_nonzero(quality if where is None else quality & where))
    return float((quality if where is None else quality[where]).sum())


def required(point: ChainPoint, budget: Budget) -> ChainPoint:
    """*point*, when it keeps to the budget; BudgetError, with the best that can be reached, otherwise."""
    if point.place(budget)[0] == 0:
        return point
    if budget.kind == "max_cost":
        raise BudgetError(
            f"no thresholds have a mean cost of at most {plain_cost(budget.value)}; the cheapest found costs "
            f"{plain_cost(point.cost)}"
        )
    raise BudgetError(
        f"no thresholds have a drop of at most {100 * budget.value:.4g} points; "
        f"the smallest found is {100 * point.drop:.2f} points"
    )
