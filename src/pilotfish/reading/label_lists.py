"""Many labels per sample in a table: a list of names in one column, or a column of 0 and 1 for each class."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import PilotfishError, nearest, one_line
from pilotfish.reading.columns import MISSING, find, plain, shown, sorted_names_note, unread_note
from pilotfish.text import quantity

SEPARATORS = (";", "|", ",")  # of lists; the first that stands in any cell
YES, NO = ("1", "1.0", "true", "yes"), ("0", "0.0", "false", "no")
_NUMBER = re.compile(r"\d{1,6}")
_NOTHING = frozenset(text.lower() for text in MISSING)
Cells = Sequence[str]


@dataclass(frozen=True)
class LabelTable:
    """What a table says of N samples.

    truth   int8 (N, C) of 0 and 1, -1 in all of a row where nothing is known
    names   of the C classes; None where the lists are of class numbers
    notes   what was assumed, or not read
    sorted_names  whether the names stand in no other order than their own
    """

    truth: NDArray[np.int8]
    names: tuple[str, ...] | None
    notes: tuple[str, ...] = ()
    sorted_names: bool = False


def label_table(where: str, columns: Mapping[str, Cells], error: type[PilotfishError]) -> LabelTable | None:
    """The labels of N samples from the columns of a table, without those of files and ids; None where there are none.

    A column called ``label`` (or the usual synonyms) holds lists of names or numbers, ``cat;dog``, empty where none is
    true. Else every column of 0 and 1 is a class, and a row that is empty in all of them is unknown.

    *error*, which names the file as *where*, for a column of 0 and 1 with other values among them, and for a row of
    which only some classes are known.
    """
    name = find(where, list(columns), "label", error)
    binary = [key for key, cells in columns.items() if _share(cells) == 1]
    if name is not None and not (name in binary and len(binary) > 1):
        left = [key for key in columns if key != name]
        found = _of_lists(where, name, columns[name], error)
        notes = [] if found is None else [*found.notes, *unread_note(where, left)]
        return None if found is None else replace(found, notes=tuple(notes))
    for key, cells in columns.items():
        if 0.5 <= _share(cells) < 1:
            row, text = next((i, cell) for i, cell in enumerate(cells) if not _is_binary(cell) and not _is_empty(cell))
            raise error(
                f"{where}: {one_line(key)[:40]!r} of row {row} is {one_line(text)[:40]!r}, and others are 0 and 1: "
                "write 0 or 1 for each class, or nothing in a row of which no class is known"
            )
    if not binary:
        return None
    truth = np.stack([[_value(cell) for cell in columns[key]] for key in binary], axis=1).astype(np.int8)
    known = truth >= 0
    if (partly := known.any(axis=1) & ~known.all(axis=1)).any():
        row = int(np.flatnonzero(partly)[0])
        empty = binary[int(np.flatnonzero(~known[row])[0])]
        raise error(
            f"{where}: row {row} has no value for {one_line(empty)[:40]!r} and has some for others; write 0 or 1 for "
            "each class, or leave the sample out"
        )
    notes = [f"{where}: columns of 0 and 1 are read as classes, {len(binary)} in all: {shown(binary, 4)}"]
    if (count := int((~known[:, 0]).sum())) > 0:
        notes.append(f"{where} has no labels for {count:,} of {quantity(len(truth), 'sample')}")
    names = tuple(key.strip() for key in binary)
    return LabelTable(truth, names, (*notes, *unread_note(where, [key for key in columns if key not in binary])))


def _of_lists(where: str, name: str, cells: Cells, error: type[PilotfishError]) -> LabelTable | None:
    separator = next((one for one in SEPARATORS if any(one in cell for cell in cells)), SEPARATORS[0])
    rows = [[part.strip() for part in cell.split(separator) if part.strip()] for cell in map(_without_brackets, cells)]
    said = sorted({text for row in rows for text in row})
    if not said:
        return None
    numbers = all(_NUMBER.fullmatch(text) for text in said)
    if numbers:
        at = {text: int(text) for text in said}
        names, notes = None, []
        classes = max(at.values()) + 1
        if classes > 100_000:
            raise error(f"{where}: {name!r} holds the class number {classes - 1:,}; classes are numbered from 0")
    else:
        at, classes, names = {text: i for i, text in enumerate(said)}, len(said), tuple(said)
        notes = [sorted_names_note(said)]
    truth = np.zeros((len(rows), classes), np.int8)
    owner = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    truth[owner, [at[text] for row in rows for text in row]] = 1
    if (empty := sum(not row for row in rows)) > 0:
        notes.append(
            f"{where}: {name!r} is empty for {empty:,} of {quantity(len(rows), 'sample')}: no label is true of them"
        )
    if separator != SEPARATORS[0]:
        notes.append(f"{where}: the lists in {name!r} are separated by {separator!r}")
    return LabelTable(truth, names, tuple(notes), names is not None)


def _without_brackets(cell: str) -> str:
    """["a", "b"] and ['a'], as JSON and Python write lists, without what is around the names."""
    text = "" if _is_empty(cell) else cell.strip()
    if text[:1] == "[" and text[-1:] == "]":
        return re.sub(r"""['"]""", "", text[1:-1])
    return text


def _share(cells: Cells) -> float:
    """The share of the cells that are not empty which are 0 or 1; 0 where all are empty."""
    given = [cell for cell in cells if not _is_empty(cell)]
    return sum(map(_is_binary, given)) / len(given) if given else 0.0


def _is_binary(cell: str) -> bool:
    return cell.strip().lower() in (*YES, *NO)


def _is_empty(cell: str) -> bool:
    return cell.strip().lower() in _NOTHING


def _value(cell: str) -> int:
    return -1 if _is_empty(cell) else int(cell.strip().lower() in YES)


def in_order(
    where: str, found: LabelTable, classes: int, names: Sequence[str] | None, error: type[PilotfishError]
) -> tuple[NDArray[np.int8], tuple[str, ...] | None, tuple[str, ...]]:
    """(truth int8 (N, classes), class names, notes): the columns of *found* brought into the order of *names*.

    names  of the classes in a model's order; None where they are not known, and columns stand as they are

    *error* for a label that is true and none of the classes.
    """
    have = found.truth.shape[1]
    if found.names is None or names is None:
        if have > classes or (found.names is not None and have != classes):
            raise error(f"{where}: labels of {have} classes for probabilities of {classes}; expected one for each")
        said: tuple[str, ...] = ()
        if found.names is not None:
            said = (f"{where}: its classes are matched with the probabilities by position alone: add class_names",)
        return _widened(found.truth, np.arange(have), classes), found.names if names is None else tuple(names), said
    place = {plain(name): c for c, name in reversed(list(enumerate(names)))}
    columns = np.array([place.get(plain(name), -1) for name in found.names], np.int64)
    lost = [c for c in np.flatnonzero(columns < 0).tolist() if (found.truth[:, c] == 1).any()]
    if lost:
        name = found.names[lost[0]]
        row = int(np.argmax(found.truth[:, lost[0]] == 1))
        raise error(
            f"{where}: {one_line(name)[:40]!r}, true in row {row}, is none of the {len(names)} classes "
            f"({nearest(name, names)}); name the classes as the model does, or take that label out"
        )
    kept = np.flatnonzero(columns >= 0)
    if len(np.unique(columns[kept])) < len(kept):
        raise error(f"{where}: two of its classes are one of the model's; give each class one column")
    absent = [name for c, name in enumerate(names) if c not in columns]
    notes = (f"{where}: {len(absent)} of {len(names)} classes are never true: {shown(absent, 4)}",) if absent else ()
    return _widened(found.truth[:, kept], columns[kept], classes), tuple(names), notes


def _widened(truth: NDArray[np.int8], columns: NDArray[np.int64], classes: int) -> NDArray[np.int8]:
    wide = np.zeros((len(truth), classes), np.int8)
    wide[:, columns] = truth
    if truth.shape[1]:
        wide[truth[:, 0] < 0] = -1
    return wide
