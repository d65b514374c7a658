"""Where the limits of single classes stand on new samples."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.cascade import Artefact, ClassDrop
from pilotfish.plan.certificate import LEVEL, Promise
from pilotfish.plan.certificate.hindsight import both_ways
from pilotfish.plan.class_drops import class_names, drops_of, members
from pilotfish.plan.constraints import find_constraints
from pilotfish.plan.evaluate import count
from pilotfish.plan.methods import find_method
from pilotfish.plan.path import PolicyPath
from pilotfish.plan.trace import Trace
from pilotfish.records import Table

SHOWN = 4


@dataclass(frozen=True)
class ClassStanding:
    """One class: what its samples lose, the limit that is held against it, p of "it holds", and whether "it does not"
    is rejected at 5 %."""

    found: ClassDrop
    limit: float
    p: float
    holds: bool


def limits_classes(artefact: Artefact) -> bool:
    """Whether single classes have limits."""
    asked = artefact.limits
    return asked is not None and (bool(asked.class_drop) or asked.worst_class_drop is not None)


def if_lost(limit: float, n: int, unanswered: int, most: float = 1.0) -> float:
    """The limit that *n* samples have to keep to for *limit* to be kept with *unanswered* more, were each of these as
    bad as a sample can be: *most* of what is limited, 0 of what is to be at least so much."""
    return limit - (most - limit) * unanswered / n


def class_standings(
    artefact: Artefact, table: Table, trace: Trace, path: PolicyPath, unanswered: NDArray[Any]
) -> list[ClassStanding]:
    """The classes with limits; *unanswered* as :func:`pilotfish.plan.check_promise.check_promise` takes it.

    The limit is the guarantee's; without one it is what was asked for, or the upper end of the interval that tune
    printed where that is more. Classes of which tune had no samples are left out; those that have none here stay open.
    """
    asked = artefact.limits
    if asked is None or not limits_classes(artefact):
        return []
    how = find_method(artefact.method, len(artefact.stages))
    of_classes, stages = dataclasses.replace(asked, latency_p95=None), [stage.name for stage in artefact.stages]
    limited = find_constraints(table, stages, artefact.method, how, artefact.cost_key or "macs", of_classes)
    promised: Mapping[str, Any] = (artefact.guarantee or {}).get("classes") or {}
    judged = (artefact.evaluation or artefact.calibration).classes
    limits = {one.name: max(one.drop_interval[1], one.limit or 0.0) for one in judged}
    limits |= {str(name): float(one["target"]) for name, one in promised.items()}
    if limited is None:
        return []
    missing = [name for name in limits if name not in limited.names]
    test = "exact" if trace.quality.dtype == np.bool_ else "wsr"
    number = {name: k for k, name in enumerate(class_names(table))}
    drops = {one.name: one for one in drops_of(trace, path.policy(0), limited.place, limited.names, limited.drops)}
    found = []
    for name, rows in zip(limited.names, members(limited.place, len(limited.names)), strict=True):
        if name in limits and name in drops:
            own, promise = trace.take(rows), Promise("drop", limits[name], LEVEL, test)
            p, holds = both_ways(own, path, count(own, path), promise)
            if lost := int(np.count_nonzero(unanswered == number[name])):
                stricter = Promise("drop", if_lost(limits[name], len(own), lost), LEVEL, test)
                holds = both_ways(own, path, count(own, path), stricter)[1]
            found.append(ClassStanding(drops[name], limits[name], p, holds))
        elif name in limits:
            missing.append(name)
    unseen = [ClassDrop(name, 0, 0.0, (-1.0, 1.0), limits[name]) for name in missing]
    return [*found, *(ClassStanding(one, limits[one.name], 1.0, False) for one in unseen)]


def parts(found: Sequence[ClassStanding]) -> int:
    """Promises that can be broken: of all samples, and of each class that has some."""
    return 1 + sum(one.found.n > 0 for one in found)


def notes_on_classes(found: Sequence[ClassStanding]) -> list[str]:
    """A line for each class that loses too much, beyond what chance explains with so many classes, and one for those of
    which there are too few samples to tell."""
    level = LEVEL / parts(found)
    over = [one for one in found if one.p <= level]
    notes = [f"class {_said(one)}" for one in over[:SHOWN]]
    if len(over) > SHOWN:
        notes.append(f"so it is with {len(over) - SHOWN} more classes")
    unclear = [one for one in found if one.p > level and not one.holds]
    if unclear:
        others = f", and {len(unclear) - SHOWN} more" if len(unclear) > SHOWN else ""
        notes.append(
            f"too few samples to tell of {len(unclear)} of {len(found)} limited classes: "
            f"{'; '.join(map(_said, unclear[:SHOWN]))}{others}"
        )
    return notes


def _said(one: ClassStanding) -> str:
    if not one.found.n:
        return f"{one.found.name}: none"
    low, high = (100 * end for end in one.found.drop_interval)
    return (
        f"{one.found.name}: drop {100 * one.found.drop:.2f} points [{low:.2f}, {high:.2f}] against the limit "
        f"{100 * one.limit:.2f} (n = {one.found.n:,})"
    )
