"""What a policy must keep to beside its budget, on the samples of a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pilotfish.cascade import ExitSets, Limits, Performance
from pilotfish.cascade.budget import SLACK
from pilotfish.errors import BudgetError, UsageError, nearest
from pilotfish.plan.certificate import Clause, Promise
from pilotfish.plan.class_drops import changes, class_names, drops_of, keeps_to, members
from pilotfish.plan.holdout import Rows
from pilotfish.plan.methods import Method
from pilotfish.plan.path import PolicyPath
from pilotfish.plan.trace import Trace
from pilotfish.records import Table

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
MISSED = "BUDGET MISSED"


@dataclass(frozen=True)
class Constraints:
    """Limits, and what of a table they are about.

    asked   as they were given
    names   of the classes that have one
    drops   float64 (C,), the most that each of these may lose
    place   int64 (N,), for each row of the table the place of its class among *names*; -1 for classes without a limit
    named   how many of them were named; they come first, the others are those of ``worst_class_drop``
    """

    asked: Limits
    names: tuple[str, ...]
    drops: F64
    place: I64
    named: int


def find_constraints(
    table: Table, method: str, how: Method, class_max_drop: Mapping[str, float], worst_class_drop: float | None
) -> Constraints | None:
    """What was asked for beside the budget; None where nothing was.

    UsageError for a class that there is not, with the nearest, for records without labels and for tasks and methods
    that know no such limit.
    """
    if not class_max_drop and worst_class_drop is None:
        return None
    if how.takes_last:
        raise UsageError(
            f"method {method} takes the policy where its scan stops, whatever the limits; use method sweep"
        )
    for key, drop in (*class_max_drop.items(), ("worst_class_drop", worst_class_drop)):
        if drop is not None and not 0 <= drop <= 1:
            raise UsageError(f"the drop of a class is a fraction from 0 to 1, found {drop:g} for {key}")
    if not table.task.classes or table.reference.ndim != 1:
        raise UsageError(f"limits per class need one label per sample, and task {table.task.name} has none")
    if table.reference_kind != "label":
        raise UsageError("limits per class are about the samples labelled so, and the records have no labels: add them")
    names = class_names(table)
    number = {name: k for k, name in enumerate(names)}
    for name in class_max_drop:
        if str(name) not in number:
            named = "" if names[:1] != ("0",) else ": the records have no names of classes, write their numbers"
            raise UsageError(f"no class is called {str(name)!r}{named}; {nearest(str(name), names)}")
    limits = {number[str(name)]: float(drop) for name, drop in class_max_drop.items()}
    if worst_class_drop is not None:
        limits |= {int(k): worst_class_drop for k in np.unique(table.reference) if int(k) not in limits}
    place = np.full(len(names), -1, np.int64)
    place[list(limits)] = np.arange(len(limits))
    return Constraints(
        Limits({str(name): float(drop) for name, drop in class_max_drop.items()}, worst_class_drop),
        tuple(names[k] for k in limits),
        np.array(list(limits.values()), np.float64),
        place[table.reference],
        len(class_max_drop),
    )


def check_samples(constraints: Constraints, rows: Rows, promised: bool) -> list[str]:
    """A note on limited classes without samples among *rows*, which choose the policy; BudgetError for one that was
    named, and for any where limits are *promised*."""
    counts = np.bincount(constraints.place[rows] + 1, minlength=len(constraints.names) + 1)[1:]
    lacking = np.flatnonzero(counts == 0).tolist()
    if lacking and (promised or lacking[0] < constraints.named):
        raise BudgetError(
            f"class {constraints.names[lacking[0]]}: none of the {len(rows):,} samples that choose the policy is "
            "labelled so, and its drop is unknown; record more of them, or leave its limit out"
        )
    if not lacking:
        return []
    shown = ", ".join(constraints.names[k] for k in lacking[:3]) + (", …" if len(lacking) > 3 else "")
    one = len(lacking) == 1
    note = (
        f"{'class' if one else 'classes'} {shown} ({len(lacking)} of {len(constraints.names)}) "
        f"{'has' if one else 'have'} no samples among the {len(rows):,} that chose the policy: "
        "--worst-class-drop says nothing of them"
    )
    return [note]


def kept_by(constraints: Constraints | None, trace: Trace, path: PolicyPath, rows: Rows) -> NDArray[np.bool_] | None:
    """bool (P,): the policies that keep to the limits on *trace*, which is of *rows*; None where there are none."""
    if constraints is None:
        return None
    return keeps_to(trace, path, constraints.place[rows], constraints.drops)


def clauses_of(
    constraints: Constraints | None, trace: Trace, path: PolicyPath, rows: Rows, promise: Promise
) -> list[Clause]:
    """What is to be certified beside *promise*, at its level, on *trace*, which is of *rows*."""
    if constraints is None:
        return []
    place = constraints.place[rows]
    everything = zip(
        constraints.names,
        constraints.drops.tolist(),
        members(place, len(constraints.names)),
        changes(trace, path, place, len(constraints.names)),
        strict=True,
    )
    return [
        Clause(f"class {name}", name, trace.take(own), Promise("drop", drop, promise.delta, promise.test), at)
        for name, drop, own, at in everything
    ]


def beside(
    constraints: Constraints | None, judged: Performance, trace: Trace, policy: ExitSets, rows: Rows
) -> Performance:
    """*judged* with what is limited beside the budget: the same policy on *trace*, which is of *rows*."""
    if constraints is None:
        return judged
    return replace(
        judged, classes=drops_of(trace, policy, constraints.place[rows], constraints.names, constraints.drops)
    )


def limits_missed(judged: Performance, where: str) -> str | None:
    """One line when a class loses more than its limit on *judged*, else None. where: such as ``held-out samples``."""
    over = [c for c in judged.classes if c.limit is not None and c.drop > c.limit + SLACK]
    if not over:
        return None
    worst = max(over, key=lambda c: c.drop - (c.limit or 0.0))
    limit, (low, high) = worst.limit or 0.0, worst.drop_interval
    why = "outside" if low > limit else "inside"
    more = f"; {len(over) - 1} more {'class does' if len(over) == 2 else 'classes do'} too" if len(over) > 1 else ""
    return (
        f"{MISSED} on {where}: class {worst.name} loses {100 * worst.drop:.1f} points against {100 * limit:.4g}; the "
        f"limit lies {why} the 95 % interval {100 * low:.1f} to {100 * high:.1f} ({worst.n:,} samples){more}"
    )


def notes_on_limits(chosen: Performance, promised: bool) -> list[str]:
    """What the reader should know of limits: classes of so few samples that they cannot tell their limit from none."""
    if promised:
        return []
    coarse = [c for c in chosen.classes if c.limit is not None and _half(c.drop_interval) > max(c.limit, SLACK)]
    if not coarse:
        return []
    worst = max(coarse, key=lambda c: _half(c.drop_interval) - (c.limit or 0.0))
    which = f"{len(coarse)} of the {len(chosen.classes)} limited classes have" if len(coarse) > 1 else "one class has"
    note = (
        f"{which} too few samples to tell the limit from a drop of 0: the {worst.n:,} of {worst.name} resolve it to "
        f"about ±{100 * _half(worst.drop_interval):.1f} points, against {100 * (worst.limit or 0.0):.4g}; read the "
        "intervals, or use --guarantee"
    )
    return [note]


def _half(interval: tuple[float, float]) -> float:
    return (interval[1] - interval[0]) / 2
