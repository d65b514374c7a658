"""What a policy must keep to beside its budget, on the samples of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.cascade import ExitSets, Frontier, Limits, Performance
from pilotfish.errors import BudgetError, UsageError, nearest
from pilotfish.plan.certificate import Certificate, Clause, Promise, bound_of
from pilotfish.plan.class_drops import changes, class_names, drops_of, keeps_to, members
from pilotfish.plan.holdout import Rows
from pilotfish.plan.latency import LATE, RequestTimes, request_times, within
from pilotfish.plan.methods import Method
from pilotfish.plan.path import PolicyPath
from pilotfish.plan.trace import Trace
from pilotfish.records import Table

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Constraints:
    """Limits, and what of a table they are about.

    asked   as they were given
    names   of the classes that have one
    drops   float64 (C,), the most that each of these may lose
    place   int64 (N,), for each row of the table the place of its class among *names*; -1 for classes without a limit
    named   how many of them were named; they come first, the others are those of ``worst_class_drop``
    times   of single requests, where their p95 is limited
    notes   on what was asked for
    """

    asked: Limits
    names: tuple[str, ...]
    drops: F64
    place: I64
    named: int
    times: RequestTimes | None = None
    notes: tuple[str, ...] = ()


def find_constraints(
    table: Table, stages: Sequence[str], method: str, how: Method, cost: str, asked: Limits
) -> Constraints | None:
    """What *asked* comes to on *table*, for a cascade of *stages* tuned by *cost*; None where nothing was asked.

    UsageError for a class that there is not, with the nearest, for records without labels and for tasks and methods
    that know no such limit; RecordsError without times of single samples; BudgetError where no exits at all meet a p95.
    """
    if asked == Limits():
        return None
    limit = asked.latency_p95
    if limit is not None and (isinstance(limit, bool | str) or not (np.isfinite(limit) and limit > 0)):
        raise UsageError(f"max_latency_p95 is a number of milliseconds above 0, such as 20, found {limit!r}")
    if how.takes_last:
        raise UsageError(
            f"method {method} takes the policy where its scan stops, whatever the limits; use method sweep"
        )
    limits = _class_limits(table, asked)
    names = class_names(table) if limits else ()
    place = np.full(len(names), -1, np.int64)
    place[list(limits)] = np.arange(len(limits))
    times: RequestTimes | None = None
    notes: list[str] = []
    if asked.latency_p95 is not None:
        times, notes = request_times(table, stages, cost)
        notes = [*_needs(times, asked.latency_p95, stages), *notes]
    return Constraints(
        asked,
        tuple(names[k] for k in limits),
        np.array(list(limits.values()), np.float64),
        place[table.reference] if limits else np.full(len(table), -1, np.int64),
        len(asked.class_drop),
        times,
        tuple(notes),
    )


def _class_limits(table: Table, asked: Limits) -> dict[int, float]:
    """The limit of each class that has one, by number; those that were named come first."""
    given = [*asked.class_drop.items(), ("worst_class_drop", asked.worst_class_drop)]
    for key, drop in given:
        if drop is not None and not 0 <= drop <= 1:
            raise UsageError(f"the drop of a class is a fraction from 0 to 1, found {drop:g} for {key}")
    if all(drop is None for _, drop in given):
        return {}
    if not table.task.classes or table.reference.ndim != 1:
        raise UsageError(
            f"limits per class need one class per sample, and task {table.task.name} has none; leave them out"
        )
    if table.reference_kind != "label":
        raise UsageError("limits per class are about the samples labelled so, and the records have no labels: add them")
    names = class_names(table)
    number = {name: k for k, name in enumerate(names)}
    for name in asked.class_drop:
        if name not in number:
            named = "" if names[:1] != ("0",) else ": the records have no names of classes, write their numbers"
            raise UsageError(f"no class is called {name!r}{named}; {nearest(name, names)}")
    limits = {number[name]: float(drop) for name, drop in asked.class_drop.items()}
    if asked.worst_class_drop is not None:
        limits |= {int(k): asked.worst_class_drop for k in np.unique(table.reference) if int(k) not in limits}
    return limits


def _needs(times: RequestTimes, limit: float, stages: Sequence[str]) -> list[str]:
    """A note on the exits that a p95 of *limit* ms needs. BudgetError where even a cascade that every sample leaves at
    once is too slow.

    Of a pair the share that may go on is (5 % - P(T_1 > L)) / (P(T_2 > L) - P(T_1 > L)).
    """
    late = times.late(limit)
    if not within(late[0]):
        first = times.p95([1.0, *[0.0] * (len(stages) - 1)])
        raise BudgetError(
            f"no threshold keeps p95 at most {limit:g} ms: even if every sample exits at {stages[0]}, it is "
            f"{first:.4g} ms; allow more, or take a faster first stage"
        )
    if within(late[-1]):
        return [f"p95 at most {limit:g} ms holds whoever exits: through all stages it is {_through(times):.4g} ms"]
    if len(stages) > 2:
        return []
    exits = 1 - (LATE - late[0]) / (late[1] - late[0])
    return [f"p95 at most {limit:g} ms needs {100 * exits:.1f}% of the samples to exit at {stages[0]}"]


def _through(times: RequestTimes) -> float:
    return times.p95([*[0.0] * (len(times.one) - 1), 1.0])


def check_samples(constraints: Constraints, rows: Rows, promised: bool) -> list[str]:
    """Notes on the limits, and on limited classes without samples among *rows*, which choose the policy.

    BudgetError for such a class that was named, and for any where limits are *promised*.
    """
    counts = np.bincount(constraints.place[rows] + 1, minlength=len(constraints.names) + 1)[1:]
    lacking = np.flatnonzero(counts == 0).tolist()
    if lacking and (promised or lacking[0] < constraints.named):
        more = f" (nor with {len(lacking) - 1} more)" if len(lacking) > 1 else ""
        advice = "leave its limit out" if lacking[0] < constraints.named else "limit single classes by --class-max-drop"
        raise BudgetError(
            f"class {constraints.names[lacking[0]]}: none of the {len(rows):,} samples that choose the policy is "
            f"labelled so{more}, and its drop is unknown; record more of them, or {advice}"
        )
    if not lacking:
        return [*constraints.notes]
    shown = ", ".join(constraints.names[k] for k in lacking[:3]) + (", …" if len(lacking) > 3 else "")
    one = len(lacking) == 1
    note = (
        f"{'class' if one else 'classes'} {shown} ({len(lacking)} of {len(constraints.names)}) "
        f"{'has' if one else 'have'} no samples among the {len(rows):,} that chose the policy: "
        "--worst-class-drop says nothing of them"
    )
    return [note, *constraints.notes]


def kept_by(
    constraints: Constraints | None, trace: Trace, path: PolicyPath, frontier: Frontier, rows: Rows
) -> Mask | None:
    """bool (P,): the policies that keep to the limits on *trace*, which is of *rows*; None where there are none.
    BudgetError where none has the p95."""
    if constraints is None:
        return None
    kept = keeps_to(trace, path, constraints.place[rows], constraints.drops)
    if constraints.times is None:
        return kept
    limit = constraints.asked.latency_p95 or 0.0
    shares = frontier.exit_ratio @ constraints.times.late(limit)
    if not (quick := within(shares)).any():
        least = constraints.times.p95(frontier.exit_ratio[int(shares.argmin())])
        raise BudgetError(
            f"no operating point has p95 at most {limit:g} ms; the least that can be reached is {least:.4g} ms"
        )
    return np.asarray(kept & quick)


def clauses_of(
    constraints: Constraints | None, trace: Trace, path: PolicyPath, rows: Rows, promise: Promise
) -> list[Clause]:
    """What is to be certified beside *promise*, at its level, on *trace*, which is of *rows*."""
    if constraints is None:
        return []
    place, count = constraints.place[rows], len(constraints.names)
    parts = zip(members(place, count), changes(trace, path, place, count), strict=True)
    clauses = [
        Clause(f"class {name}", name, trace.take(own), Promise("drop", drop, promise.delta, promise.test), at)
        for name, drop, (own, at) in zip(constraints.names, constraints.drops.tolist(), parts, strict=True)
    ]
    if constraints.times is None:
        return clauses
    limit = constraints.asked.latency_p95 or 0.0
    late = Promise("cost", LATE, promise.delta, promise.test)
    return [*clauses, Clause(f"p95 at most {limit:g} ms", None, _lateness(trace, constraints.times, limit), late)]


def _lateness(trace: Trace, times: RequestTimes, limit: float) -> Trace:
    """*trace* where a stage costs what share of the samples it answers are late: the mean cost is the share of all."""
    late = times.late(limit)
    return replace(trace, costs=tuple(np.diff(late, prepend=0.0).tolist()), base_cost=float(late[-1]))


def latency_bound(
    constraints: Constraints | None, trace: Trace, path: PolicyPath, certificate: Certificate | None
) -> dict[str, Any]:
    """The ``latency`` of a guarantee: the least limit in ms that would be certified of the policy alone, at the level
    that bounds which are read together have; nothing where none was asked for. *trace* certified it."""
    if constraints is None or constraints.times is None or certificate is None:
        return {}
    high = limit = constraints.asked.latency_p95 or 0.0
    late = Promise("cost", LATE, certificate.promise.delta / (1 + len(certificate.beside)), certificate.promise.test)
    at, low = path.take(np.array([certificate.index])), 0.0
    for _ in range(24):
        middle = (low + high) / 2
        kept = within(bound_of(_lateness(trace, constraints.times, middle), at, late))
        low, high = (low, middle) if kept else (middle, high)
    return {"latency": {"target": limit, "bound": high, "n": certificate.n}}


def beside(
    constraints: Constraints | None, judged: Performance, trace: Trace, policy: ExitSets, rows: Rows
) -> Performance:
    """*judged* with what is limited beside the budget: the same policy on *trace*, which is of *rows*."""
    if constraints is None:
        return judged
    drops = drops_of(trace, policy, constraints.place[rows], constraints.names, constraints.drops)
    p95 = None if constraints.times is None else constraints.times.p95(judged.exit_ratio)
    return replace(judged, classes=drops, latency_p95=p95)
