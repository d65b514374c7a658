"""The tests of one promise: which policies of a path pass, the bound at one, and what too few samples can promise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pilotfish.cascade.budget import plain_cost
from pilotfish.errors import BudgetError, UsageError, nearest
from pilotfish.plan.certificate import exact, fraction, grouped, jackknife, wsr
from pilotfish.plan.certificate.bounds import fewest_samples, lower, paired_upper, upper
from pilotfish.plan.certificate.promise import TESTS, Promise
from pilotfish.plan.evaluate import Counts, count, outcomes
from pilotfish.plan.path import PolicyPath
from pilotfish.plan.trace import Trace
from pilotfish.text import quantity

F64 = NDArray[np.float64]
Mask = NDArray[np.bool_]


def passes(trace: Trace, path: PolicyPath, counts: Counts, promise: Promise) -> Mask:
    """bool (P,): the policies of *path* that pass the test, at least up to the first that fails."""
    n, target, delta = counts.n, promise.target, promise.delta
    certain = never_differs(trace, path, counts) if promise.kind == "drop" else np.zeros(len(path), bool)
    if (how := of_sums(trace, promise)) is not None:
        judged, passed = how(trace, path, promise), certain.copy()
        for i in np.flatnonzero(~certain).tolist():
            passed[i] = judged.kept(i)
            if not passed[i]:
                break
        return passed
    if bets(trace, promise):
        return grouped.passes(trace, path, counts, promise.kind, share_limit(trace, promise), delta, certain)
    if promise.kind == "cost":
        return _cost_bound(trace, counts, path, delta) <= target * (1 + 1e-12)
    if promise.kind == "agreement":
        return np.asarray(upper(counts.lost + counts.won, n, delta) <= target)
    if promise.at_least:
        right = int(trace.base_quality.sum()) - counts.lost + counts.won
        return np.asarray(lower(right, n, delta) >= target)
    if promise.test == "paired_cp":
        return np.asarray((paired_upper(counts.lost, counts.won, n, delta) <= target) | certain)
    return exact.rejects(counts.lost, counts.won, n, target, delta) | certain


def of_sums(trace: Trace, promise: Promise) -> type[fraction.Bets | jackknife.Jackknife] | None:
    """What judges a promise of a ratio or a rank; None for means and costs."""
    if trace.metric.kind == "mean" or promise.kind == "cost":
        return None
    return jackknife.Jackknife if promise.test == "jackknife" else fraction.Bets


def bets(trace: Trace, promise: Promise) -> bool:
    """Whether it is judged by betting on what each sample or group of samples loses, and not from counts."""
    if trace.groups is not None or promise.kind == "cost":
        return trace.groups is not None
    return trace.quality.dtype != np.bool_ or (promise.kind == "drop" and promise.test == "wsr")


def never_differs(trace: Trace, path: PolicyPath, counts: Counts) -> Mask:
    """Policies that exit nobody and answer with the base: their drop is 0 whatever the data."""
    if trace.mixed:  # a mixture may differ from the base on other samples
        return np.zeros(len(path), bool)
    nobody = np.isposinf(path.thresholds).all(axis=1)
    if path.exit_sets is not None:
        nobody &= np.array([all(len(b) == 1 for b in sets) for sets in path.exit_sets])
    return np.asarray(nobody & (counts.lost + counts.won == 0))


def share_limit(trace: Trace, promise: Promise) -> float:
    """The target as the largest share that may be lost (see :func:`grouped.losses`)."""
    if promise.at_least:
        return 1 - promise.target
    if promise.kind != "cost":
        return promise.target
    _need_costs(trace)
    return promise.target * (1 + 1e-12) / float(trace.through[-1]) if trace.through[-1] > 0 else 1.0


def _need_costs(trace: Trace) -> None:
    if trace.costs is None:
        raise BudgetError("a cost cannot be promised: the records hold no such cost for every stage")


def _cost_bound(trace: Trace, counts: Counts, path: PolicyPath, delta: float) -> F64:
    _need_costs(trace)
    through = trace.through
    if trace.stages == 2:
        return np.asarray(through[0] + upper(counts.answered[:, 1], counts.n, delta) * (through[1] - through[0]))
    bounds, order = np.zeros(len(path)), grouped.drawn_order(len(trace))
    for i in range(len(path) if through[-1] > 0 else 0):
        answered_by, _ = outcomes(trace, path.policy(i))
        bounds[i] = through[-1] * wsr.upper_bound(through[answered_by[order]] / through[-1], delta)
    return bounds


def bound_of(trace: Trace, path: PolicyPath, promise: Promise) -> float:
    """The confidence bound of the promised quantity at the one policy of *path*."""
    counts = count(trace, path)
    n, delta, kind = counts.n, promise.delta, promise.kind
    if kind == "drop" and never_differs(trace, path, counts)[0]:
        return 0.0
    if (how := of_sums(trace, promise)) is not None:
        return how(trace, path, promise).bound(0)
    if bets(trace, promise):
        share = grouped.bound(trace, path, kind, delta)
        return 1 - share if promise.at_least else share * (float(trace.through[-1]) if kind == "cost" else 1.0)
    if kind == "cost":
        return float(_cost_bound(trace, counts, path, delta)[0])
    lost, won = int(counts.lost[0]), int(counts.won[0])
    if kind == "agreement":
        return float(upper(lost + won, n, delta))
    if promise.at_least:
        return float(lower(int(trace.base_quality.sum()) - lost + won, n, delta))
    if promise.test == "paired_cp":
        return float(paired_upper(lost, won, n, delta))
    return exact.upper_bound(lost, won, n, delta)


def check_promise(promise: Promise, n: int, trace: Trace | None = None) -> None:
    """UsageError for an unknown test; BudgetError, with the smallest n that could do, for too few samples, or too few
    groups where *trace* has some."""
    if promise.test not in TESTS:
        raise UsageError(f"unknown test {promise.test!r}; {nearest(promise.test, TESTS)}")
    if trace is not None and (how := of_sums(trace, promise)) is not None:
        if how is jackknife.Jackknife:
            jackknife.check_many(trace)
        return  # what a fraction's samples resolve depends on the path: see unresolved
    if promise.at_least or promise.kind == "cost":
        return
    if trace is not None and bets(trace, promise):
        _check_bets(promise, trace)
        return
    test = promise.test if promise.kind == "drop" else "exact"
    needed = fewest_samples(promise.target, promise.delta, test)
    if n < needed:
        could = 1 - (promise.delta / (2 if test == "paired_cp" else 1)) ** (1 / max(n, 1))
        raise BudgetError(_too_few(promise, quantity(n, "sample"), needed, f"at least {needed:,}", n, could))


def _check_bets(promise: Promise, trace: Trace) -> None:
    """BudgetError, with about how many groups could do, where even nothing lost would not certify the target."""
    groups, lowest, delta = grouped.groups_of(trace), grouped.lowest_of(promise.kind), promise.delta
    nothing = np.zeros(len(groups))
    if grouped.rejects(nothing, groups.sizes, groups.cap, promise.target, lowest, delta):
        return
    needed = grouped.fewest_groups(promise.target, lowest, float(groups.sizes.mean()) / groups.cap, delta)
    could = grouped.upper_bound(nothing, groups.sizes, groups.cap, lowest, delta)
    enough = f"at least {needed:,}" if trace.groups is None else f"about {max(needed, len(groups) + 1):,} such groups"
    raise BudgetError(_too_few(promise, _found(trace), needed, enough, len(groups), could))


def unresolved(promise: Promise, trace: Trace, path: PolicyPath) -> str | None:
    """Where nobody may exit since so few samples cannot tell a drop of a fraction from none: that, with about how many
    could; else None."""
    if promise.kind != "drop" or of_sums(trace, promise) is not fraction.Bets:
        return None
    judged = fraction.Bets(trace, path, promise)
    if judged.rejects(judged.base, promise.target):  # where a cascade that answers as the base does would pass
        return None
    needed, could = judged.fewest(), judged.bound_of(judged.base)
    found, enough = _found(trace), f"about {needed:,} {'samples' if trace.groups is None else 'such groups'}"
    return (
        _too_few(promise, found, needed, enough, len(judged.groups), could, f" of {trace.metric.says}")
        + ", unless the savers gain; --test jackknife makes do with fewer, and is asymptotic"
    )


def _found(trace: Trace) -> str:
    if trace.groups is None:
        return quantity(len(trace), "sample")
    return (
        f"{quantity(len(np.unique(trace.groups)), 'group')} ({quantity(len(trace), 'sample')}, "
        f"at most {trace.cap:,} in one)"
    )


def _too_few(promise: Promise, found: str, needed: int, enough: str, count: int, could: float, of: str = "") -> str:
    unit = "groups" if "groups" in found else "samples"
    more = f"no number of {unit} can certify a drop of 0" if needed >= 2**62 else f"{enough} are needed"
    return (
        f"{found} cannot certify a drop of {100 * promise.target:g} points{of} at {100 * (1 - promise.delta):g}% "
        f"confidence: {more}; with {count:,} the smallest that could be is {100 * could:.2f} points"
    )


def refusal(promise: Promise, trace: Trace, best: float, confidence: float) -> str:
    """Why nothing can be promised: even the first policy fails, whose bound is *best*."""
    within = "" if trace.groups is None else f" in {quantity(len(np.unique(trace.groups)), 'group')}"
    sure = f"with {100 * confidence:g}% confidence on {quantity(len(trace), 'sample')}{within}"
    if promise.kind == "cost":
        limit, reached = plain_cost(promise.target), plain_cost(best)
        return f"no operating point costs at most {limit} {sure}; the cheapest is bounded by {reached}"
    if promise.at_least:
        return f"not even the base reaches {100 * promise.target:g}% {sure}; its lower bound is {100 * best:.2f}%"
    return (
        f"the first policy already may lose more than {100 * promise.target:g} points {sure}: its bound is "
        f"{100 * best:.2f} points"
    )
