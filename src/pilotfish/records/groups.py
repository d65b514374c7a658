"""Which samples belong together: named groups (frames of one clip, photos of one product) and copies of one file."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pilotfish.errors import RecordsError, UsageError
from pilotfish.reading.columns import find, shown, unread_note
from pilotfish.reading.npz import load_member, open_npz
from pilotfish.records.outputs import I64
from pilotfish.records.records import Records, string_ids
from pilotfish.records.tabular import TABULAR, read_tabular

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
            raise UsageError(f"{len(group_by):,} groups for {len(ids):,} samples; expected one for each")
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
            f"--group-by {text} puts all {len(ids):,} samples into one group ({found[0]!s}): nothing would be left to "
            f"judge on; {HOW}"
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
            f"{path}: no group for {len(missing):,} of {len(ids):,} samples, such as {wanted[missing[0]]!r} (the file "
            f"has {len(known):,} ids, such as {keys[0] if keys else 'none'!r}); give every sample a group, if only one "
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


@dataclass(frozen=True)
class Clusters:
    """rows: the samples that count, in order; groups: int64 (len(rows),), numbered from 0, or None where all samples
    are independent; notes: what was left out, and what belongs together."""

    rows: NDArray[np.intp]
    groups: I64 | None
    notes: tuple[str, ...] = ()


def clusters(ids: pa.Array, label: I64 | None, group: pa.Array | None, content: pa.Array | None) -> Clusters:
    """What belongs together among N samples.

    label    int64 (N,), or None
    group    string (N,), or None
    content  string (N,), a hash of each sample, empty where unknown; or None

    Samples of equal content and label count once. Those of equal content and other labels are kept, in one group, and
    groups that share a file are one group: they would else be on both sides of a split.
    """
    n = len(ids)
    rows, notes = np.arange(n), []
    member = None if group is None else _codes(group)
    if content is not None:
        file = _codes(content)
        unknown = np.asarray(pc.equal(content, ""))
        file[unknown] = n + np.flatnonzero(unknown)
        if len(np.unique(file)) < n:
            rows, said = _once(ids, file, label)
            member, more = _joined(ids, file, rows, member)
            notes += [*said, *more]
    if member is None:
        return Clusters(rows, None, tuple(notes))
    groups = np.unique(member[rows], return_inverse=True)[1].astype(np.int64)
    sizes = np.bincount(groups)
    if len(sizes) == len(rows):
        if group is not None:
            notes.append(f"each of the {len(rows):,} samples is a group of its own: grouping changes nothing")
        return Clusters(rows, None, tuple(notes))
    if len(sizes) == 1:
        raise UsageError(
            f"all {len(rows):,} samples are in one group: nothing would be left to judge on; name smaller groups with "
            "--group-by, or count samples with --group-by none"
        )
    notes.append(
        f"{len(rows):,} samples in {len(sizes):,} groups (at most {sizes.max():,} each): "
        "intervals and certificates count groups"
    )
    return Clusters(rows, groups, tuple(notes))


def _codes(texts: pa.Array) -> I64:
    return np.asarray(texts.dictionary_encode().indices).astype(np.int64)


def _once(ids: pa.Array, file: I64, label: I64 | None) -> tuple[NDArray[np.intp], list[str]]:
    """The first sample of every (content, label), and what was left out."""
    n = len(ids)
    keys = file if label is None else np.stack([file, label], axis=1)
    _, first, which = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    rows, notes = np.sort(first), []
    if len(rows) < n:
        twice = int(np.setdiff1d(np.arange(n), rows)[0])
        original = int(first[which.reshape(-1)[twice]])
        notes.append(
            f"{n - len(rows):,} of {n:,} samples are exact copies of others ({ids[twice]!s} is {ids[original]!s}): "
            f"{len(rows):,} count, copies once; --group-by none counts them all"
        )
    if label is not None:
        _, start, times = np.unique(file[rows], return_index=True, return_counts=True)
        if (times > 1).any():
            a = int(rows[start[times > 1][0]])
            b = int(rows[(file[rows] == file[a]) & (rows != a)][0])
            files = int((times > 1).sum())
            stand = "file stands" if files == 1 else "files stand"
            notes.append(
                f"{files:,} {stand} under different labels ({ids[a]!s} with label {label[a]}, {ids[b]!s} with label "
                f"{label[b]}): all labels are kept, in one group; correct the wrong ones"
            )
    return rows, notes


def _joined(ids: pa.Array, file: I64, rows: NDArray[np.intp], member: I64 | None) -> tuple[I64 | None, list[str]]:
    """Groups of all N samples, joined where they share a file."""
    if member is None:
        return (file if len(np.unique(file[rows])) < len(rows) else None), []
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    files = np.unique(file, return_inverse=True)[1]
    size = int(member.max()) + 1 + int(files.max()) + 1
    edges = (np.ones(len(ids)), (member, int(member.max()) + 1 + files))
    _, joined = connected_components(coo_matrix(edges, shape=(size, size)), directed=False)
    found = joined[member].astype(np.int64)
    before, after = len(np.unique(member)), len(np.unique(found))
    said = [f"{before:,} groups share files and so become {after:,}"] if after < before else []
    return found, said
