"""Many labels per sample that other programs wrote: a probability and a 0 or 1 for each class."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pilotfish.errors import RecordsError
from pilotfish.reading.columns import find, shown, unread_note
from pilotfish.reading.label_lists import LabelTable, in_order, label_table
from pilotfish.records.cells import values_of
from pilotfish.records.records import Records, RecordsMeta, check
from pilotfish.records.roles import NamedArrays, ids_of, npz_arrays
from pilotfish.records.tabular import read_tabular
from pilotfish.records.truth import joined_rows, truth_table
from pilotfish.tasks.labels import UNKNOWN, Labels, labels_of, reduce_logits
from pilotfish.text import quantity

ENOUGH = 1e-3  # by how much probabilities of one class may miss a sum of 1
PROBS = re.compile(r"(?:probs?|proba|probability|score|p)[_.\- ]+(\S.*)", re.IGNORECASE)
TRUE = re.compile(r"(?:labels?|true|truth|target|gt|y)[_.\- ]+(\S.*)", re.IGNORECASE)
Values = NDArray[Any]
Read = tuple[pa.Array, Labels, LabelTable | None, tuple[str, ...] | None, tuple[str, ...]]
"""Ids, answers, labels, class names and notes."""


def implied(file: NamedArrays) -> bool:
    """Whether a file holds several labels for a sample: a label for each class, and not one 1 in each row beside
    probabilities that sum to 1, or logits."""
    label = file.find("label", file.matrices)
    main = next((name for role in ("probs", "logits", "outputs") if (name := file.find(role, file.matrices))), None)
    if label is None or main is None or file.values(label).dtype.kind not in "biuf":
        return False
    truth, said = file.values(label), file.values(main)
    if truth.ndim != 2 or said.ndim != 2 or said.dtype.kind != "f":
        return False
    with np.errstate(invalid="ignore", over="ignore"):
        one = bool(((truth == 0) | (truth == 1)).all() and (truth.sum(axis=1) == 1).all())
        inside = bool(((said >= 0) & (said <= 1)).all())
        sums = bool((np.abs(said.sum(axis=1, dtype=np.float64) - 1) <= ENOUGH).all())
    return not (one and (sums or not inside))


def import_labels(
    path: Path, meta: RecordsMeta, truth: Path | None = None, known: Sequence[str] | None = None
) -> Records:
    """The records of a file of predictions.

    .npz    ``probs`` (N, C) in [0, 1] or ``logits``; ``label`` (N, C) of 0 and 1, in rows of -1 where it is not known;
            perhaps ``class_names`` and ``id``
    tables  a column of lists, or ``prob_CLASS`` for each class; ``label_CLASS``, or ``label`` with lists of names
    meta    what is known of the records but for classes and notes
    truth   a table with the labels, beside an id: ``label`` with lists, or a column of 0 and 1 for each class
    known   class names of other records of the same samples, in their order

    RecordsError, which names the row, for a file that does not hold this.
    """
    if path.suffix.lower() == ".npz":
        ids, probs, given, names, notes = _arrays(*npz_arrays(path))
    else:
        ids, probs, given, names, notes = _columns(path)
    classes = probs.probs.shape[1]
    label = np.full((len(ids), classes), UNKNOWN, np.int8)
    if names is not None and len(names) != classes:
        raise RecordsError(f"{path}: {quantity(len(names), 'class name')} for {classes} classes; expected one for each")
    if names is None and known is not None and len(known) == classes:
        names = tuple(known)
    if truth is not None:
        if given is not None:
            notes += (f"the labels of {path.name} are not read: the truth comes from --labels",)
        given, said = _truth_of(ids, truth)
        notes += said
    if given is not None:
        label, names, said = in_order(str(truth or path), given, classes, names, RecordsError)
        notes += said
    meta = replace(meta, n_classes=classes, class_names=names, notes=(*meta.notes, *notes))
    return check(Records(ids, label, probs, meta))


def _arrays(file: NamedArrays, names: tuple[str, ...] | None) -> Read:
    for role in ("probs", "logits", "outputs"):
        if (main := file.find(role, file.matrices) or file.find(role, file.vectors)) is not None:
            break
    else:
        raise RecordsError(f"{file.path}: {file.expected}; expected probs (N, C), a probability for each class")
    file.used.append(main)
    probs, notes = _probabilities(file.path, main, file.values(main), role)
    given = None
    if (name := file.find("label", [*file.vectors, *file.matrices], same=True)) is not None:
        file.used.append(name)
        given = _truth(file.path, name, file.values(name), len(probs), probs.probs.shape[1], names)
    ids, said = ids_of(file, len(probs), table=False)
    left = [name for name in (*file.vectors, *file.matrices) if name not in file.used]
    return ids, probs, given, names, (*notes, *said, *unread_note(file.path.name, left))


def _columns(path: Path) -> Read:
    table, notes = read_tabular(path)
    columns = dict(zip(table.column_names, table.columns, strict=True))
    of_class = {match[1]: name for name in columns if (match := PROBS.fullmatch(name))}
    names = tuple(of_class)
    true = {match[1]: name for name in columns if (match := TRUE.fullmatch(name))}
    if of_class:
        values = np.stack([values_of(path, name, columns[name]).astype(np.float64) for name in of_class.values()], 1)
        what = next(iter(of_class.values()))
    elif (found := find(str(path), list(columns), "probs", RecordsError)) is not None:
        values, what = values_of(path, found, columns[found]), found
    else:
        raise RecordsError(f"{path}: columns {shown(columns)}; expected prob_CLASS for each class, or lists in probs")
    probs, said = _probabilities(path, what, values, "probs")
    rest = {name: column for name, column in columns.items() if name not in (*of_class.values(), what)}
    file = NamedArrays(path, [], list(rest), rest.__getitem__, f"columns {shown(columns)}")
    ids, of_ids = ids_of(file, len(probs), table=True)
    cells = {name: _texts(column) for name, column in rest.items() if name not in file.used}
    classes = {key: cells.pop(name) for key, name in true.items() if key in of_class and name in cells}
    given = label_table(path.name, classes or cells, RecordsError)
    named = names if any(not name.isdigit() for name in names) else None
    return ids, probs, given, named, (*notes, *said, *of_ids, *(() if given is None else given.notes))


def _texts(column: Any) -> list[str]:
    return ["" if cell is None else str(cell) for cell in column.to_pylist()]


def _probabilities(path: Path, name: str, values: Values, role: str) -> tuple[Labels, tuple[str, ...]]:
    array = values[:, None] if values.ndim == 1 else values
    if array.dtype.kind not in "fiu" or array.ndim != 2 or 0 in array.shape:
        raise RecordsError(
            f"{path}: {name!r} has shape {values.shape} of {values.dtype}; expected (N, C) probabilities"
        )
    with np.errstate(invalid="ignore"):
        bad = ~np.isfinite(array).all(axis=1)
        outside = ~((array >= 0) & (array <= 1)).all(axis=1)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise RecordsError(f"{path}: {name!r} of row {row} holds NaN or infinity; leave samples without an answer out")
    if role == "logits" or (role == "outputs" and outside.any()):
        said = () if role == "logits" else (f"{name!r} is read as logits, a sigmoid for each class",)
        return reduce_logits(array.astype(np.float64)), said
    if outside.any():
        row = int(np.flatnonzero(outside)[0])
        value = array[row][~((array[row] >= 0) & (array[row] <= 1))][0]
        percents = array.min() >= 0 and 1 < array.max() <= 100 and np.median(array.max(axis=1)) > 1
        hint = "if these are percents, divide by 100" if percents else "if these are logits, name the array logits"
        raise RecordsError(f"{path}: {name!r} of row {row} is {value:.4g}; expected probabilities, 0 to 1: {hint}")
    return labels_of(array.astype(np.float32)), ()


def _truth(
    path: Path, name: str, values: Values, n: int, classes: int, names: Sequence[str] | None
) -> LabelTable | None:
    if values.dtype == object and values.ndim == 1:
        return label_table(path.name, {"label": ["" if text is None else str(text) for text in values]}, RecordsError)
    array = values[:, None] if values.ndim == 1 else values
    if array.ndim != 2 or len(array) != n or array.dtype.kind not in "biuf":
        raise RecordsError(f"{path}: {name!r} has shape {values.shape}; expected (N, C), 0 or 1 for each class")
    if array.shape[1] != classes:
        raise RecordsError(
            f"{path}: labels of {array.shape[1]} classes for probabilities of {classes}; expected one for each"
        )
    with np.errstate(invalid="ignore"):
        unknown = (np.isnan(array) if array.dtype.kind == "f" else np.zeros(array.shape, bool)) | (array == UNKNOWN)
        wrong = ~((array == 0) | (array == 1)).all(axis=1) & ~unknown.all(axis=1)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        value = array[row][~np.isin(array[row], (0, 1))][0]
        raise RecordsError(
            f"{path}: {name!r} of row {row} is {value}; expected 0 or 1 for each class, or -1 for all of them where "
            "the labels of a sample are not known"
        )
    if unknown.all():
        return None
    return LabelTable(np.where(unknown, UNKNOWN, array).astype(np.int8), None if names is None else tuple(names))


def _truth_of(ids: pa.Array, path: Path) -> tuple[LabelTable, tuple[str, ...]]:
    """The labels of some samples by a table, and notes."""
    table, notes = truth_table(path)
    columns: Mapping[str, Any] = dict(zip(table.column_names, table.columns, strict=True))
    label = find(str(path), list(columns), "label", RecordsError)
    key = find(str(path), [name for name in columns if name != label], "id", RecordsError)
    if key is None:
        raise RecordsError(f"{path}: columns {shown(columns)}; expected id (or filename, file), and labels")
    found = label_table(path.name, {n: _texts(c) for n, c in columns.items() if n != key}, RecordsError)
    if found is None:
        raise RecordsError(
            f"{path}: columns {shown(columns)}; expected label with lists of names (cat;dog), or a column of 0 and 1 "
            "for each class"
        )
    rows, said = joined_rows(ids, path, key, table)
    truth = found.truth[np.where(rows < 0, 0, rows)]
    truth[rows < 0] = UNKNOWN
    return LabelTable(truth, found.names), (*notes, *found.notes, *said)
