"""Which samples belong together: those of one group, and copies of one file; and those that look it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pilotfish.errors import UsageError
from pilotfish.scores.outputs import I64, Outputs
from pilotfish.text import quantity


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
            f"all {len(rows):,} samples are in one group, which tells nothing of others; name smaller groups with "
            "--group-by, or count samples with --group-by none"
        )
    notes.append(
        f"{quantity(len(rows), 'sample')} in {quantity(len(sizes), 'group')} (at most {sizes.max():,} each): "
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


LOOK = 200  # ids that are tried first
FEWEST = 10  # ids, and half as many groups, below which nothing is said
THINGS = (
    "clip|video|vid|scene|sequence|seq|track|session|series|product|prod|sku|item|listing|patient|subject|scan|case"
)
PARTS = (
    "frame|frm|copy|crop|view|dup|duplicate|augmented|aug|angle|shot|tile|patch|slice|orig|original|flip|flipped|hflip|"
    "vflip|rot|rotated|rotate|blur|blurred|noise|noisy|bright|front|back|side|detail"
)
END = r"(?:\.[A-Za-z]\w*)?$"
# (the group in an id, what must be in the ids, the least and the largest share of the ids that it is in)
KINDS = (
    (rf"^((?:.*[^A-Za-z])?(?:{THINGS})[_\- ]?\d+)[_\-/ .].*\d", r"\d", 1.0, 1.0),  # clip_001_frame_12, patient-4/scan-2
    (rf"^(.+?)(?:[_\- /.](?:{PARTS})[_\- ]?\d*)?{END}", rf"[_\- /.](?:{PARTS})[_\- ]?\d*{END}", 0.4, 1.0),  # a_copy2
    (r"^(.+)\.rf\.[0-9a-f]{16,}", r"\.rf\.", 1.0, 1.0),  # a_jpg.rf.0f3c….jpg, an augmented copy
    (rf"^(.+?)[_\-]x?\d+[_\-]y\d+{END}", rf"[_\-]x?\d+[_\-]y\d+{END}", 1.0, 1.0),  # slide_7_x256_y512.png
    (rf"^(.+_g\d+_c\d+)_\w*\d{END}", r"_g\d+_c\d+_", 1.0, 1.0),  # v_Archery_g01_c02_f0012.png
    (rf"^(.+?)(?:[_\- ]?\(\d+\))?{END}", rf"\(\d+\){END}", 0.4, 0.9),  # a.jpg, a (1).jpg; not a (1).jpg … a (999).jpg
)


def suspected(ids: pa.Array, label: I64 | None = None) -> str | None:
    """A note that names the regular expression by which most *ids* fall into groups of two and more; None where the
    ids are not plainly of that kind. Groups that are just the classes (*label*, int64 (N,)) are none."""
    if len(ids) < FEWEST:
        return None
    few = ids.take(pa.array(np.linspace(0, len(ids) - 1, min(LOOK, len(ids))).astype(np.int64))).to_pylist()
    for text, sign, least, most in KINDS:
        pattern, wanted = re.compile(text, re.IGNORECASE), re.compile(sign, re.IGNORECASE)
        if not all(pattern.match(one) for one in few):
            continue
        if not least <= sum(wanted.search(one) is not None for one in few) / len(few) <= most:
            continue
        matches = [pattern.match(one) for one in ids.to_pylist()]
        names = np.array([match[1].lower() for match in matches if match is not None])
        if len(names) < len(ids):
            continue
        _, code, sizes = np.unique(names, return_inverse=True, return_counts=True)
        several = (sizes >= 2).mean() > 0.5 and FEWEST / 2 <= len(sizes) <= len(ids) / 2
        if not several or _are_classes(code, label):
            continue
        return (
            f"ids look like groups, such as {ids[0]!s} ({quantity(len(ids), 'sample')} of "
            f"{quantity(len(sizes), 'thing')}), and count as "
            f"independent: --group-by '(?i){text}' keeps them together, --group-by none says that they are"
        )
    return None


def _are_classes(code: I64, label: I64 | None) -> bool:
    """Whether each group has one label, and each label one group."""
    if label is None:
        return False
    pairs = len(np.unique(np.stack([code, label], axis=1), axis=0))
    return pairs == len(np.unique(code)) == len(np.unique(label))


def repeated(ids: pa.Array, outputs: Iterable[Outputs], label: I64 | None = None) -> str | None:
    """A note where most samples have a twin: the same log-odds, to the last bit, of every model that has some, and the
    same classes and label. None for outputs that are only coarse: few values, or one that many samples share."""
    everyone = list(outputs)
    scores = [one.log_odds for one in everyone if one.log_odds is not None]
    n = len(ids)
    if not scores or n < FEWEST or (distinct := len(np.unique(scores[0]))) > 0.75 * n:
        return None
    others = [one.prediction for one in everyone] + ([] if label is None else [label])
    rows = np.stack([*scores, *(np.asarray(column, np.float64) for column in others)], axis=1)
    _, first, member, sizes = np.unique(rows, axis=0, return_index=True, return_inverse=True, return_counts=True)
    member = member.reshape(-1)
    twins = sizes[member] >= 2
    coarse = distinct < 0.9 * len(sizes) or sizes.max() > max(0.02 * n, 2)  # samples that share a score are others
    if coarse or twins.mean() <= 0.5 or len(sizes) < FEWEST / 2:
        return None
    copy = int(np.flatnonzero(twins & (first[member] != np.arange(n)))[0])
    return (
        f"{int(twins.sum()):,} of {n:,} samples have the very outputs of another one ({ids[copy]!s} and "
        f"{ids[int(first[member[copy]])]!s}): if they are one sample, keep them together with --group-by; "
        "--group-by none says that they are independent"
    )
