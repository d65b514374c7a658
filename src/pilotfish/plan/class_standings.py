"""Where the limits of single classes stand on new samples."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pilotfish.cascade import Artefact, ClassDrop
from pilotfish.plan.certificate import LEVEL, Promise
from pilotfish.plan.certificate.hindsight import both_ways
from pilotfish.plan.class_drops import drops_of, members
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


def class_standings(artefact: Artefact, table: Table, trace: Trace, path: PolicyPath) -> list[ClassStanding]:
    """The classes with limits that have samples here. The limit is the guarantee's, else the upper end of the interval
    that tune printed; classes of which it had no samples are left out."""
    asked = artefact.limits
    if asked is None or (not asked.class_drop and asked.worst_class_drop is None):
        return []
    how = find_method(artefact.method, len(artefact.stages))
    of_classes, stages = dataclasses.replace(asked, latency_p95=None), [stage.name for stage in artefact.stages]
    limited = find_constraints(table, stages, artefact.method, how, artefact.cost_key or "macs", of_classes)
    promised: Mapping[str, Any] = (artefact.guarantee or {}).get("classes") or {}
    limits = {one.name: one.drop_interval[1] for one in (artefact.evaluation or artefact.calibration).classes}
    limits |= {str(name): float(one["target"]) for name, one in promised.items()}
    if limited is None:
        return []
    test = "exact" if trace.quality.dtype == np.bool_ else "wsr"
    drops = {one.name: one for one in drops_of(trace, path.policy(0), limited.place, limited.names, limited.drops)}
    found = []
    for name, rows in zip(limited.names, members(limited.place, len(limited.names)), strict=True):
        if name in limits and name in drops:
            own, promise = trace.take(rows), Promise("drop", limits[name], LEVEL, test)
            p, holds = both_ways(own, path, count(own, path), promise)
            found.append(ClassStanding(drops[name], limits[name], p, holds))
    return found


def notes_on_classes(found: Sequence[ClassStanding]) -> list[str]:
    """A line for each class that loses too much, beyond what chance explains with so many classes, and one for those of
    which there are too few samples to tell."""
    level = LEVEL / max(len(found) + 1, 1)
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
    low, high = (100 * end for end in one.found.drop_interval)
    return (
        f"{one.found.name}: drop {100 * one.found.drop:.2f} points [{low:.2f}, {high:.2f}] against the limit "
        f"{100 * one.limit:.2f} (n = {one.found.n:,})"
    )
