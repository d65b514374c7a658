"""Certificates: how far along a policy path a promise can be given.

Fixed-sequence testing (Learn then Test, Angelopoulos et al. 2021): policies are tested in the path's order at the full
level and the last one before the first failure is used; the promise then fails with chance delta at most. The path must
have been fixed without these samples, but for the thresholds of one score: there the policy is constant between scores,
and every score of the certified samples may be a threshold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import BudgetError
from pilotfish.plan.certificate import fraction
from pilotfish.plan.certificate.promise import Promise
from pilotfish.plan.certificate.promise_tests import (
    bets,
    bound_of,
    check_promise,
    never_differs,
    of_sums,
    passes,
    refusal,
    unresolved,
)
from pilotfish.plan.evaluate import count, measure
from pilotfish.plan.path import PolicyPath
from pilotfish.plan.trace import Trace
from pilotfish.text import quantity

I64 = NDArray[np.int64]
FINEST = 0.002  # below it the exact test, whose level is searched in steps, gives way to Clopper-Pearson in bounds


@dataclass(frozen=True)
class Clause:
    """One more promise beside the first: of a class, say.

    name     begins a refusal: ``class fire``; empty for the first promise
    key      under which the guarantee has it: the name of the class; None: it is the latency
    trace    the samples that it is about
    changes  int64, the policies of the path from the first on at which something changes for these samples; None: all
    """

    name: str
    key: str | None
    trace: Trace
    promise: Promise
    changes: I64 | None = None


@dataclass(frozen=True)
class Kept:
    """A clause that was kept: as :class:`Certificate` has them."""

    clause: Clause
    bound: float


@dataclass(frozen=True)
class Certificate:
    """A promise that was kept by the tests.

    index  the policy of the path that it holds for
    bound  confidence bound of the promised quantity at that policy: at or within the target
    n      samples it was certified on
    groups, largest  the groups they are in, and the most samples that a group may have; None where all are independent
    beside  what is promised beside it, all at once
    """

    promise: Promise
    index: int
    bound: float
    n: int
    confidence: float
    groups: int | None = None
    largest: int | None = None
    beside: tuple[Kept, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The ``guarantee`` of ``pilotfish tune --json``."""
        grouped = {} if self.groups is None else {"groups": self.groups, "largest_group": self.largest}
        classes = {
            kept.clause.key: {"target": kept.clause.promise.target, "bound": kept.bound, "n": len(kept.clause.trace)}
            for kept in self.beside
            if kept.clause.key is not None
        }
        return {
            "kind": self.promise.kind,
            "target": self.promise.target,
            "confidence": self.confidence,
            "bound": self.bound,
            "n": self.n,
            "test": self.promise.test if self.groups is None or self.promise.asymptotic else "wsr",
            "asymptotic": self.promise.asymptotic,
            **grouped,
            **({"classes": classes} if classes else {}),
        }


def certify(
    trace: Trace, path: PolicyPath, promise: Promise, confidence: float, beside: Sequence[Clause] = ()
) -> Certificate:
    """The last policy of *path* before the first that fails its test on *trace*, or a test of a clause *beside* it.

    For ``cost`` the path is tested from its cheapest end. BudgetError, with what could be promised, when the first
    policy fails; for a drop with too few samples it names the smallest n that could do.

    Several promises need no division of delta: that one of them is broken at a policy is rejected where each test
    rejects at delta, for the one that is broken does so with chance delta at most (an intersection-union test), and
    the sequence ends at the first policy that fails any. Numbers of samples per class are taken as given. Promises that
    are tested from the cheapest end (cost, latency) and from the other make two sequences, of delta / 2 each, and what
    both have kept holds. Bounds are read together, so each of m is made at delta / m.
    """
    index = certified(trace, path, promise, confidence, beside)
    clauses = [Clause("", None, trace, promise), *beside]
    delta = promise.delta / len(clauses)
    bounds: dict[Any, float] = {}
    found = [Kept(each, _bound_at(each, path, index, delta, bounds)) for each in clauses]
    own = Certificate(promise, index, found[0].bound, len(trace), confidence, beside=tuple(found[1:]))
    if trace.groups is None:
        return own
    return replace(own, groups=len(np.unique(trace.groups)), largest=trace.cap)


def certified(
    trace: Trace, path: PolicyPath, promise: Promise, confidence: float, beside: Sequence[Clause] = ()
) -> int:
    """The index of the policy that :func:`certify` finds; no bounds are searched."""
    clauses = [Clause("", None, trace, promise), *beside]
    if len({clause.promise.kind == "cost" for clause in clauses}) == 2:
        clauses = [replace(each, promise=replace(each.promise, delta=promise.delta / 2)) for each in clauses]
    _check_clauses(clauses)
    low, high = 0, len(path) - 1  # the policies that keep all
    for clause in clauses:
        start, end = _kept_from_to(clause, path, confidence)
        low, high = max(low, start), min(high, end)
    if low > high:
        raise BudgetError(_apart(clauses, confidence))
    return low if promise.kind == "cost" else high


def _check_clauses(clauses: Sequence[Clause]) -> None:
    """:func:`check_promise` of all; BudgetError names the one with the fewest samples, and counts the others."""
    refused: list[tuple[int, str]] = []
    for clause in clauses:
        try:
            check_promise(clause.promise, len(clause.trace), clause.trace)
        except BudgetError as error:
            start = f"{clause.name}: " if clause.name else ""
            refused.append((len(clause.trace) if clause.name else -1, f"{start}{error}"))
    if not refused:
        return
    others = len(refused) - 1
    more = f"; so it is with {others} more {'class' if others == 1 else 'classes'}" if others else ""
    raise BudgetError(min(refused)[1] + more)


def _kept_from_to(clause: Clause, path: PolicyPath, confidence: float) -> tuple[int, int]:
    """First and last of the policies before the first that fails the clause; BudgetError where none is."""
    trace, promise = clause.trace, clause.promise
    changes = np.arange(len(path)) if clause.changes is None else clause.changes
    tried = path if clause.changes is None else path.take(changes)
    last = last_kept(trace, tried, promise)
    if last is None:
        at = tried.take(np.array([len(tried) - 1 if promise.kind == "cost" else 0]))
        bound = bound_of(trace, at, promise)
        if clause.name and clause.key is None:
            raise BudgetError(
                f"no operating point has {clause.name} with {100 * confidence:g}% confidence "
                f"({quantity(len(trace), 'sample')}): "
                f"{100 * bound:.1f}% may take longer at the cheapest, and {100 * promise.target:g}% are allowed"
            )
        start = f"{clause.name}: " if clause.name else ""
        raise BudgetError(start + refusal(promise, trace, bound, confidence))
    if last == 0 and (why := unresolved(promise, trace, path)):
        raise BudgetError(f"{clause.name}: {why}" if clause.name else why)
    if promise.kind == "cost":
        return int(changes[last]), len(path) - 1
    return 0, int(changes[last + 1]) - 1 if last + 1 < len(changes) else len(path) - 1


def _apart(clauses: Sequence[Clause], confidence: float) -> str:
    """Why no policy keeps all, though each clause is kept by some."""
    cheap = [clause.name or "the cost" for clause in clauses if clause.promise.kind == "cost"]
    others = [clause.name or "the budget" for clause in clauses if clause.promise.kind != "cost"]
    shown = ", ".join(others[:4]) + (f" and {len(others) - 4} more" if len(others) > 4 else "")
    return (
        f"no operating point keeps {' and '.join(cheap)} as well as {shown} with {100 * confidence:g}% confidence: "
        "where the one is certain enough the other is not; allow more of either, or record more samples"
    )


def _bound_at(clause: Clause, path: PolicyPath, index: int, delta: float, known: dict[Any, float]) -> float:
    """The bound of a clause at one policy; *known*: those of classes that count alike."""
    trace, promise, at = clause.trace, replace(clause.promise, delta=delta), path.take(np.array([index]))
    if clause.name and promise.test == "exact" and delta < FINEST:
        promise = replace(promise, test="paired_cp")
    key: Any = clause.name
    if clause.key is not None and not bets(trace, promise):
        counts = count(trace, at)
        certain = bool(never_differs(trace, at, counts)[0])
        key = (promise, counts.n, int(counts.lost[0]), int(counts.won[0]), certain)
    if key not in known:
        known[key] = bound_of(trace, at, promise)
    # the test was passed, so the target itself is a bound: searched ones may be larger by their last digit
    return max(known[key], promise.target) if promise.at_least else min(known[key], promise.target)


def begun(path: PolicyPath, fit: Trace, trace: Trace, promise: Promise) -> PolicyPath:
    """*path*, tested on *trace* from the policy on that loses least on *fit*, other samples, where these say that a
    drop so small cannot be told from none by so many samples as *trace* has: gains of the cascade may show what a
    cascade that answers as the base does cannot."""
    if promise.kind != "drop" or of_sums(trace, promise) is not fraction.Bets:
        return path
    n = len(trace) if trace.groups is None else len(np.unique(trace.groups))
    if fraction.Bets(fit, path, promise).enough(n):
        return path
    return replace(path, begin=int(measure(fit, path).drop.argmin()))


def last_kept(trace: Trace, path: PolicyPath, promise: Promise) -> int | None:
    """Index of the last policy before the first that fails its test; None when the first fails.

    Of ratios and ranks some policies alone are tested, evenly along the path: a test costs more there, and betting gets
    over a short stretch that it cannot tell by gains beyond.
    """
    order = np.arange(len(path))[::-1] if promise.kind == "cost" else np.arange(len(path))
    if (how := of_sums(trace, promise)) is not None:
        evenly = np.linspace(path.begin, len(path) - 1, how.tested).astype(np.intp)
        order = np.unique(np.append(evenly, 0))
    tried = path.take(order)
    passed = passes(trace, tried, count(trace, tried), promise)
    run = int(np.argmin(passed)) if not passed.all() else len(passed)
    return int(order[run - 1]) if run else None
