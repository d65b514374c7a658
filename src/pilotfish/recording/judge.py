"""One batch through the model: what fails is found out and fails alone, as it does when a cascade runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.data import Dataset
from pilotfish.errors import ModelError
from pilotfish.models import Model
from pilotfish.models.model import model_errors
from pilotfish.recording.loader import Batch
from pilotfish.records import Failure
from pilotfish.scores.outputs import join_outputs
from pilotfish.tasks import Task

BROKEN = 4  # samples in a row that fail before any was computed: the model is at fault, and not a sample
STUCK = 32  # the same later on: a device that was lost, a service that is down
Rows = NDArray[np.intp]
Parts = list[tuple[Rows, Any]]


@dataclass(frozen=True)
class Judged:
    """Of one batch: the outputs of the samples *kept* (places in the batch, rising), and the samples without any."""

    outputs: Any | None
    kept: Rows
    failures: list[Failure]


@dataclass
class Judge:
    """A model over batches.

    store  as in the plan of a recording: ``auto``, ``full`` or ``topK``
    limit  most samples in one call: smaller than a batch once one was too large for the device or the model
    notes  what the reader of the records should know of that
    """

    model: Model
    store: str
    data: Dataset
    task: Task
    limit: int | None = None
    computed: bool = False
    failed_in_a_row: int = 0
    notes: list[str] = field(default_factory=list)

    def __call__(self, batch: Batch) -> Judged:
        """The outputs of a batch. ModelError where so many samples fail in a row that none of them is at fault."""
        failures = list(batch.failures)
        parts: Parts = []
        size = len(batch.rows)
        for start in range(0, size, self.limit or max(size, 1)):
            places = np.arange(start, min(start + (self.limit or size), size))
            self._run(batch, places, parts, failures)
        if not parts:
            return Judged(None, np.empty(0, np.intp), failures)
        kept, outputs = np.concatenate([rows for rows, _ in parts]), join_outputs([found for _, found in parts])
        fine = self.task.usable(outputs)
        failures += [Failure(self._id(batch, at), "the model's outputs are not finite") for at in kept[~fine]]
        if not fine.all():
            kept, outputs = kept[fine], outputs.take(fine)
        return Judged(outputs if len(kept) else None, kept, failures)

    def _run(self, batch: Batch, places: Rows, parts: Parts, failures: list[Failure]) -> None:
        """One call, or halves of it where it fails, down to the sample at fault. A batch that fails as a whole while
        all of its samples can be computed was too large: later ones are cut to the size that could be."""
        begun, before = len(parts), len(failures)
        waiting, first = [places], None
        while waiting:
            some = waiting.pop(0)
            fault = self._try(batch, some, parts)
            if fault is None:
                continue
            first = first or fault
            if len(some) > 1:
                middle = (len(some) + 1) // 2
                waiting = [some[:middle], some[middle:], *waiting]
                continue
            failures.append(Failure(self._id(batch, some[0]), str(fault)))
            self.failed_in_a_row += 1
            if self.failed_in_a_row >= (STUCK if self.computed else BROKEN):
                raise first
        if first is not None and len(failures) == before:
            self.limit = max(len(rows) for rows, _ in parts[begun:])
            self.notes.append(f"calls with {len(places)} samples fail ({first}); recorded {self.limit} at a time")

    def _try(self, batch: Batch, places: Rows, parts: Parts) -> ModelError | None:
        """Add the outputs of some samples to *parts*; the error of a call that failed. Outputs of a wrong shape are no
        sample's fault, and are raised."""
        inputs = batch.inputs if len(places) == len(batch.rows) else batch.inputs[places]
        try:
            with model_errors(self.model.spec, inputs):
                found: Any = self.model.run(inputs)
        except ModelError as error:
            return error
        parts.append((places, self.task.reduce(found, len(places), self.model.spec, self.store)))
        self.computed, self.failed_in_a_row = True, 0
        return None

    def _id(self, batch: Batch, place: Any) -> str:
        return self.data.ids[int(batch.rows[int(place)])]
