"""The model over the samples, part by part."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from pilotfish.data import Dataset
from pilotfish.machine import cpu_count
from pilotfish.models import Model
from pilotfish.recording.judge import Judge, Judged
from pilotfish.recording.loader import Batch, batches
from pilotfish.recording.options import RecordOptions
from pilotfish.recording.parts import Parts
from pilotfish.records import Failure, Records, RecordsMeta
from pilotfish.records.records import string_ids
from pilotfish.scores.outputs import join_outputs
from pilotfish.tasks import Task, find_task

PART_ROWS = 4096
PART_BYTES = 2**26
PART_SECONDS = 10.0


def record_parts(
    data: Dataset, model: Model, truth: Any, parts: Parts, plan: dict[str, Any], options: RecordOptions
) -> Iterator[int]:
    """Run the model from the last finished part on; yields the number of samples done after each batch."""
    batch_size, start = int(plan["batch_size"]), parts.done()
    workers = options.workers or cpu_count()
    task = find_task(options.task)
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
            records = Records(ids, truth[rows], join_outputs(self.outputs), meta, content)
        parts.write(self.start, self.end, records, self.failures)
        return _Pending(self.end)
