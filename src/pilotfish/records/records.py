"""The records of one model on one split: aligned arrays and what is known about them."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pilotfish.documents import OFF_DEFAULT, Count, Within
from pilotfish.errors import RecordsError
from pilotfish.records.parquet_size import check_decoded
from pilotfish.records.sample_times import SampleTimes
from pilotfish.scores.ragged import Ragged
from pilotfish.tasks.classes import CLASSES
from pilotfish.tasks.task import Task, task_in
from pilotfish.text import quantity

SCHEMA_VERSION = 1
MAX_COST = 1e300  # per sample, in any unit: sums over all samples stay numbers
Cost = Annotated[float, Within(0, MAX_COST)]
MOST_TEXT = 2**31 - 1
"""Bytes of all ids: beyond it they are no one array of strings."""


@dataclass(frozen=True)
class Failure:
    """A sample that has no row, and why."""

    id: str
    reason: str


@dataclass(frozen=True)
class RecordsMeta:
    """What is known about one model's records.

    costs          per sample: ``macs``, ``params``, ``ms``, ``ms@cpu-b8``, or any key of the user's
    preprocessing  the whole chain from file to tensor; ``preprocessing_hash`` is its SHA-256
    data           ``spec``, ``fingerprint``, ``n`` samples in the data, ``augment`` (seed or null)
    timing         how the times among the costs were measured
    single_times   what single samples took, an entry per kind of device; none where it was not measured
    backbone       for an exit ``NAME#k`` of a network: ``NAME``. Its ``macs`` count everything up to and with this
                   exit's own head, ``head_macs`` the head alone
    position       k, from 1
    file           where the model's file lay when it was recorded, an absolute path; None for a model without one
    notes          what the reader of these records should know: what was assumed, chosen or found odd, a line each
    task           the name of what an answer is; see :mod:`pilotfish.tasks`
    """

    model: str
    split: str
    spec: str | None = None
    source: str = "recorded"
    n_classes: Count | None = None
    class_names: tuple[str, ...] | None = None
    costs: Mapping[str, Cost] = field(default_factory=dict)
    weights_hash: str | None = None
    preprocessing: Mapping[str, Any] | None = None
    preprocessing_hash: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    timing: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, Any] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()
    store: str | None = None
    created: str | None = None
    backbone: str | None = None
    position: Count | None = None
    file: str | None = None
    notes: tuple[str, ...] = ()
    task: str = field(default=CLASSES.name, metadata=OFF_DEFAULT)
    single_times: tuple[SampleTimes, ...] = field(default=(), metadata=OFF_DEFAULT)

    def validate(self) -> None:
        """ValueError for class names that are not as many as classes, and for a number of samples that is none."""
        if self.class_names is not None and self.n_classes not in (None, len(self.class_names)):
            raise ValueError(f"{len(self.class_names)} class_names for {self.n_classes} classes")
        n = self.data.get("n")
        if n is not None and not (type(n) is int and 0 <= n < 2**53):
            raise ValueError(f"n in data is {str(n)[:60]!r}, expected a number of samples")

    @property
    def created_at(self) -> float | None:
        """When the records were made, in seconds since 1970; None where that is not known."""
        try:
            return None if self.created is None else datetime.datetime.fromisoformat(self.created).timestamp()
        except ValueError:
            return None

    @property
    def fingerprint(self) -> str | None:
        """Identity of the samples that were seen, augmentation included; None when unknown."""
        fingerprint = self.data.get("fingerprint")
        if fingerprint is None:
            return None
        augment = self.data.get("augment")
        return str(fingerprint) if augment is None else f"{fingerprint}+augment:{augment}"


@dataclass(frozen=True)
class Records:
    """One model on one split.

    ids     pyarrow string array (N,), unique
    label   of N samples, the truth as the task has it: for classes int64 (N,), the true class, -1 where it is unknown
    outputs arrays of N samples, as the task has them
    content pyarrow string array (N,), a hash of each sample as it was read (equal for copies of one file); or None
    group   pyarrow string array (N,), what each sample belongs to: a clip, a product, a patient; or None
    """

    ids: pa.Array
    label: Any
    outputs: Any
    meta: RecordsMeta
    content: pa.Array | None = None
    group: pa.Array | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def has_labels(self) -> bool:
        """Whether any sample has a label."""
        return bool(self.task.known(self.label).any())

    @property
    def task(self) -> Task:
        """What an answer is. RecordsError for a task that is not known here."""
        return task_in(self.meta.task, f"the records of {self.meta.model}", RecordsError)

    @property
    def value(self) -> float | None:
        """What the task's metric is on the labelled samples; None where there are none."""
        known = self.task.known(self.label)
        return self.task.value(self.outputs.take(known), self.label[known]) if known.any() else None

    def take(self, rows: np.ndarray[Any, Any]) -> Records:
        """The records of some rows, in the order given."""
        at = pa.array(rows)
        content, group = (None if column is None else column.take(at) for column in (self.content, self.group))
        return Records(self.ids.take(at), self.label[rows], self.outputs.take(rows), self.meta, content, group)


def string_ids(values: Any) -> pa.Array:
    """Sample ids as a pyarrow string array; numbers become their decimal text."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    try:
        if isinstance(values, list | tuple) and all(isinstance(one, str) for one in values):
            array = pa.array(values, pa.string())  # by numpy a text would lose the NULs at its end
        else:
            array = values if isinstance(values, (pa.Array, pa.ChunkedArray)) else _arrow(np.asarray(values))
        if pa.types.is_dictionary(array.type):
            check_decoded("the ids", array, MOST_TEXT, RecordsError)
        text = array if pa.types.is_string(array.type) else array.cast(pa.string())
        text.validate(full=True)
        if pa.types.is_floating(array.type):
            text = pc.if_else(pc.is_nan(array), pa.scalar(None, pa.string()), text)
    except (pa.ArrowException, ValueError, OverflowError) as error:  # lists, bytes that are not UTF-8, lone surrogates
        reason = str(error).splitlines()[0][:200]
        raise RecordsError(f"the ids cannot be read as text ({reason}); expected one text or number per row") from error
    if text.null_count:
        raise RecordsError(f"{text.null_count} of {len(text)} ids are missing; every row needs an id")
    return text


def _arrow(values: np.ndarray[Any, Any]) -> pa.Array:
    if values.dtype.kind in "iu" and values.ndim == 1:  # by type: a list of numbers beyond int64 has none
        return pa.array(values.astype(values.dtype.newbyteorder("=")))
    return pa.array(values.tolist())


def check(records: Records) -> Records:
    """*records*, when they are sound: same lengths, unique ids, values that the task allows. Errors name a row."""
    name, n = records.meta.model, len(records.ids)
    if n == 0:
        raise RecordsError(f"{name}: no rows")
    for what, column in (("content", records.content), ("group", records.group)):
        if column is not None and len(column) != n:
            raise RecordsError(
                f"{name}: {quantity(n, 'id')} and {quantity(len(column), 'entry', 'entries')} in "
                f"{what!r}; these must be equally many"
            )
    if not len(records.label) == len(records.outputs) == n:
        raise RecordsError(
            f"{name}: {quantity(n, 'id')}, {quantity(len(records.label), 'label')} and "
            f"{quantity(len(records.outputs), 'prediction')}; "
            "these must be equally many"
        )
    _check_shapes(records)
    counts = records.ids.value_counts()
    most = np.asarray(counts.field("counts"))
    if len(counts) != n:
        twice = counts.field("values")[int(most.argmax())]
        again = quantity(n - len(counts), "id stands", "ids stand")
        raise RecordsError(f"{name}: {again} more than once, {twice!s} for one; ids are unique")
    if records.task.check is not None:
        records.task.check(name, records.label, records.outputs, records.meta.n_classes)
    return records


def _check_shapes(records: Records) -> None:
    task, n = records.task, len(records.label)
    of_truth = {"label": records.label} if isinstance(records.label, np.ndarray) else vars(records.label)
    columns = {**task.columns, **task.truth_columns}
    for what, values in {**of_truth, **vars(records.outputs)}.items():
        column = columns.get(what)
        if values is None or (column is not None and column.ragged and len(values) == n):
            continue
        lists = column is not None and column.dims == 2
        shape = (len(values),) if isinstance(values, Ragged) else values.shape
        if len(shape) != (2 if lists else 1) or len(values) != n or 0 in shape:
            expected = f"({n}, K)" if lists else f"({n},)"
            raise RecordsError(
                f"{records.meta.model}: {what} has shape {shape}; expected {expected}, one entry per row"
            )
