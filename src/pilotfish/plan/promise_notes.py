"""What the reader of a verdict should know: how the samples, and the base on them, differ from those of the tuning."""

from __future__ import annotations

import math

from pilotfish.cascade import Artefact, Performance
from pilotfish.plan.class_standings import limits_classes
from pilotfish.plan.trace import Trace
from pilotfish.records import Table, notes_on_chance
from pilotfish.tasks import says_of
from pilotfish.text import quantity

BASE_MOVED = 0.02  # of the base's metric: beyond it, where chance does not explain it, it is said
SURE = 3.3  # standard errors


def promise_notes(artefact: Artefact, table: Table, trace: Trace, found: Performance) -> list[str]:
    """A line for each, beside the verdict on *artefact* by the samples of *table*, on which it is *found* to do so."""
    promised, origin, metas = artefact.evaluation or artefact.calibration, artefact.origin, table.meta
    budget, says = artefact.operating_point.budget, trace.metric.says
    notes = [*notes_on_chance(table, table.models[::-1]), *table.notes]
    if origin.get("fingerprint") is not None and metas[table.base].fingerprint == origin["fingerprint"]:
        notes.append("these are the data that the cascade was tuned on: give samples that it has not seen")
    if table.reference_kind == "base" and origin.get("reference") != "base":
        notes.append(f"no labels: the base's own answers are the reference, so {says} means agreement with the base")
    if (groups := origin.get("groups")) is not None and table.groups is None:
        notes.append(
            f"the cascade was tuned on samples in {quantity(groups, 'group')}, and these are "
            "taken as independent: give "
            "--group-by if they belong together"
        )
    largest = (artefact.guarantee or {}).get("largest_group")
    if isinstance(largest, int) and table.largest_group > largest:
        notes.append(
            f"a group has {quantity(table.largest_group, 'sample')}, and the guarantee is for "
            f"groups of at most {largest:,}"
        )
    same = origin.get("reference") == "label" == table.reference_kind
    if same and (moved := base_moved(promised, found)) is not None:
        notes.append(moved)
    if budget is not None and budget.kind == "max_drop" and same and found.drop_interval[0] > budget.value:
        notes.append(
            f"the drop is above the {100 * budget.value:g} points that tune was asked for: tune again on samples like "
            "these"
        )
    if limits_classes(artefact) and table.reference_kind == "base":
        notes.append("no labels: the limits of single classes, which are promised too, are not judged")
    if found.asymptotic:
        bets = (artefact.guarantee or {}).get("test") == "wsr"
        what = (
            "the interval is a jackknife's, which holds" if bets else "test and interval are a jackknife's, which hold"
        )
        notes.append(f"{says} is no mean over samples: {what} for many samples (asymptotic)")
    return notes


def base_moved(promised: Performance, found: Performance) -> str | None:
    """A line where the base itself is another model on these samples."""
    counts = [one.groups or one.n for one in (promised, found)]
    share = (promised.base_value * counts[0] + found.base_value * counts[1]) / sum(counts)
    error = math.sqrt(share * (1 - share) * sum(1 / n for n in counts))
    moved = found.base_value - promised.base_value
    if abs(moved) <= max(BASE_MOVED, SURE * error):
        return None
    return (
        f"the base itself has {100 * found.base_value:.1f}% {says_of(found.metric)} here and had "
        f"{100 * promised.base_value:.1f}%: the samples are {'harder' if moved < 0 else 'easier'}, or their labels are "
        "others"
    )
