"""Promises of a ratio that is one fraction, good / (good + bad) of sums over samples, such as micro F1; at any n.

Least value. The fraction is at least f where the mean of y = (1 - f) good - f bad is at least 0. Good and bad of one
sample are bounded, by numbers that the metric knows beforehand, so a bettor against "the mean is at most 0" (see
:mod:`.wsr`) is a test. For micro F1, y = 2 TP - f (2 TP + FP + FN).

Drop. With b the base's true fraction, the drop is below eps where the mean of y_C(b - eps) - y_B(b) is above 0, sample
by sample the cascade's y minus the base's. Nobody knows b: a share of delta buys an interval for it, and the test is
made for all b within, at the rest. Each betting factor is linear in b, so the log of the wealth is concave in b where
the bets do not depend on it, and its least value over an interval is at one of its ends. Bounds of y, and the bets, are
therefore those of fixed cells of b (fixed before any sample is seen), and every cell that the interval touches must
reject. Most of delta goes to the test, for what is promised hardly depends on b: it enters by the difference of the two
denominators.

Of groups the sums are bet on, each bounded by the cap on sizes times what a sample can have. Groups, their order and
the cap are those of :mod:`.grouped`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import UsageError
from pilotfish.plan.certificate import wsr
from pilotfish.plan.certificate.grouped import groups_of
from pilotfish.plan.certificate.promise import Promise
from pilotfish.plan.path import PolicyPath, route
from pilotfish.plan.trace import Trace

F64 = NDArray[np.float64]
BASE_SHARE = 0.1  # of delta, for the interval of the base's own fraction
CELL = 0.05  # width of the cells of b
MANY = 2**20  # samples: more than this nobody is advised to record
DIGITS = 20


@dataclass(frozen=True)
class Parts:
    """What is good and bad in each group's answers, in the order of betting.

    good, bad   float64 (G,)
    most        what one group can have of either: the metric's bounds of a sample times the cap
    """

    good: F64
    bad: F64
    most: tuple[float, float]

    @property
    def all(self) -> F64:
        """float64 (G,): the denominators."""
        return self.good + self.bad

    @property
    def other_way(self) -> Parts:
        """Bad for good: its fraction is one minus this one's."""
        return Parts(self.bad, self.good, self.most[::-1])

    def value(self) -> float:
        """The fraction itself; 1 where there is nothing."""
        total = float(self.all.sum())
        return float(self.good.sum()) / total if total else 1.0


class Bets:
    """Tests of *promise* by betting, at the policies of *path* on the samples of *trace*."""

    tested = 41  # policies of a path

    def __init__(self, trace: Trace, path: PolicyPath, promise: Promise) -> None:
        assert trace.metric.parts is not None
        self.trace, self.path, self.promise, self.groups = trace, path, promise, groups_of(trace)
        self.level = (1 - BASE_SHARE) * promise.delta if promise.kind == "drop" else promise.delta
        found = [trace.metric.parts(states) for states in trace.states]
        self.good, self.bad = (np.stack([stage[at] for stage in found]) for at in (0, 1))  # (K, N)
        self.most = found[0][2:]
        self.base = self._parts(*trace.metric.parts(trace.base_states)[:2])

    def answers(self, i: int) -> Parts:
        """What policy i makes of good and bad."""
        answered_by, columns = route(self.trace, self.path.policy(i)), np.arange(len(self.trace))
        return self._parts(self.good[answered_by, columns], self.bad[answered_by, columns])

    def _parts(self, good: F64, bad: F64) -> Parts:
        for amounts, most in zip((good, bad), self.most, strict=True):
            if not (amounts.min() >= 0 and amounts.max() <= most):
                raise UsageError(
                    f"a sample has {amounts.max():g} of what {self.trace.metric.says} counts, and its metric says that "
                    f"it lies between 0 and {most:g}: no guarantee holds then; correct the bounds of Metric.parts"
                )
        cap = self.groups.cap
        return Parts(self.groups.sums(good), self.groups.sums(bad), (cap * self.most[0], cap * self.most[1]))

    @cached_property
    def within(self) -> tuple[float, float]:
        """The interval of the base's fraction that its share of delta buys."""
        half = BASE_SHARE * self.promise.delta / 2
        return lower_bound(self.base, half), 1 - lower_bound(self.base.other_way, half)

    def evidence(self, own: Parts, target: float, broken: bool = False) -> float:
        """The largest log-wealth of a bettor against "the promise does not hold", or against "it holds" where *broken*
        is asked."""
        if self.promise.kind == "drop":
            return drop_evidence(own, self.base, target, self.within, self.level, broken)
        least = 1 - target if self.promise.kind == "agreement" else target  # the base's answers are the truth: it has 1
        return evidence(own.other_way, 1 - least, self.level) if broken else evidence(own, least, self.level)

    def rejects(self, own: Parts, target: float) -> bool:
        """Whether "the promise does not hold" is rejected."""
        return self.evidence(own, target) >= -math.log(self.level)

    def kept(self, i: int) -> bool:
        """Whether policy i passes."""
        return self.rejects(self.answers(i), self.promise.target)

    def bound(self, i: int) -> float:
        """The confidence bound of what is promised at policy i."""
        return self.bound_of(self.answers(i))

    def bound_of(self, own: Parts) -> float:
        """The confidence bound of what is promised of these answers, by bisection."""
        if self.promise.kind != "drop":
            least = lower_bound(own, self.level)
            return 1 - least if self.promise.kind == "agreement" else least
        low, high = self.base.value() - own.value(), 1.0
        for _ in range(DIGITS):
            middle = (low + high) / 2
            low, high = (low, middle) if self.rejects(own, middle) else (middle, high)
        return high

    def p_value(self, i: int) -> float:
        """Of "the promise holds" at policy i: the share of delta that the base's interval costs, and one over the most
        that a bettor against it ever had."""
        found = self.evidence(self.answers(i), self.promise.target, broken=True)
        return min(1.0, self.promise.delta - self.level + math.exp(-max(found, 0.0)))

    def needed(self, i: int) -> float | None:
        """About how many samples would tell whether policy i keeps the promise, were they as these: by what a bettor's
        wealth grows with at the base's fraction."""
        own, target, b = self.answers(i), self.promise.target, self.base.value()
        if self.promise.kind == "drop":
            y = own.good - self.base.good + target * own.all + b * (self.base.all - own.all)
        else:
            y = own.good - (1 - target if self.promise.kind == "agreement" else target) * own.all
        mean = float(y.mean())
        if mean == 0:
            return None
        return 1.1 * len(self.trace) * 2 * math.log(1 / self.level) * float(y.var()) / (len(y) * mean**2)

    def enough(self, count: int) -> bool:
        """Whether *count* samples like these, or groups, are enough where a cascade answers as the base does."""
        more = Parts(np.resize(self.base.good, count), np.resize(self.base.bad, count), self.base.most)
        return drop_evidence(more, more, self.promise.target, self.within, self.level) >= -math.log(self.level)

    def fewest(self) -> int:
        """About how many that takes, to two digits; 2^62 beyond all measure."""
        low, high = 0, len(self.groups)
        while not self.enough(high):
            low, high = high, 2 * high
            if high > MANY:
                return 2**62
        while high - low > high // 50:
            middle = (low + high) // 2
            low, high = (low, middle) if self.enough(middle) else (middle, high)
        digit = int(10 ** max(0, len(str(high)) - 2))
        return -(-high // digit) * digit


def evidence(own: Parts, least: float, delta: float) -> float:
    """The largest log-wealth of a bettor against "the fraction is at most *least*"; bets of a test at level delta."""
    if not 0 < least < 1:
        return np.inf if least <= 0 else -np.inf
    low, high = -least * own.most[1], (1 - least) * own.most[0]
    y = (1 - least) * own.good - least * own.bad
    return float(wsr.log_wealth((high - y) / (high - low), high / (high - low), delta).max(initial=-np.inf))


def lower_bound(own: Parts, delta: float) -> float:
    """The largest fraction that is rejected as too large, by bisection: a lower confidence bound at 1 - delta."""
    low, high = 0.0, own.value()
    for _ in range(DIGITS):
        middle = (low + high) / 2
        enough = evidence(own, middle, delta) >= math.log(1 / delta)
        low, high = (middle, high) if enough else (low, middle)
    return low


def drop_evidence(
    own: Parts, base: Parts, drop: float, within: tuple[float, float], delta: float, broken: bool = False
) -> float:
    """The largest log-wealth that a bettor against "the drop is at least *drop*" has, whatever the base's fraction is
    *within*; where *broken* is asked, against "it is at most *drop*". Bets are those of a test at level delta."""
    if not -1 < drop < 1:
        return np.inf if (drop >= 1) is not broken else -np.inf
    constant, slope = own.good - base.good + drop * own.all, base.all - own.all  # y(b) = constant + b slope
    sign = -1.0 if broken else 1.0
    first, last = math.floor(within[0] / CELL), max(math.floor(within[0] / CELL) + 1, math.ceil(within[1] / CELL))
    least = np.inf
    for cell in range(first, last):
        ends = np.minimum(np.array([cell, cell + 1]) * CELL, 1.0)
        low, high = _range(ends, drop, own.most, base.most)
        if broken:
            low, high = -high, -low
        y = sign * (constant + ends.mean() * slope)
        bets = wsr.bets((high - y) / (high - low), high / (high - low), delta) / (high - low)
        sure = [_log_wealth(sign * (constant + b * slope), bets) for b in np.clip(ends, *within)]
        least = min(least, float(np.minimum(*sure).max(initial=-np.inf)))
    return least


def _log_wealth(y: F64, bets: F64) -> F64:
    return np.asarray(np.cumsum(np.log1p(bets * y)))


def _range(ends: F64, drop: float, own: tuple[float, float], base: tuple[float, float]) -> tuple[float, float]:
    """The least and the most that y(b) can be between these *ends* of b; both are concave or convex in b, so that they
    are reached at an end."""
    f = ends - drop
    low = np.minimum(0, 1 - f) * own[0] - np.maximum(f, 0) * own[1] - (1 - ends) * base[0]
    high = np.maximum(0, 1 - f) * own[0] - np.minimum(f, 0) * own[1] + ends * base[1]
    return float(low.min()), float(high.max())
