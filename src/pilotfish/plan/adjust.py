"""What is fitted to the answers of models before anything else looks at them, now or when a cascade was tuned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pilotfish.cascade import Artefact
from pilotfish.plan.holdout import Rows
from pilotfish.records import Table


def adjusted(table: Table, models: Sequence[str], rows: Rows) -> Table:
    """*table* with the answers of *models* adjusted, as fitted on *rows*; as it is, where the task fits nothing.

    Where the base's answers are what is right, they stay as they are.
    """
    adjustment = table.task.adjustment
    if adjustment is None or not len(rows):
        return table
    outputs, fitted = dict(table.outputs), dict(table.adjustments)
    for name in models:
        if name in fitted or (name == table.base and table.reference_kind == "base"):
            continue
        found = adjustment.fit(outputs[name].take(rows), table.reference[rows])
        outputs[name] = adjustment.apply(outputs[name], parameters=found)
        fitted[name] = {key: tuple(map(float, values)) for key, values in found.items()}
    return replace(table, outputs=outputs, adjustments=fitted)


def adjusted_as(table: Table, artefact: Artefact) -> Table:
    """*table* measured and adjusted as *artefact* has it."""
    outputs = dict(table.outputs)
    for stage, adjust in zip(artefact.stages, artefact.adjusters(), strict=True):
        if adjust is not None and stage.name in outputs:
            outputs[stage.name] = adjust(outputs[stage.name])
    return replace(table, outputs=outputs, task=artefact.task)
