"""What a task can say of answers beside its metric: per class, in further figures, as curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pilotfish.plan.sweep import F64, I64
from pilotfish.records import Table
from pilotfish.scores.outputs import choose_rows


@dataclass(frozen=True)
class Detail:
    """Of one who answers all samples.

    who       ``saver``, ``base`` or ``cascade``
    by_class  float64 (C,), NaN for a class that neither truth nor answers have; None where the task has no such figure
    figures   further ones, in [0, 1], by name
    curves    (x, y) by name
    """

    who: str
    by_class: F64 | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
    curves: Mapping[str, tuple[F64, F64]] = field(default_factory=dict)


def details_of(table: Table, stages: Sequence[str], answered_by: I64 | None) -> tuple[Detail, ...]:
    """The first stage, the base, and all of them together; none where the task says nothing more.

    answered_by  int64 (N,), the stage that answers each sample; None: no policy is in force
    """
    task = table.task
    if not (task.by_class or task.figures or task.curves):
        return ()
    found = [table.outputs[name] for name in stages]
    given = {"saver": found[0], "base": found[-1]} if len(found) > 1 else {"base": found[-1]}
    if answered_by is not None and len(found) > 1:
        given["cascade"] = choose_rows(found, answered_by)
    return tuple(
        Detail(
            who,
            None if task.by_class is None else task.by_class[1](outputs, table.reference),
            {} if task.figures is None else task.figures(outputs, table.reference),
            {} if task.curves is None else task.curves(outputs, table.reference),
        )
        for who, outputs in given.items()
    )
