"""The model over the samples, part by part; what fails is found out and fails alone, as it does when a cascade runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pilotfish.data import Dataset
from pilotfish.errors import ModelError
from pilotfish.machine import cpu_count
from pilotfish.models import Model
from pilotfish.models.costs.timing import Timing
from pilotfish.models.model import model_errors
from pilotfish.models.preprocessing import WHOLE
from pilotfish.recording.loader import Batch, batches
from pilotfish.recording.options import RecordOptions
from pilotfish.recording.parts import Parts
from pilotfish.recording.planned import device_kind, task_of, timing_facts
from pilotfish.records import Failure, Records, RecordsMeta
from pilotfish.records.records import string_ids
from pilotfish.scores.outputs import join_outputs
from pilotfish.tasks import Task
from pilotfish.text import quantity

PART_ROWS = 4096
PART_BYTES = 2**26
PART_SECONDS = 10.0
BROKEN = 4  # samples in a row that fail before any was computed: the model is at fault, and not a sample
STUCK = 32  # the same later on: a device that was lost, a service that is down
Rows = NDArray[np.intp]
Computed = list[tuple[Rows, Any]]


def record_parts(
    data: Dataset, model: Model, truth: Any, parts: Parts, plan: dict[str, Any], options: RecordOptions
) -> Iterator[int]:
    """Run the model from the last finished part on; yields the number of samples done after each batch."""
    batch_size, start = int(plan["batch_size"]), parts.done()
    workers = options.workers or cpu_count()
    task = task_of(options)
    pending, judge, told = _Pending(start), Judge(model, plan["store"], data, task), 0
    for batch in batches(data, model.preprocessing, start, batch_size, workers, options.augment):
        judged = judge(batch)
        end = min(pending.end + batch_size, len(data))
        pending.add(end, batch, judged)
        if len(judge.notes) > told:  # set down at once: a later start does not meet what was met here
            plan["notes"] = [*plan["notes"], *judge.notes[told:]]
            parts.write_plan(plan)
            told = len(judge.notes)
        if pending.full:
            pending = pending.flush(parts, data, truth, task)
        yield end
    if pending.end > pending.start:
        pending.flush(parts, data, truth, task)
    if options.timing and judge.calls and model.preprocessing.kind in WHOLE:
        _note_times(plan, model, judge.calls, options)


def _note_times(plan: dict[str, Any], model: Model, calls: list[tuple[int, float]], options: RecordOptions) -> None:
    """Time per sample of a callable of whole samples: of the calls that the recording made, as no numbers stand for
    such samples. The first call is left out where there are more: it loads what it needs."""
    counted = calls[1:] or calls
    ms = 1000 * sum(seconds for _, seconds in counted) / sum(n for n, _ in counted)
    times = Timing({int(plan["batch_size"]): ms}, ms)
    plan["costs"] = {**times.costs(device_kind(options.device)), **plan["costs"]}
    plan["timing"] = timing_facts(model, options, times)


class _Pending:
    """Samples from *start* to *end* - 1 that were judged and not yet written."""

    def __init__(self, start: int) -> None:
        self.start = self.end = start
        self.since = time.perf_counter()
        self.outputs: list[Any] = []
        self.kept: list[Any] = []
        self.content: list[str] = []
        self.failures: list[Failure] = []
        self.rows = self.bytes = 0

    def add(self, end: int, batch: Batch, judged: Judged) -> None:
        self.end = end
        self.failures += judged.failures
        if judged.outputs is not None:
            self.outputs.append(judged.outputs)
            self.kept.append(batch.rows[judged.kept])
            self.content += [batch.content[i] for i in judged.kept.tolist()]
            self.rows += len(judged.kept)
            self.bytes += sum(a.nbytes for a in vars(judged.outputs).values() if a is not None)

    @property
    def full(self) -> bool:
        """Whether it is time to write: enough rows, enough bytes, or long enough ago that a crash would hurt."""
        return self.rows >= PART_ROWS or self.bytes >= PART_BYTES or time.perf_counter() - self.since > PART_SECONDS

    def flush(self, parts: Parts, data: Dataset, truth: Any, task: Task) -> _Pending:
        """Write what there is as one part, and begin the next."""
        records = None
        if self.outputs:
            rows = np.concatenate(self.kept)
            ids = string_ids([data.ids[row] for row in rows.tolist()])
            content = pa.array(self.content, pa.string())
            meta = RecordsMeta("part", "part", task=task.name)
            outputs, known = join_outputs(self.outputs), truth[rows]
            if task.recorded is not None:
                outputs, known = task.recorded(outputs, known)
            records = Records(ids, known, outputs, meta, content)
        parts.write(self.start, self.end, records, self.failures)
        return _Pending(self.end)


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
    calls  (samples, seconds) of each call that succeeded
    """

    model: Model
    store: str
    data: Dataset
    task: Task
    limit: int | None = None
    computed: bool = False
    failed_in_a_row: int = 0
    notes: list[str] = field(default_factory=list)
    calls: list[tuple[int, float]] = field(default_factory=list)

    def __call__(self, batch: Batch) -> Judged:
        """The outputs of a batch. ModelError where so many samples fail in a row that none of them is at fault."""
        failures = list(batch.failures)
        parts: Computed = []
        for same in batch.alike():
            size = self.limit or len(same)
            for start in range(0, len(same), size):
                self._run(batch, same[start : start + size], parts, failures)
        if not parts:
            return Judged(None, np.empty(0, np.intp), failures)
        kept, outputs = np.concatenate([rows for rows, _ in parts]), join_outputs([found for _, found in parts])
        if (np.diff(kept) < 0).any():  # inputs of several shapes
            order = np.argsort(kept)
            kept, outputs = kept[order], outputs.take(order)
        fine = self.task.usable(outputs)
        failures += [Failure(self._id(batch, at), "the model's outputs are not finite") for at in kept[~fine]]
        if not fine.all():
            kept, outputs = kept[fine], outputs.take(fine)
        return Judged(outputs if len(kept) else None, kept, failures)

    def _run(self, batch: Batch, places: Rows, parts: Computed, failures: list[Failure]) -> None:
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
            self.notes.append(
                f"calls with {quantity(len(places), 'sample')} fail ({first}); recorded {self.limit} at a time"
            )

    def _try(self, batch: Batch, places: Rows, parts: Computed) -> ModelError | None:
        """Add the outputs of some samples to *parts*; the error of a call that failed. Outputs of a wrong shape are no
        sample's fault, and are raised."""
        inputs = batch.stacked(places)
        try:
            begun = time.perf_counter()
            with model_errors(self.model.spec, inputs):
                found: Any = self.model.run(inputs)
            self.calls.append((len(places), time.perf_counter() - begun))
        except ModelError as error:
            return error
        parts.append((places, self.task.reduced(found, len(places), self.model.spec, self.store, inputs)))
        self.computed, self.failed_in_a_row = True, 0
        return None

    def _id(self, batch: Batch, place: Any) -> str:
        return self.data.ids[int(batch.rows[int(place)])]
