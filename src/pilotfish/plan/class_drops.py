"""What the samples of each class lose: accuracy lost among the samples labelled so, along a path and at a policy.

A class changes only where one of its own samples newly exits, or no longer does. So each class is measured by the same
counts as all samples are, on its own rows and at those policies alone: a thousand classes cost about as much as ten.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pilotfish.cascade import ClassDrop, ExitSets, decide_at, grouped_interval, paired_interval
from pilotfish.cascade.budget import SLACK
from pilotfish.plan.evaluate import count, outcomes
from pilotfish.plan.path import PolicyPath, route
from pilotfish.plan.trace import Trace
from pilotfish.records import Table

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Mask = NDArray[np.bool_]


def class_names(table: Table) -> tuple[str, ...]:
    """A name for each class of the table, by number, no two alike: their numbers where the records have no names, and
    "crane (134)" where two classes have one."""
    metas = [table.meta[name] for name in reversed(table.models)]
    named = next((meta.class_names for meta in metas if meta.class_names is not None), None)
    if named is None:
        known = max((meta.n_classes or 0 for meta in metas), default=0)
        return tuple(map(str, range(max(known, int(table.reference.max()) + 1))))
    twice = {name for name, times in zip(*np.unique(named, return_counts=True), strict=True) if times > 1}
    return tuple(f"{name} ({k})" if name in twice else name for k, name in enumerate(named))


def members(place: I64, classes: int) -> list[NDArray[np.intp]]:
    """The rows of each of so many classes. place: int64 (N,), the class of each sample, -1 for none of them."""
    order = np.argsort(place, kind="stable")
    return np.split(order, np.searchsorted(place[order], np.arange(classes + 1)))[1:-1]


def changes(trace: Trace, path: PolicyPath, place: I64, classes: int) -> list[I64]:
    """For each class the policies at which a sample of it is answered by another stage than at the policy before; the
    first two policies in any case. place: as in :func:`members`."""
    if not classes:
        return []
    always = np.arange(min(2, len(path)))
    thresholds = path.thresholds[:, 0]
    if trace.stages == 2 and path.exit_sets is None and (thresholds[1:] <= thresholds[:-1]).all():
        first = np.searchsorted(-decide_at(thresholds), -trace.values[0], side="left")  # where each exits; NaN never
        moved = (first < len(path)) & (place >= 0)
        keys = [place[moved] * len(path) + first[moved]]
    else:
        keys, before = [], route(trace, path.policy(0))
        for i in range(1, len(path)):
            here = route(trace, path.policy(i))
            keys.append(np.unique(place[(here != before) & (place >= 0)]) * len(path) + i)
            before = here
    keys.append((np.arange(classes)[:, None] * len(path) + always).ravel())
    found = np.unique(np.concatenate(keys))
    return [part % len(path) for part in np.split(found, np.searchsorted(found, np.arange(1, classes) * len(path)))]


def keeps_to(trace: Trace, path: PolicyPath, place: I64, limits: F64) -> Mask:
    """bool (P,): the policies at which no class loses more than its limit. place: as in :func:`members`; limits
    float64 (C,). A class without samples loses nothing."""
    over = np.zeros(len(path) + 1, np.int64)
    rows, at = members(place, len(limits)), changes(trace, path, place, len(limits))
    for own, policies, limit in zip(rows, at, limits.tolist(), strict=True):
        if not len(own):
            continue
        counts = count(trace.take(own), path.take(policies))
        broken = counts.lost - counts.won > (limit + SLACK) * len(own)
        over[policies[broken]] += 1
        over[np.append(policies[1:], len(path))[broken]] -= 1
    return np.asarray(np.cumsum(over[:-1]) == 0)


def drops_of(
    trace: Trace, policy: ExitSets, place: I64, names: Sequence[str], limits: F64 | None = None
) -> tuple[ClassDrop, ...]:
    """What each class that has samples loses by a policy, with 95 % intervals, which go by groups where there are some.
    place: as in :func:`members`."""
    _, gap = outcomes(trace, policy)
    found = []
    for k, own in enumerate(members(place, len(names))):
        if not len(own):
            continue
        here = gap[own]
        lost, won = here.clip(0).sum().item(), (-here).clip(0).sum().item()
        if trace.groups is None and gap.dtype.kind != "f":
            interval = paired_interval(lost, won, len(own))
        else:
            interval = grouped_interval(here, np.arange(len(own)) if trace.groups is None else trace.groups[own])
        limit = None if limits is None else float(limits[k])
        found.append(ClassDrop(names[k], len(own), (lost - won) / len(own), interval, limit))
    return tuple(found)
