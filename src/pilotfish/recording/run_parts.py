"""The model over the samples, part by part."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from pilotfish.data import Dataset
from pilotfish.models import Model
from pilotfish.models.machine import cpu_count
from pilotfish.models.model import check_logits
from pilotfish.recording.loader import Batch, batches
from pilotfish.recording.options import RecordOptions
from pilotfish.recording.parts import Parts
from pilotfish.records import Failure, Outputs, Records, RecordsMeta, from_logits
from pilotfish.records.outputs import I64, bad_rows, join_outputs
from pilotfish.records.records import string_ids

PART_ROWS = 4096
PART_BYTES = 2**26
PART_SECONDS = 10.0
FULL_UP_TO = 128
DEFAULT_TOP_K = 10


def record_parts(
    data: Dataset, model: Model, labels: I64, parts: Parts, plan: dict[str, Any], options: RecordOptions
) -> Iterator[int]:
    """Run the model from the last finished part on; yields the number of samples done after each batch."""
    batch_size, start = int(plan["batch_size"]), parts.done()
    workers = options.workers or cpu_count()
    pending = _Pending(start)
    for batch in batches(data, model.preprocessing, start, batch_size, workers, options.augment):
        outputs, kept, failures = _judge(model, batch, plan["store"], data)
        end = min(pending.end + batch_size, len(data))
        pending.add(end, outputs, kept, failures)
        if pending.full:
            pending = pending.flush(parts, data, labels)
        yield end
    if pending.end > pending.start:
        pending.flush(parts, data, labels)


class _Pending:
    """Samples from *start* to *end* - 1 that were judged and not yet written."""

    def __init__(self, start: int) -> None:
        self.start = self.end = start
        self.since = time.perf_counter()
        self.outputs: list[Outputs] = []
        self.kept: list[Any] = []
        self.failures: list[Failure] = []
        self.rows = self.bytes = 0

    def add(self, end: int, outputs: Outputs | None, kept: Any, failures: Sequence[Failure]) -> None:
        self.end = end
        self.failures += failures
        if outputs is not None:
            self.outputs.append(outputs)
            self.kept.append(kept)
            self.rows += len(kept)
            self.bytes += 0 if outputs.logits is None else outputs.logits.nbytes

    @property
    def full(self) -> bool:
        """Whether it is time to write: enough rows, enough bytes, or long enough ago that a crash would hurt."""
        return self.rows >= PART_ROWS or self.bytes >= PART_BYTES or time.perf_counter() - self.since > PART_SECONDS

    def flush(self, parts: Parts, data: Dataset, labels: I64) -> _Pending:
        """Write what there is as one part, and begin the next."""
        records = None
        if self.outputs:
            rows = np.concatenate(self.kept)
            ids = string_ids([data.ids[row] for row in rows.tolist()])
            records = Records(ids, labels[rows], join_outputs(self.outputs), RecordsMeta("part", "part"))
        parts.write(self.start, self.end, records, self.failures)
        return _Pending(self.end)


def _judge(model: Model, batch: Batch, store: str, data: Dataset) -> tuple[Outputs | None, Any, list[Failure]]:
    failures = list(batch.failures)
    if not len(batch.rows):
        return None, batch.rows, failures
    logits = check_logits(model.backend.run(batch.inputs), len(batch.rows), model.spec)
    rows = batch.rows
    if len(bad := bad_rows(logits)):
        failures += [Failure(data.ids[int(rows[i])], "the model's outputs are not finite") for i in bad]
        keep = np.setdiff1d(np.arange(len(rows)), bad)
        logits, rows = logits[keep], rows[keep]
        if not len(rows):
            return None, rows, failures
    keep_all, top_k = _resolve_store(store, logits.shape[1])
    return from_logits(logits, top_k=top_k, keep_all=keep_all), rows, failures


def _resolve_store(store: str, n_classes: int) -> tuple[bool, int]:
    """(keep all logits, how many of the best to keep)."""
    if store == "auto":
        return n_classes <= FULL_UP_TO, min(DEFAULT_TOP_K, n_classes)
    if store == "full":
        return True, min(DEFAULT_TOP_K, n_classes)
    return False, min(int(store.removeprefix("top")), n_classes)
