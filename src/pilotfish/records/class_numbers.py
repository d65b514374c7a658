"""Labels and predictions of other programs as class numbers: from numbers, truth values, one-hot rows and names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import RecordsError, nearest, one_line
from pilotfish.reading.columns import sorted_names_note
from pilotfish.records.cells import no_missing, nothing_there, whole_numbers
from pilotfish.tasks import NO_LABEL
from pilotfish.text import examples, quantity

I64 = NDArray[np.int64]
Values = NDArray[Any]  # numbers, or an object array of texts and None
Column = tuple[str, Values]  # a column's name, for messages, and its values


def numbered(
    path: Path,
    truth: Column | None,
    prediction: Column | None,
    n_classes: int | None,
    names: Sequence[str] | None,
    known: Sequence[str] | None = None,
) -> tuple[I64 | None, I64 | None, tuple[str, ...] | None, tuple[str, ...]]:
    """(labels with -1 for none, predictions, class names, notes).

    truth, prediction  columns as ``cells.values_of`` gives them; None where there are none (a prediction may lie in
                       probabilities instead)
    n_classes          columns of the probabilities or logits, where there are any
    names              class names in the order of the class numbers, where the file has them
    known              those of other records of the same samples: a file that has names alone is numbered as they are

    Names on both sides are numbered together, in sorted order, or after those that are *known*. Raises RecordsError for
    names beside numbers.
    """
    notes: list[str] = []
    columns = [column for column in (truth, prediction) if column is not None]
    texts = [column for column in columns if column[1].dtype == object]
    if texts and names is None:
        names = _sorted_names(path, truth, prediction, texts, n_classes)
        if known is not None and not set(known).isdisjoint(names):
            more = [name for name in names if name not in known]
            added = f", and {len(more)} more: {examples([repr(one_line(name)[:30]) for name in more])}" if more else ""
            names = [*known, *more]
            notes.append(f"classes are numbered as those of the records in the run, {len(known)} in all{added}")
        else:
            notes.append(sorted_names_note(names))
    label = None
    if truth is not None:
        label, said = _labels(path, *truth, n_classes, names)
        notes += said
    answer = None
    if prediction is not None:
        name, values = prediction
        values = no_missing(path, name, values)
        answer = _by_name(path, name, values, names or ()) if values.dtype == object else None
        if values.dtype.kind == "b":
            notes.append(f"{name!r} holds true and false: read as the classes 1 and 0")
            values = values.astype(np.int64)
        answer = whole_numbers(path, name, values) if answer is None else answer
    return label, answer, None if names is None else tuple(names), tuple(notes)


def _sorted_names(
    path: Path, truth: Column | None, prediction: Column | None, texts: Sequence[Column], n_classes: int | None
) -> list[str]:
    name, values = texts[0]
    given = [str(value) for value in values.ravel() if value is not None]
    example = one_line(next((text for text in given if not _is_number(text)), given[0]))[:40]
    if truth is not None and prediction is not None and len(texts) == 1 and not _nothing(truth[1]):
        other = prediction[0] if name == truth[0] else truth[0]
        raise RecordsError(
            f"{path}: {name!r} holds class names ({example!r}) and {other!r} numbers; write both as class numbers, or "
            "give the truth as numbers with --labels FILE"
        )
    if n_classes is not None:
        raise RecordsError(
            f"{path}: {name!r} holds class names ({example!r}), and in which order the {n_classes} outputs stand is "
            "not known; add an array class_names, or write class numbers"
        )
    return sorted({value for _, column in texts for value in column.ravel().tolist() if value is not None})


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _nothing(values: Values) -> bool:
    return bool(values.dtype.kind == "f" and np.isnan(values).all())


def _labels(
    path: Path, name: str, values: Values, n_classes: int | None, names: Sequence[str] | None
) -> tuple[I64, list[str]]:
    notes: list[str] = []
    if values.ndim == 2:
        values = _one_hot(path, name, values, n_classes)
        notes.append(f"{name!r} has one 1 in each row: the place of the 1 is read as the class")
    if values.dtype == object:
        missing = nothing_there(values)
        label = np.full(len(values), NO_LABEL, np.int64)
        label[~missing] = _by_name(path, name, values[~missing], names or (), np.flatnonzero(~missing))
    elif values.dtype.kind == "b":
        label, missing = values.astype(np.int64), np.zeros(len(values), bool)
        notes.append(f"{name!r} holds true and false: read as the classes 1 and 0")
    else:
        missing = np.isnan(values) if values.dtype.kind == "f" else np.zeros(len(values), bool)
        label = whole_numbers(path, name, np.where(missing, NO_LABEL, values) if missing.any() else values)
    if len(missing) and missing.all():
        notes.append(f"{name!r} is empty or NaN throughout: no sample has a label")
    elif missing.any():
        notes.append(
            f"{name!r} is empty or NaN for {int(missing.sum()):,} of {quantity(len(label), 'sample')}: no label"
        )
    if names is not None and len(label) and int(label.max()) >= len(names):
        row = int(np.argmax(label >= len(names)))
        raise RecordsError(
            f"{path}: {name!r} of row {row} is {label[row]}, and there are {len(names)} class names (0 to "
            f"{len(names) - 1}); name that class as well, or take the sample out"
        )
    return label, notes


def _one_hot(path: Path, name: str, values: Values, n_classes: int | None) -> Values:
    with np.errstate(invalid="ignore"):
        binary = values.dtype.kind in "biuf" and bool(((values == 0) | (values == 1)).all())
    if not binary:
        raise RecordsError(
            f"{path}: {name!r} has shape {values.shape}; label has shape (N,): one class for each sample"
        )
    ones = values.sum(axis=1)
    if (ones != 1).any():
        row = int(np.flatnonzero(ones != 1)[0])
        raise RecordsError(
            f"{path}: {name!r} has shape {values.shape}; label has shape (N,), or one 1 in each row, and row {row} has "
            f"{int(ones[row])}: several labels for one sample are read beside probs (N, C), with --task labels"
        )
    if n_classes is not None and values.shape[1] != n_classes:
        raise RecordsError(
            f"{path}: {name!r} has {values.shape[1]} columns, and the model has {n_classes} classes; expected as many"
        )
    return np.asarray(values.argmax(axis=1))


def _by_name(path: Path, name: str, values: Values, names: Sequence[str], rows: I64 | None = None) -> I64:
    """Texts as class numbers. rows: where they stand in the file; None: one after the other."""
    index = {text: number for number, text in reversed(list(enumerate(names)))}
    distinct, inverse = np.unique(values.astype(str), return_inverse=True)
    if unknown := [text for text in distinct.tolist() if text not in index]:
        row = int(np.flatnonzero(values == unknown[0])[0])
        more = f"; {len(unknown)} such names" if unknown[1:] else ""
        which = f"{name!r} of row {row if rows is None else rows[row]} is {one_line(unknown[0])[:40]!r}"
        raise RecordsError(
            f"{path}: {which}, which is none of the {len(names)} class names ({nearest(unknown[0], names)}{more}); add "
            "it to them, or take the sample out"
        )
    times = Counter(names)
    if twice := [text for text in distinct.tolist() if times[text] > 1]:
        raise RecordsError(
            f"{path}: {name!r} holds {one_line(twice[0])[:40]!r}, the name of {times[twice[0]]} classes; write "
            "class numbers"
        )
    return np.array([index[text] for text in distinct.tolist()], np.int64)[inverse]
