"""Which samples belong together: those of one group, and copies of one file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pilotfish.errors import UsageError
from pilotfish.scores.outputs import I64


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
