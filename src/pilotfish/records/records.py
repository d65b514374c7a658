"""The records of one model on one split: aligned arrays and what is known about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pilotfish.documents import Count, Within
from pilotfish.errors import RecordsError
from pilotfish.records.parquet_size import check_decoded
from pilotfish.scores.outputs import I64, Outputs

SCHEMA_VERSION = 1
NO_LABEL = -1
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
    backbone       for an exit ``NAME#k`` of a network: ``NAME``. Its ``macs`` count everything up to and with this
                   exit's own head, ``head_macs`` the head alone
    position       k, from 1
    file           where the model's file lay when it was recorded, an absolute path; None for a model without one
    notes          what the reader of these records should know: what was assumed, chosen or found odd, a line each
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

    def validate(self) -> None:
        """ValueError for class names that are not as many as classes, and for a number of samples that is none."""
        if self.class_names is not None and self.n_classes not in (None, len(self.class_names)):
            raise ValueError(f"{len(self.class_names)} class_names for {self.n_classes} classes")
        n = self.data.get("n")
        if n is not None and not (type(n) is int and 0 <= n < 2**53):
            raise ValueError(f"n in data is {str(n)[:60]!r}, expected a number of samples")

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
    label   int64 (N,), the true class, or -1 where it is unknown
    outputs arrays of N samples
    content pyarrow string array (N,), a hash of each sample as it was read (equal for copies of one file); or None
    group   pyarrow string array (N,), what each sample belongs to: a clip, a product, a patient; or None
    """

    ids: pa.Array
    label: I64
    outputs: Outputs
    meta: RecordsMeta
    content: pa.Array | None = None
    group: pa.Array | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def has_labels(self) -> bool:
        """Whether any sample has a label."""
        return bool((self.label != NO_LABEL).any())

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
    """*records*, when they are sound: same lengths, unique ids, classes in range. Errors name a row."""
    name, n = records.meta.model, len(records.ids)
    if n == 0:
        raise RecordsError(f"{name}: no rows")
    for what, column in (("content", records.content), ("group", records.group)):
        if column is not None and len(column) != n:
            raise RecordsError(f"{name}: {n} ids and {len(column)} entries in {what!r}; these must be equally many")
    if not len(records.label) == len(records.outputs) == n:
        raise RecordsError(
            f"{name}: {n} ids, {len(records.label)} labels and {len(records.outputs)} predictions; "
            "these must be equally many"
        )
    _check_shapes(name, records.label, records.outputs)
    counts = records.ids.value_counts()
    most = np.asarray(counts.field("counts"))
    if len(counts) != n:
        twice = counts.field("values")[int(most.argmax())]
        raise RecordsError(f"{name}: {n - len(counts)} ids stand more than once, {twice!s} for one; ids are unique")
    for what, values, lowest in (
        ("label", records.label, NO_LABEL),
        ("prediction", records.outputs.prediction, 0),
    ):
        _check_range(name, what, values, lowest, records.meta.n_classes)
    if records.outputs.top_classes is not None:
        for values in (records.outputs.top_classes.min(axis=1), records.outputs.top_classes.max(axis=1)):
            _check_range(name, "top class", values, 0, records.meta.n_classes)
    return records


def _check_shapes(name: str, label: I64, outputs: Outputs) -> None:
    columns = {"label": label, **vars(outputs)}
    for what, values in columns.items():
        if values is None:
            continue
        dims = 2 if what in ("top_classes", "top_logits", "logits") else 1
        if values.ndim != dims or len(values) != len(label) or 0 in values.shape:
            expected = f"({len(label)}, K)" if dims == 2 else f"({len(label)},)"
            raise RecordsError(f"{name}: {what} has shape {values.shape}; expected {expected}, one entry per row")


def _check_range(name: str, what: str, values: NDArray[np.integer], lowest: int, n_classes: int | None) -> None:
    if (values < lowest).any():
        row = int(np.flatnonzero(values < lowest)[0])
        raise RecordsError(f"{name}: the {what} of row {row} is {values[row]}; classes are numbered from 0")
    if n_classes is not None and (values >= n_classes).any():
        row = int(np.flatnonzero(values >= n_classes)[0])
        known = values[values >= 0]
        from_one = known.min() > 0 and known.max() == n_classes
        raise RecordsError(
            f"{name}: the {what} of row {row} is {values[row]}, but the model has {n_classes} classes "
            f"(0 to {n_classes - 1}); "
            + ("are they numbered from 1?" if from_one else "are the labels in the model's class order?")
        )
