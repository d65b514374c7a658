"""Labels and texts of an ``.npz`` file's arrays, whatever they are written as."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pilotfish.data.dataset import UNLABELLED, Labels, labels_or_none
from pilotfish.errors import DataError, nearest, one_line
from pilotfish.reading.columns import MISSING, sorted_names_note
from pilotfish.reading.npz import Npz, load_member
from pilotfish.text import quantity

Found = tuple[Labels | None, tuple[str, ...] | None, tuple[str, ...]]


def read_labels(npz: Npz, key: str, n: int, class_names: Sequence[str] | None) -> Found:
    """(labels int64 (n,) with -1 for none, or None; class names; notes) of the array *key*.

    Class numbers, truth values, one-hot rows (n, C), or names: those of *class_names* where there are any, else all
    that occur, sorted. Raises ``DataError`` that names the row.
    """
    names = None if class_names is None else tuple(class_names)
    notes: tuple[str, ...] = ()
    column = load_member(npz, key)
    if column.shape[:1] == (n,) and column.ndim == 2 and column.shape[1] > 1:
        column = _one_hot(npz, key, column)
        notes += (f"{key!r} has one 1 in each row: the place of the 1 is read as the class",)
    column = _shaped(npz, key, column, n)
    if column.dtype.kind in "US":
        column, names, said = _numbers_of(npz, key, strings(npz, column, key), names)
        notes += said
    if column.dtype.kind not in "biuf":
        raise DataError(f"{npz.path}: {key} has the dtype {column.dtype}; expected class indices or class names")
    if column.dtype.kind == "b":
        notes += (f"{key!r} holds true and false: read as the classes 1 and 0",)
    values = column.astype(np.float64)  # exact up to 2^53, and no class index comes near
    empty = np.isnan(values)
    if empty.any() and not empty.all():
        notes += (f"{key!r} is empty or NaN for {int(empty.sum()):,} of {quantity(n, 'sample')}: no label",)
    if empty.all():
        notes += (f"{key!r} is empty or NaN throughout: no sample has a label",)
    values[empty] = UNLABELLED
    wrong = ~((values >= UNLABELLED) & (values <= 2**53) & (values == np.floor(values)))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(
            f"{npz.path}: {key}[{row}] is {column[row]}; "
            "expected an integer class index from 0 up, or -1 for an unlabelled sample"
        )
    return labels_or_none(values.astype(np.int64)), names, notes


def read_many(npz: Npz, key: str, n: int) -> npt.NDArray[np.int8] | None:
    """int8 (n, C) of 0 and 1, -1 in rows that are -1 or NaN throughout, of an array *key* with a label for each class;
    None where each row has one 1 at most, or it is anything else: see :func:`read_labels`."""
    column = load_member(npz, key)
    if column.ndim != 2 or len(column) != n or column.shape[1] < 2 or column.dtype.kind not in "biuf":
        return None
    values = column.astype(np.float64)
    unknown = (np.isnan(values) | (values == UNLABELLED)).all(axis=1)
    known = values[~unknown]
    if not ((known == 0) | (known == 1)).all() or not (known.sum(axis=1) > 1).any():
        return None
    values[unknown] = UNLABELLED
    return values.astype(np.int8)


def column_of(npz: Npz, key: str, n: int) -> npt.NDArray[Any]:
    """The array *key*, one entry for each of *n* samples."""
    return _shaped(npz, key, load_member(npz, key), n)


def strings(npz: Npz, column: npt.NDArray[Any], key: str) -> tuple[str, ...]:
    """A 1-D array of strings, UTF-8 bytes or integers as strings."""
    if column.dtype.kind not in "USiu":
        raise DataError(f"{npz.path}: {key} has the dtype {column.dtype}; expected strings or integers")
    try:
        if column.dtype.kind == "S":
            return tuple(value.decode() for value in column.tolist())
        texts = tuple(map(str, column.tolist()))
        "".join(texts).encode()
    except UnicodeError:
        raise DataError(f"{npz.path}: {key} holds text that is not valid Unicode; write it as UTF-8") from None
    return texts


def _shaped(npz: Npz, key: str, column: npt.NDArray[Any], n: int) -> npt.NDArray[Any]:
    if column.shape == (n, 1):
        return column[:, 0]
    if column.shape != (n,):
        raise DataError(f"{npz.path}: {key} has the shape {column.shape} for {n} samples; expected ({n},)")
    return column


def _one_hot(npz: Npz, key: str, column: npt.NDArray[Any]) -> npt.NDArray[Any]:
    binary = column.dtype.kind in "biuf" and bool(((column == 0) | (column == 1)).all())
    ones = column.sum(axis=1) if binary else np.zeros(len(column))
    if (ones != 1).any():
        row = int(np.flatnonzero(ones != 1)[0])
        raise DataError(
            f"{npz.path}: {key} has the shape {column.shape}, and row {row} is not one 1 among 0s; expected one class "
            f"for each sample, ({len(column)},)"
        )
    return np.asarray(column.argmax(axis=1))


def _numbers_of(
    npz: Npz, key: str, texts: Sequence[str], names: tuple[str, ...] | None
) -> tuple[npt.NDArray[Any], tuple[str, ...] | None, tuple[str, ...]]:
    """Texts as numbers where all are numbers; else by the names."""
    cells = [text.strip() for text in texts]
    try:
        numbers = np.array([np.nan if cell in MISSING else float(cell) for cell in cells])
    except ValueError:
        pass
    else:
        return numbers, names, ()
    empty = ("", "nan", "NaN", "<NA>")
    notes: tuple[str, ...] = ()
    if names is None:
        names = tuple(sorted({cell for cell in cells if cell not in empty}))
        notes = (sorted_names_note(names),)
    index: dict[str, float] = {name: number for number, name in reversed(list(enumerate(names)))}
    index |= {name: np.nan for name in empty if name not in index}
    if twice := [name for name, times in Counter(names).items() if times > 1 and name in set(cells)]:
        raise DataError(
            f"{npz.path}: {key} holds {one_line(twice[0])[:40]!r}, the name of several classes; write numbers"
        )
    unknown = next((row for row, cell in enumerate(cells) if cell not in index), None)
    if unknown is not None:
        raise DataError(
            f"{npz.path}: {key}[{unknown}] is {one_line(cells[unknown])[:40]!r}, which is none of the {len(names)} "
            f"class names ({nearest(cells[unknown], names)}); add it to them, or take the sample out"
        )
    return np.array([index[cell] for cell in cells]), names, notes
