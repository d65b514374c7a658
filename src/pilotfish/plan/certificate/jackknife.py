"""Promises of ratios and ranks over samples by a jackknife: one-sided limits that hold for many samples only.

A hundred parts of the samples (of a rank 25, since each asks for the metric anew) are left out in turn, groups whole;
the spread of the metric over them gives its standard error, and Student's t the limit. That is asymptotic: nothing
bounds the error at a given n, and everything that shows such a promise says so. For macro F1, mIoU and mAP no test
that holds at any n is known to us.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pilotfish.errors import BudgetError
from pilotfish.plan.certificate.promise import Promise
from pilotfish.plan.evaluate import BLOCKS, blocks_of, measure
from pilotfish.plan.path import PolicyPath, route
from pilotfish.plan.trace import Trace

RANK_BLOCKS = 25
NORMAL = 1.645  # standard errors of a one-sided test at 5 %
FEWEST = 100  # samples, or groups: with fewer the limit is none


@dataclass(frozen=True)
class Estimate:
    """value: of what is promised; bias: by the parts; error: its standard error; free: degrees of freedom.

    mAP of few images is larger than of many. A correction is made only where it speaks against what is to be shown.
    """

    value: float
    bias: float
    error: float
    free: int

    def upper(self, delta: float) -> float:
        """The limit that it is below with confidence 1 - delta."""
        from scipy.special import stdtrit

        return self.value - min(self.bias, 0.0) + float(stdtrit(self.free, 1 - delta)) * self.error

    def p_at_most(self, limit: float) -> float:
        """The level at which "it is at most *limit*" is rejected."""
        from scipy.special import stdtr

        value = self.value - max(self.bias, 0.0)
        if self.error == 0:
            return float(value <= limit)
        return float(stdtr(self.free, (limit - value) / self.error))


class Jackknife:
    """Tests of *promise* by the limits of a jackknife, at the policies of *path* on the samples of *trace*.

    What is limited is a loss: the drop, which is the disagreement where the base's answers are the truth; of a least
    value what is lacking of 1. Of so few samples or groups that a limit means nothing no policy passes.
    """

    tested = 26  # policies of a path

    def __init__(self, trace: Trace, path: PolicyPath, promise: Promise) -> None:
        self.trace, self.path, self.promise = trace, path, promise
        found, lacks = measure(trace, path), promise.at_least
        self.losses = 1 - found.value if lacks else found.drop
        self.most = 1 - promise.target if lacks else promise.target
        self.blocks = blocks_of(trace, RANK_BLOCKS if trace.metric.kind == "rank" else BLOCKS)
        self.before = np.ones(self.blocks.count) if lacks else self.blocks.replicates(None)

    def loss(self, i: int) -> Estimate:
        """What policy i loses."""
        spread = self.before - self.blocks.replicates(route(self.trace, self.path.policy(i)))
        free, value = self.blocks.count - 1, float(self.losses[i])
        error = math.sqrt(free * float(spread.var())) if free else math.inf
        return Estimate(value, free * (float(spread.mean()) - value), error, max(free, 1))

    def kept(self, i: int) -> bool:
        """Whether policy i passes."""
        return _units(self.trace) >= FEWEST and self.loss(i).upper(self.promise.delta) <= self.most

    def bound(self, i: int) -> float:
        """The confidence bound of what is promised at policy i."""
        upper = self.loss(i).upper(self.promise.delta)
        return 1 - upper if self.promise.at_least else upper

    def p_value(self, i: int) -> float:
        """Of "the promise holds" at policy i."""
        return self.loss(i).p_at_most(self.most)

    def needed(self, i: int) -> float | None:
        """About how many samples would tell whether policy i keeps the promise, were they as these: normal law."""
        found, n = self.loss(i), len(self.trace)
        over = found.value - self.most
        if not over or not found.error or math.isinf(found.error):
            return None
        return max(n * (NORMAL * found.error / over) ** 2, n * FEWEST / _units(self.trace))


def _units(trace: Trace) -> int:
    return len(trace) if trace.groups is None else len(np.unique(trace.groups))


def check_many(trace: Trace) -> None:
    """BudgetError where there are so few samples or groups that the limit means nothing."""
    if (units := _units(trace)) < FEWEST:
        raise BudgetError(
            f"{units:,} {'samples' if trace.groups is None else 'groups'} are too few for a jackknife's limit, which "
            f"holds for many: at least {FEWEST} are needed"
        )
