"""The truth from a file of its own, joined to samples by their ids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pilotfish.errors import RecordsError, one_line
from pilotfish.reading.columns import find, shown, unread_note
from pilotfish.records.cells import values_of
from pilotfish.records.records import string_ids
from pilotfish.records.tabular import TABULAR, read_tabular
from pilotfish.text import quantity


def truth_for(ids: pa.Array, path: Path) -> tuple[tuple[str, NDArray[Any]], tuple[str, ...]]:
    """((the label column's name, its values in the order of *ids*, NaN or None where there are none), notes).

    Raises RecordsError for a file without these columns, and as :func:`joined_rows` has it.
    """
    table, notes = truth_table(path)
    names = table.column_names

    def same(a: str, b: str) -> bool:
        return bool(table.column(a).equals(table.column(b)))

    label_name = find(str(path), names, "label", RecordsError, same)
    key = find(str(path), [name for name in names if name != label_name], "id", RecordsError)
    if key is None or label_name is None:
        raise RecordsError(f"{path}: columns {shown(names)}; expected id (or filename, file) and label")
    notes += unread_note(path.name, [name for name in names if name not in (key, label_name)])
    values = values_of(path, label_name, table.column(label_name))
    rows, said = joined_rows(ids, path, key, table)
    missing = rows < 0
    if values.dtype.kind != "O" and missing.any():
        values = values.astype(np.float64)
    taken = values[np.where(missing, 0, rows)]
    if missing.any():
        taken[missing] = None if values.dtype.kind == "O" else np.nan
    return (label_name, taken), (*notes, *said)


def truth_table(path: Path) -> tuple[pa.Table, tuple[str, ...]]:
    """What ``--labels`` names, read, and notes."""
    if not path.is_file() or path.suffix.lower() not in TABULAR:
        found = "no such file" if not path.is_file() else f"unknown file type {path.suffix or '(none)'}"
        raise RecordsError(f"{path}: {found}; --labels takes a .csv with columns id (or filename, file) and label")
    return read_tabular(path)


def joined_rows(ids: pa.Array, path: Path, key: str, table: pa.Table) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """(the row of *table* that each of *ids* has, -1 for none, by its column *key*; notes).

    Ids are compared as they are; where none agrees, by the ends of their paths ("n01/a.jpg" and "/data/val/n01/a.jpg",
    either way round), and then without suffixes, as long as that leaves the file's ids distinct.

    Raises RecordsError for an id that stands twice, and where no sample is named.
    """
    keys = string_ids(table.column(key))
    if keys.null_count == 0 and (twice := len(keys) - len(keys.unique())) > 0:
        again = quantity(twice, "id stands", "ids stand")
        raise RecordsError(f"{path}: {again} more than once in column {key!r}; each sample has one label")
    rows, how = _joined(ids, keys)
    if how is None:
        raise RecordsError(
            f"{path}: names none of the {quantity(len(ids), 'sample')} ({one_line(str(ids[0]))}, …); its ids are "
            f"{one_line(str(keys[0])) if len(keys) else '(none)'}, …"
        )
    notes: tuple[str, ...] = (how,) if how else ()
    missing = rows < 0
    if missing.any():
        first = one_line(str(ids[int(np.argmax(missing))]))[:80]
        notes += (
            f"{path.name} has no label for {int(missing.sum()):,} of {quantity(len(ids), 'sample')}, {first} the first",
        )
    if (spare := len(keys) - len(np.unique(rows[~missing]))) > 0:
        notes += (
            (
                f"{spare:,} of the {quantity(len(keys), 'row')} of {path.name} {'names' if spare == 1 else 'name'} "
                "no sample"
            ),
        )
    return rows, notes


def _joined(ids: pa.Array, keys: pa.Array) -> tuple[NDArray[np.int64], str | None]:
    """(row of *keys* for each id, -1 for none; how they were matched, "" if as they are, None if not at all)."""
    rows = _rows(ids, keys)
    if (rows >= 0).any():
        return rows, ""
    mine, theirs = _slashes(ids), _slashes(keys)
    for strip, what in ((False, "paths"), (True, "paths without their suffixes")):
        a, b = (_stems(mine), _stems(theirs)) if strip else (mine, theirs)
        for parts in range(min(_depth(a), _depth(b), 16), 0, -1):
            x, y = _tails(a, parts), _tails(b, parts)
            rows = _rows(x, y)
            if (rows >= 0).any() and len(y.unique()) == len(y) and len(x.unique()) == len(x):
                ends = "file names" if parts == 1 else f"last {parts} parts"
                return rows, f"samples and labels are joined by the {ends} of their {what}"
    return rows, None


def _rows(ids: pa.Array, keys: pa.Array) -> NDArray[np.int64]:
    return np.asarray(pc.index_in(ids, value_set=keys).fill_null(-1)).astype(np.int64)


def _slashes(texts: pa.Array) -> pa.Array:
    return pc.utf8_ltrim(pc.replace_substring(texts, "\\", "/"), "./")


def _stems(texts: pa.Array) -> pa.Array:
    return pc.replace_substring_regex(texts, pattern=r"\.[A-Za-z0-9]{1,5}$", replacement="")


def _depth(texts: pa.Array) -> int:
    return 1 + int(pc.max(pc.count_substring(texts, "/")).as_py() or 0)


def _tails(texts: pa.Array, parts: int) -> pa.Array:
    found = pc.extract_regex(texts, pattern=rf"(?P<tail>(?:[^/]*/){{0,{parts - 1}}}[^/]*)$")
    return found.field("tail")
