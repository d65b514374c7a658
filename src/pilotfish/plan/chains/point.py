"""One policy of a chain, and what it does to samples whose records are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pilotfish.errors import BudgetError, UsageError
from pilotfish.plan.chains.goal import F64, Goal
from pilotfish.scores.outputs import LARGEST

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class ChainPoint:
    """Thresholds of a chain of K stages and what they do.

    thresholds  K-1 numbers; +inf exits nobody, -inf everybody
    exits       samples that each of the K stages answers
    cost        mean per sample: sum over stages of c_k x the share that reaches stage k
    drop        (#last stage right - #chain right) / N
    """

    thresholds: tuple[float, ...]
    exits: tuple[int, ...]
    cost: float
    drop: float

    @property
    def n(self) -> int:
        """N samples."""
        return int(sum(self.exits))

    @property
    def gain(self) -> int:
        """#chain right - #last stage right."""
        return -round(self.drop * self.n)

    @property
    def exit_ratio(self) -> tuple[float, ...]:
        """Share of the samples that each stage answers."""
        return tuple(count / self.n for count in self.exits)


@dataclass(frozen=True)
class Chain:
    """The arrays of K stages on N samples, checked.

    scores  float64 (K-1, N), below +inf; NaN never exits
    right   bool (K, N)
    costs   K marginal costs
    """

    scores: F64
    right: Mask
    costs: tuple[float, ...]

    @property
    def n(self) -> int:
        """N samples."""
        return int(self.right.shape[1])

    @property
    def stages(self) -> int:
        """K stages."""
        return len(self.right)


def make_chain(scores: Sequence[ArrayLike] | F64, right: ArrayLike, costs: Sequence[float]) -> Chain:
    """Check and convert the arrays of a chain. UsageError says which shape was found and expected."""
    values = stack_scores(scores)
    correct = np.asarray(right, np.bool_)
    k = len(correct)
    if correct.ndim != 2 or k < 2 or correct.shape[1] == 0 or values.shape != (k - 1, correct.shape[1]):
        raise UsageError(
            f"a chain of K stages needs scores (K-1, N) and right (K, N) with K >= 2, N >= 1; "
            f"found {values.shape} and {correct.shape}"
        )
    if len(costs) != k or not all(np.isfinite(c) and c >= 0 for c in costs):
        raise UsageError(f"expected {k} finite costs of at least 0, one per stage, found {list(costs)}")
    return Chain(values, correct, tuple(float(c) for c in costs))


def stack_scores(scores: Sequence[ArrayLike] | F64) -> F64:
    """Scores of several stages as one float64 (M, N), below +inf: a threshold of +inf exits nobody."""
    rows = [np.asarray(row, np.float64) for row in scores]
    if len({row.shape for row in rows}) > 1:
        raise UsageError(f"scores of one length per stage are needed, found shapes {[row.shape for row in rows]}")
    return np.minimum(np.stack(rows), LARGEST) if rows else np.empty((0, 0))


def mean_cost(costs: Sequence[float], reached: Sequence[ArrayLike], n: int) -> F64:
    """Mean cost per sample, from the counts of samples that reach each stage (arrays of one shape)."""
    total: F64 = np.asarray(costs[0] * np.asarray(reached[0], np.float64))
    for cost, count in zip(costs[1:], reached[1:], strict=True):
        total = total + cost * np.asarray(count, np.float64)
    return total / n


def measure(
    scores: Sequence[ArrayLike] | F64, right: ArrayLike, costs: Sequence[float], thresholds: Sequence[float]
) -> ChainPoint:
    """What *thresholds* (K-1) do to a chain: scores (K-1, N), right bool (K, N), K marginal costs."""
    return measure_chain(make_chain(scores, right, costs), thresholds)


def measure_chain(chain: Chain, thresholds: Sequence[float]) -> ChainPoint:
    """:func:`measure` of arrays that were checked."""
    passes = chain.scores >= np.asarray(thresholds)[:, None]
    answered_by = np.where(passes.any(axis=0), passes.argmax(axis=0), chain.stages - 1)
    exits = np.bincount(answered_by, minlength=chain.stages)
    gain = int(chain.right[answered_by, np.arange(chain.n)].sum()) - int(chain.right[-1].sum())
    reached = chain.n - np.concatenate([[0], np.cumsum(exits)[:-1]])
    return ChainPoint(
        thresholds=tuple(float(t) for t in thresholds),
        exits=tuple(exits.tolist()),
        cost=float(mean_cost(chain.costs, list(reached), chain.n)),
        drop=-gain / chain.n,
    )


def required(point: ChainPoint, goal: Goal) -> ChainPoint:
    """*point*, when it keeps to the goal's limit; BudgetError, with the best that can be reached, otherwise."""
    if goal.rank(point.gain, point.cost)[0] == 0:
        return point
    if goal.kind == "max_cost":
        raise BudgetError(
            f"no thresholds have a mean cost of at most {goal.value:,.6g}; the cheapest found costs {point.cost:,.6g}"
        )
    raise BudgetError(
        f"no thresholds have a drop of at most {100 * goal.value:.4g} points; "
        f"the smallest found is {100 * point.drop:.2f} points"
    )
