"""One batch through one stage, in a thread: what fails is found out and fails alone."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import ModelError, ModelMemoryError
from pilotfish.models.model import F32, Carry
from pilotfish.runtime.stage import EngineStage, Place, gather, join, run_stage, take
from pilotfish.runtime.supply import Supply, why
from pilotfish.scores.outputs import join_outputs
from pilotfish.tasks import Task

Rows = NDArray[np.intp]
Part = tuple[Rows, Any, Carry | None]


@dataclass
class Item:
    """A sample in a stage's queue.

    ready  what the supply prepared of it, in the future's list at *place*; None where nothing is prepared
    carry  where its features are, for a stage that shares its backbone
    """

    row: int
    ready: Future[list[Any]] | None = None
    place: int = 0
    carry: Place | None = None


@dataclass
class Called:
    """What came of a batch: the outputs of *rows*, their features, and the samples that failed.

    shrink  the batch size that the device had memory for, where it had too little for the whole
    fault   the error of a batch in which no sample could be computed
    """

    rows: Rows
    outputs: Any | None = None
    carry: Carry | None = None
    errors: dict[int, str] = field(default_factory=dict)
    shrink: int | None = None
    fault: ModelError | None = None


def call(stage: EngineStage, index: int, items: Sequence[Item], supply: Supply, top_k: int, task: Task) -> Called:
    """Run *stage* on the samples of its queue."""
    found = Called(np.empty(0, np.intp))
    fit: list[Item] = []
    prepared: list[Any] = []
    for item in items:
        one = None if item.ready is None else item.ready.result()[item.place]
        if isinstance(one, Exception):
            found.errors[item.row] = why(one)
        else:
            fit.append(item)
            prepared.append(one)
    parts: list[Part] = []
    for group in _groups(stage, prepared):
        rows = np.array([fit[i].row for i in group], np.intp)
        inputs = None if stage.shares else supply.batch(index, rows.tolist(), [prepared[i] for i in group])
        found_at = [place for i in group if (place := fit[i].carry) is not None] if stage.shares else []
        carry = gather(found_at) if found_at else None
        _run(stage, rows, inputs, carry, top_k, task, found, parts)
    if parts:
        found.rows = np.concatenate([rows for rows, _, _ in parts])
        found.outputs = join_outputs([outputs for _, outputs, _ in parts])
        kept = [c for _, _, c in parts if c is not None]
        found.carry = join(kept) if kept else None
        found.fault = None
    return found


def _groups(stage: EngineStage, prepared: Sequence[Any]) -> list[list[int]]:
    """Samples that can share a batch: those of one shape."""
    if not prepared:
        return []
    if stage.shares or prepared[0] is None:
        return [list(range(len(prepared)))]
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for i, one in enumerate(prepared):
        by_shape.setdefault(one.shape, []).append(i)
    return list(by_shape.values())


def _run(
    stage: EngineStage,
    rows: Rows,
    inputs: F32 | None,
    carry: Carry | None,
    top_k: int,
    task: Task,
    found: Called,
    parts: list[Part],
    halved: bool = False,
) -> None:
    """One call, or several where it fails: halves, down to the sample at fault. Too little memory halves once."""
    try:
        parts.append((rows, *run_stage(stage, inputs, carry, top_k, task)))
        return
    except ModelMemoryError as error:
        out_of_memory: ModelError | None = error
        fault: ModelError = error
    except ModelError as error:
        out_of_memory, fault = None, error
    found.fault = found.fault or fault
    if len(rows) == 1 or (out_of_memory is not None and halved):
        found.errors.update(dict.fromkeys(rows.tolist(), str(fault)))
        return
    middle = (len(rows) + 1) // 2
    if out_of_memory is not None:
        found.shrink = middle
    for part in (np.arange(middle), np.arange(middle, len(rows))):
        _run(
            stage,
            rows[part],
            None if inputs is None else inputs[part],
            None if carry is None else take(carry, part),
            top_k,
            task,
            found,
            parts,
            out_of_memory is not None,
        )
