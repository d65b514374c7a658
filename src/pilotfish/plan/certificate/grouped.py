"""Promises by betting on what samples lose, which may be independent by group only: frames of one clip, say.

A promise is about samples: of all that come, the share lost is at most eps. Groups are drawn, not samples, so it says
E S_g <= eps E N_g, with S_g the losses of a group and N_g its size. Hence x_g = (S_g - eps N_g) / m, with m a cap on
sizes, is bounded, groups are independent, and a bettor against E x_g >= 0 (see :mod:`.wsr`) is a test of the promise.
The term eps N_g must be there: large groups may lose more than small ones, and the mean of S_g / N_g is another number.

What is fixed before any outcome is seen: the groups, their sizes, the cap (the largest group of the whole table; the
promise covers groups of at most that many samples), and the order of the bets, drawn by a seed of its own: samples are
often stored class by class, and a bettor who is right about the first classes must not win by that.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import UsageError
from pilotfish.plan.certificate import wsr
from pilotfish.plan.evaluate import Counts, outcomes
from pilotfish.plan.path import PolicyPath
from pilotfish.plan.trace import Trace, numbers
from pilotfish.text import quantity

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Mask = NDArray[np.bool_]
ORDER_SEED = 0


@dataclass(frozen=True)
class Groups:
    """member: int64 (N,), the place of each sample's group in the order of betting; sizes: float64 (G,); cap: m."""

    member: I64
    sizes: F64
    cap: int

    def __len__(self) -> int:
        return len(self.sizes)

    def sums(self, losses: NDArray[np.number]) -> F64:
        """float64 (G,): S_g of the losses (N,)."""
        return np.bincount(self.member, weights=losses, minlength=len(self)).astype(np.float64)


def drawn_order(n: int) -> I64:
    """int64 (n,): the order in which so many groups or samples are bet on, whatever order they are stored in."""
    return np.random.default_rng(ORDER_SEED).permutation(n)


def groups_of(trace: Trace) -> Groups:
    """The groups of a trace in the order of betting; independent samples are a group each. UsageError where a group is
    larger than the cap."""
    if trace.groups is None:
        return Groups(np.argsort(drawn_order(len(trace))), np.ones(len(trace)), 1)
    found, member = np.unique(trace.groups, return_inverse=True)
    member = np.argsort(drawn_order(len(found)))[member]
    sizes = np.bincount(member).astype(np.float64)
    if sizes.max() > trace.cap:
        raise UsageError(
            f"a group has {quantity(int(sizes.max()), 'sample')}, more than the {trace.cap:,} "
            "that were fixed beforehand; "
            "a certificate needs a cap on sizes that holds"
        )
    return Groups(member, sizes, trace.cap)


def rejects(sums: F64, sizes: F64, cap: int, limit: float, lowest: float, delta: float) -> bool:
    """Whether "the share lost is at least *limit*" is rejected at level delta.

    sums, sizes  float64 (G,), S_g and N_g, in an order fixed beforehand
    lowest       the least that a sample can lose: -1 where it can be won, else 0; the most is 1
    """
    if limit >= 1:
        return True
    return limit > lowest and wsr.rejects(*_in_unit(sums, sizes, cap, limit, lowest), delta)


def p_value(sums: F64, sizes: F64, cap: int, limit: float, lowest: float, delta: float) -> float:
    """Of "the share lost is at most *limit*": one over the most that a bettor against it ever had. Bets are those of a
    test at level delta; the other arguments are those of :func:`rejects`."""
    if limit >= 1 or limit < lowest:
        return float(limit >= 1)
    x, mean = _in_unit(sums, sizes, cap, limit, lowest)
    return math.exp(-max(0.0, float(wsr.log_wealth(1 - x, 1 - mean, delta).max(initial=0.0))))


def _in_unit(sums: F64, sizes: F64, cap: int, limit: float, lowest: float) -> tuple[F64, float]:
    """(x_g moved into [0, 1], where it is then on average when *limit* is lost)."""
    x, floor, span = (sums - limit * sizes) / cap, lowest - limit, 1 - lowest  # from floor to 1 - limit
    return (x - floor) / span, -floor / span


def upper_bound(sums: F64, sizes: F64, cap: int, lowest: float, delta: float, digits: int = 20) -> float:
    """The smallest share lost that is rejected, by bisection: an upper confidence bound at 1 - delta."""
    low, high = max(float(sums.sum() / sizes.sum()), lowest), 1.0
    for _ in range(digits):
        middle = (low + high) / 2
        low, high = (low, middle) if rejects(sums, sizes, cap, middle, lowest, delta) else (middle, high)
    return high


def fewest_groups(limit: float, lowest: float, evenness: float, delta: float) -> int:
    """About how many groups could certify *limit* with nothing lost; evenness: their mean size over the cap."""
    if limit <= 0:
        return 2**62
    floor, span = lowest - limit, 1 - lowest
    return wsr.fewest((-limit * evenness - floor) / span, -floor / span, delta)


def passes(
    trace: Trace, path: PolicyPath, counts: Counts, kind: str, limit: float, delta: float, certain: Mask
) -> Mask:
    """bool (P,): which policies pass, up to the first that fails; limit: the largest share that may be lost; certain:
    policies that lose nothing whatever the data."""
    groups, lowest = groups_of(trace), lowest_of(kind)
    passed = np.zeros(len(path), bool)
    nested = _are_nested(trace, path)
    lost = _nested_sums(trace, groups, counts, kind) if nested else _sums(trace, groups, path, kind)
    steady = nested and not trace.mixed  # what a mixture wins here it may lose there
    same = _unchanged(counts, kind) if steady else np.zeros(len(path), bool)
    for i, sums in enumerate(lost):
        if certain[i]:
            passed[i] = True
        elif same[i] and not certain[i - 1]:
            passed[i] = passed[i - 1]
        else:
            passed[i] = rejects(sums, groups.sizes, groups.cap, limit, lowest, delta)
        if not passed[i]:
            break
    return passed


def _are_nested(trace: Trace, path: PolicyPath) -> bool:
    """Whether each policy of a pair lets more samples exit than the one before it, or each lets fewer."""
    if trace.stages != 2 or path.exit_sets is not None:
        return False
    before, after = path.thresholds[:-1, 0], path.thresholds[1:, 0]
    return bool((after <= before).all() or (after >= before).all())


def _sums(trace: Trace, groups: Groups, path: PolicyPath, kind: str) -> Iterator[F64]:
    return (groups.sums(losses(trace, path, i, kind)) for i in range(len(path)))


def _nested_sums(trace: Trace, groups: Groups, counts: Counts, kind: str) -> Iterator[F64]:
    """The sums of :func:`_sums`. From one policy to the next only samples that newly exit, or no longer do, matter."""
    ends = PolicyPath(np.array([[np.inf], [-np.inf]]))
    stays, leaves = (np.asarray(losses(trace, ends, i, kind), np.float64) for i in (0, 1))
    order = np.argsort(-trace.values[0], kind="stable")  # as they exit; NaN last, never
    change, member = (leaves - stays)[order], groups.member[order]
    sums, exited = groups.sums(stays), 0
    for now in counts.answered[:, 0].tolist():
        sign, moved = (1, slice(exited, now)) if now >= exited else (-1, slice(now, exited))
        np.add.at(sums, member[moved], sign * change[moved])
        exited = now
        yield sums


def bound(trace: Trace, path: PolicyPath, kind: str, delta: float) -> float:
    """Upper bound of the share lost by the one policy of *path*."""
    groups = groups_of(trace)
    return upper_bound(groups.sums(losses(trace, path, 0, kind)), groups.sizes, groups.cap, lowest_of(kind), delta)


def lowest_of(kind: str) -> float:
    """The least that a sample can lose."""
    return -1.0 if kind == "drop" else 0.0


def losses(trace: Trace, path: PolicyPath, i: int, kind: str) -> NDArray[np.number]:
    """(N,): what policy i loses of each sample, at most 1: its gap, how far its answer differs from the base's, what it
    lacks of a quality of 1, or its cost over the largest cost."""
    answered_by, gap = outcomes(trace, path.policy(i))
    if kind == "drop":
        return gap
    if kind == "agreement":
        return np.asarray(np.abs(gap))
    if kind != "cost":
        return np.asarray(gap - numbers(trace.base_quality) + 1)
    return np.asarray(trace.through[answered_by] / max(float(trace.through[-1]), math.ulp(0.0)))


def _unchanged(counts: Counts, kind: str) -> Mask:
    """Where a nested policy loses the same of every sample as the one before it: the counts are equal."""
    columns = [counts.answered[:, 1]] if kind == "cost" else [counts.lost, counts.won]
    same = np.zeros(counts.answered.shape[0], bool)
    same[1:] = np.all([np.diff(column) == 0 for column in columns], axis=0)
    return same
