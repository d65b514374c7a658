"""Groups by name: the frames of one clip, the photos of one product (``--group-by``)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pilotfish.errors import RecordsError, UsageError
from pilotfish.reading.columns import find, shown, unread_note
from pilotfish.reading.npz import load_member, open_npz
from pilotfish.records.records import Records, string_ids
from pilotfish.records.tabular import TABULAR, read_tabular
from pilotfish.text import quantity

NONE = "none"  # no groups, and copies count as often as they stand there
GroupBy = str | Path | Sequence[str]
HOW = "write the part of the id that names the group in parentheses, such as '^(.+)_frame', or name a CSV file id,group"


def groups_by(
    group_by: GroupBy, ids: pa.Array, column: Callable[[str], pa.Array | None] | None = None
) -> pa.Array | None:
    """The group of each sample.

    group_by  a CSV file with columns id and group; or the name of a column; or a regular expression, whose
              first group is taken from the id; or ``none``; or the groups themselves, string (N,)
    ids       string (N,)
    column    what else is known of the samples: a name -> string (N,), or None where there is no such column

    Returns string (N,), None for ``none``. UsageError or RecordsError where a sample has no group, or all have one.
    """
    if not isinstance(group_by, str | Path):
        if len(group_by) != len(ids):
            raise UsageError(
                f"{quantity(len(group_by), 'group')} for {quantity(len(ids), 'sample')}; expected one for each"
            )
        return string_ids(group_by)
    text = str(group_by)
    if text == NONE:
        return None
    if is_file(text):
        found = _from_file(Path(text), ids)
    else:
        named = None if column is None else column(text)
        found = named if named is not None else _from_ids(text, ids)
    if len(ids) > 1 and len(found.unique()) == 1:
        raise UsageError(
            f"--group-by {text} puts all {len(ids):,} samples into one group ({found[0]!s}), which tells nothing of "
            f"others; {HOW}"
        )
    return found


def is_file(text: str) -> bool:
    """Whether *text* names a file."""
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # too long for a name, or a NUL: an expression
        return False


def _from_ids(text: str, ids: pa.Array) -> pa.Array:
    if text.lower().endswith((".csv", ".tsv", ".parquet")):
        raise UsageError(
            f"--group-by {text}: no such file; expected a CSV file id,group, a column, or a regular expression"
        )
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise UsageError(f"--group-by {text!r} is no file and no regular expression ({error}); {HOW}") from error
    if not pattern.groups:
        raise UsageError(f"--group-by {text!r} is no file, no column, and as a regular expression has no group; {HOW}")
    matches = [pattern.search(one) for one in ids.to_pylist()]
    found = [None if match is None else match.group(1) or None for match in matches]
    missing = [row for row, one in enumerate(found) if one is None]
    if len(missing) == len(found):
        raise UsageError(f"--group-by {text!r} finds a group in none of {len(ids):,} ids, such as {ids[0]!s}; {HOW}")
    if missing:
        raise UsageError(
            f"--group-by {text!r} finds no group in {len(missing):,} of {len(ids):,} ids, such as {ids[missing[0]]!s}: "
            "write a regular expression that finds one in every id, such as '^([^_]+)', or a CSV file id,group"
        )
    return pa.array(found, pa.string())


def file_column(path: Path, name: str, ids: pa.Array) -> pa.Array | None:
    """Column *name* of a file of predictions or labels as text, by id where it has ids, else row by row; None where it
    has no such column. Reads .npz and tables."""
    suffix = path.suffix.lower()
    if suffix == ".npz":
        npz = open_npz(path, RecordsError)
        return None if name not in npz.members else _one_each(path, name, load_member(npz, name), ids)
    if suffix not in TABULAR:
        return None
    table, _ = read_tabular(path)
    if name not in table.column_names:
        return None
    values = _texts(path, table, name)
    key = find(str(path), [one for one in table.column_names if one != name], "id", RecordsError)
    if key is not None:
        return _by_id(path, _texts(path, table, key), values, ids)
    return _one_each(path, name, np.array(values), ids)


def _one_each(path: Path, name: str, values: NDArray[Any], ids: pa.Array) -> pa.Array:
    if values.shape != (len(ids),) or values.dtype.kind not in "USiu":
        raise RecordsError(
            f"{path}: {name!r} has shape {values.shape} and dtype {values.dtype}; expected a text or whole number "
            f"for each of {len(ids):,} samples"
        )
    return string_ids(values)


def _texts(path: Path, table: pa.Table, name: str) -> list[str]:
    try:
        return [one or "" for one in table.column(name).cast(pa.string()).to_pylist()]
    except pa.ArrowException as error:
        raise RecordsError(f"{path}: column {name!r} holds {table.column(name).type}; expected text") from error


def _from_file(path: Path, ids: pa.Array) -> pa.Array:
    """Column ``group`` (or the only column beside the ids) of a table, joined by id."""
    table, _ = read_tabular(path)
    names = table.column_names
    key = find(str(path), [name for name in names if name.lower() != "group"], "id", RecordsError)
    others = [name for name in names if name != key]
    value = next((name for name in others if name.lower() == "group"), others[0] if len(others) == 1 else None)
    if key is None or value is None or not table.num_rows:
        raise RecordsError(
            f"{path}: columns {shown(names)}; expected a header, id (or filename, file) and group, and rows"
        )
    return _by_id(path, _texts(path, table, key), _texts(path, table, value), ids)


def _by_id(path: Path, keys: list[str], values: list[str], ids: pa.Array) -> pa.Array:
    known: dict[str, str] = {}
    for key, value in zip(keys, values, strict=True):
        if known.setdefault(key, value) != value:
            raise RecordsError(f"{path}: {key!r} is in two groups, {known[key]!r} and {value!r}; a sample has one")
    wanted = ids.to_pylist()
    found = [known.get(one) for one in wanted]
    if not any(found):  # as other files of labels: base names, where the ids are paths
        bare = {key.rpartition("/")[2]: value for key, value in known.items()}
        if len(bare) == len(known):
            found = [bare.get(one.rpartition("/")[2]) for one in wanted]
    missing = [row for row, one in enumerate(found) if not one]
    if missing:
        raise RecordsError(
            f"{path}: no group for {len(missing):,} of {quantity(len(ids), 'sample')}, such as "
            f"{wanted[missing[0]]!r} (the file "
            f"has {quantity(len(known), 'id')}, such as {keys[0] if keys else 'none'!r}); give "
            "every sample a group, if only one "
            "of its own"
        )
    return pa.array(found, pa.string())


def import_groups(records: Records, group_by: GroupBy, files: Sequence[str | Path | None]) -> Records:
    """*records* with groups; a column is looked for in the *files* (predictions, labels)."""
    notes = records.meta.notes

    def column(name: str) -> pa.Array | None:
        nonlocal notes
        for file in (Path(one) for one in files if one is not None):
            if (found := file_column(file, name, records.ids)) is not None:
                notes = now_read(notes, file.name, name)
                return found
        return None

    group = groups_by(group_by, records.ids, column)
    return replace(records, group=group, meta=replace(records.meta, notes=notes))


def now_read(notes: tuple[str, ...], file: str, column: str) -> tuple[str, ...]:
    """The notes without *column* among what was not read of *file*, for it names groups."""
    said, end = f"{file}: not read: ", " (the names that are read"
    kept: list[str] = []
    for note in notes:
        if note.startswith(said):
            names = note.removeprefix(said).partition(end)[0].split(", ")
            kept += unread_note(file, [name for name in names if name != column])
        else:
            kept.append(note)
    return tuple(kept)
