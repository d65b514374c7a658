"""Certificates: how far along a policy path a promise can be given.

Fixed-sequence testing (Learn then Test, Angelopoulos et al. 2021): policies are tested in the path's order at the full
level and the last one before the first failure is used; the promise then fails with chance delta at most. The path must
have been fixed without these samples, but for the thresholds of one score: there the policy is constant between scores,
and every score of the certified samples may be a threshold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import BudgetError, UsageError, nearest
from pilotfish.plan.certificate import exact, grouped, wsr
from pilotfish.plan.certificate.bounds import fewest_samples, lower, paired_upper, upper
from pilotfish.plan.evaluate import Counts, count, outcomes
from pilotfish.plan.path import PolicyPath
from pilotfish.plan.trace import Trace
from pilotfish.tasks import Metric
from pilotfish.tasks.task import PROMISES

F64 = NDArray[np.float64]
Mask = NDArray[np.bool_]
TESTS = ("exact", "paired_cp", "wsr")


@dataclass(frozen=True)
class Promise:
    """What is to hold on all data, with confidence 1 - delta.

    kind    ``drop``: of the metric below the base's, <= target; ``agreement``: how far answers differ from the base's,
            <= target; ``cost`` <= target; else the metric's name, such as ``accuracy``, >= target
    delta   the chance of being wrong, already divided by the number of savers that compete
    test    of a drop of right and wrong: ``exact`` (default), ``paired_cp`` or ``wsr``; the other kinds use
            Clopper-Pearson, and wsr for the cost of more than two stages. Samples in groups, and quality that is
            neither right nor wrong, are certified by wsr, whatever is promised
    """

    kind: str
    target: float
    delta: float
    test: str = "exact"

    @property
    def at_least(self) -> bool:
        """Whether the target is a least value of the metric."""
        return self.kind not in PROMISES


@dataclass(frozen=True)
class Certificate:
    """A promise that was kept by the tests.

    index  the policy of the path that it holds for
    bound  confidence bound of the promised quantity at that policy: at or within the target
    n      samples it was certified on
    groups, largest  the groups they are in, and the most samples that a group may have; None where all are independent
    """

    promise: Promise
    index: int
    bound: float
    n: int
    confidence: float
    groups: int | None = None
    largest: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The ``guarantee`` of ``pilotfish tune --json``."""
        grouped = {} if self.groups is None else {"groups": self.groups, "largest_group": self.largest}
        return {
            "kind": self.promise.kind,
            "target": self.promise.target,
            "confidence": self.confidence,
            "bound": self.bound,
            "n": self.n,
            "test": self.promise.test if self.groups is None else "wsr",
            "asymptotic": False,
            **grouped,
        }


def check_test(test: str) -> str:
    """*test* itself; UsageError where there is none of that name."""
    if test not in ("auto", *TESTS):
        raise UsageError(f"unknown test {test!r}; {nearest(test, ('auto', *TESTS))}")
    return test


def find_test(test: str, metric: Metric, binary: bool) -> str:
    """The test that ``auto`` stands for, or *test* itself: of a metric whose quality is *binary*, right or wrong, or a
    number. UsageError where it cannot judge that metric; BudgetError where none can."""
    check_test(test)
    if metric.kind != "mean":
        what = "a ratio of sums" if metric.kind == "ratio" else "a rank over all samples"
        raise BudgetError(
            f"{metric.says} is {what}, and guarantees are of means over samples; leave --guarantee out, and read the "
            "interval"
        )
    if binary:
        return "exact" if test == "auto" else test
    if test in ("exact", "paired_cp"):
        raise UsageError(
            f"test {test} counts right and wrong answers, and {metric.says} is a number per sample; use --test auto, "
            "which bets on the numbers (wsr)"
        )
    return "wsr"


def certify(trace: Trace, path: PolicyPath, promise: Promise, confidence: float) -> Certificate:
    """The last policy of *path* before the first that fails its test on *trace*.

    For ``cost`` the path is tested from its cheapest end. BudgetError, with what could be promised, when the first
    policy fails; for a drop with too few samples it names the smallest n that could do.
    """
    n = len(trace)
    check_promise(promise, n, trace)
    index = last_kept(trace, path, promise)
    at = path.take(np.array([index if index is not None else _first(path, promise)]))
    bound = _bound(trace, at, count(trace, at), promise)
    if index is None:
        raise BudgetError(_refusal(promise, trace, bound, confidence))
    # the test was passed, so the target itself is a bound: searched ones may be larger by their last digit
    bound = max(bound, promise.target) if promise.at_least else min(bound, promise.target)
    if trace.groups is None:
        return Certificate(promise, index, bound, n, confidence)
    return Certificate(promise, index, bound, n, confidence, len(np.unique(trace.groups)), trace.cap)


def last_kept(trace: Trace, path: PolicyPath, promise: Promise) -> int | None:
    """Index of the last policy before the first that fails its test; None when the first fails."""
    order = np.arange(len(path))[::-1] if promise.kind == "cost" else np.arange(len(path))
    tried = path.take(order)
    passed = _passes(trace, tried, count(trace, tried), promise)
    run = int(np.argmin(passed)) if not passed.all() else len(passed)
    return int(order[run - 1]) if run else None


def _first(path: PolicyPath, promise: Promise) -> int:
    return len(path) - 1 if promise.kind == "cost" else 0


def _passes(trace: Trace, path: PolicyPath, counts: Counts, promise: Promise) -> Mask:
    n, target, delta = counts.n, promise.target, promise.delta
    certain = _never_differs(trace, path, counts) if promise.kind == "drop" else np.zeros(len(path), bool)
    if _bets(trace, promise):
        return grouped.passes(trace, path, counts, promise.kind, _limit(trace, promise), delta, certain)
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


def _bets(trace: Trace, promise: Promise) -> bool:
    """Whether it is judged by betting on what each sample or group of samples loses, and not from counts."""
    if trace.groups is not None or promise.kind == "cost":
        return trace.groups is not None
    return trace.quality.dtype != np.bool_ or (promise.kind == "drop" and promise.test == "wsr")


def _never_differs(trace: Trace, path: PolicyPath, counts: Counts) -> Mask:
    """Policies that exit nobody and answer with the base: their drop is 0 whatever the data."""
    if trace.mixed:  # a mixture may differ from the base on other samples
        return np.zeros(len(path), bool)
    nobody = np.isposinf(path.thresholds).all(axis=1)
    if path.exit_sets is not None:
        nobody &= np.array([all(len(b) == 1 for b in sets) for sets in path.exit_sets])
    return np.asarray(nobody & (counts.lost + counts.won == 0))


def _limit(trace: Trace, promise: Promise) -> float:
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


def _bound(trace: Trace, path: PolicyPath, counts: Counts, promise: Promise) -> float:
    """The confidence bound of the one policy of *path*."""
    n, delta, kind = counts.n, promise.delta, promise.kind
    if kind == "drop" and _never_differs(trace, path, counts)[0]:
        return 0.0
    if _bets(trace, promise):
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
    if promise.at_least or promise.kind == "cost":
        return
    if trace is not None and _bets(trace, promise):
        _check_bets(promise, trace)
        return
    test = promise.test if promise.kind == "drop" else "exact"
    needed = fewest_samples(promise.target, promise.delta, test)
    if n < needed:
        could = 1 - (promise.delta / (2 if test == "paired_cp" else 1)) ** (1 / max(n, 1))
        raise BudgetError(_too_few(promise, f"{n:,} samples", needed, f"at least {needed:,}", n, could))


def _check_bets(promise: Promise, trace: Trace) -> None:
    """BudgetError, with about how many groups could do, where even nothing lost would not certify the target."""
    groups, lowest, delta = grouped.groups_of(trace), grouped.lowest_of(promise.kind), promise.delta
    nothing = np.zeros(len(groups))
    if grouped.rejects(nothing, groups.sizes, groups.cap, promise.target, lowest, delta):
        return
    needed = grouped.fewest_groups(promise.target, lowest, float(groups.sizes.mean()) / groups.cap, delta)
    could = grouped.upper_bound(nothing, groups.sizes, groups.cap, lowest, delta)
    found, enough = f"{len(trace):,} samples", f"at least {needed:,}"
    if trace.groups is not None:
        found = f"{len(groups):,} groups ({found}, at most {groups.cap:,} in one)"
        enough = f"about {max(needed, len(groups) + 1):,} such groups"
    raise BudgetError(_too_few(promise, found, needed, enough, len(groups), could))


def _too_few(promise: Promise, found: str, needed: int, enough: str, count: int, could: float) -> str:
    unit = "groups" if "groups" in found else "samples"
    more = f"no number of {unit} can certify a drop of 0" if needed >= 2**62 else f"{enough} are needed"
    return (
        f"{found} cannot certify a drop of {100 * promise.target:g} points at {100 * (1 - promise.delta):g}% "
        f"confidence: {more}; with {count:,} the smallest that could be is {100 * could:.2f} points"
    )


def _refusal(promise: Promise, trace: Trace, best: float, confidence: float) -> str:
    within = "" if trace.groups is None else f" in {len(np.unique(trace.groups)):,} groups"
    sure = f"with {100 * confidence:g}% confidence on {len(trace):,} samples{within}"
    if promise.kind == "cost":
        return f"no operating point costs at most {promise.target:,.6g} {sure}; the cheapest is bounded by {best:,.6g}"
    if promise.at_least:
        return f"not even the base reaches {100 * promise.target:g}% {sure}; its lower bound is {100 * best:.2f}%"
    return (
        f"the first policy already may lose more than {100 * promise.target:g} points {sure}: its bound is "
        f"{100 * best:.2f} points"
    )
