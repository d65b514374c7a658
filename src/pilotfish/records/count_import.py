"""Segmentation made elsewhere: pixels per class in an .npz file, as records."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import RecordsError
from pilotfish.reading.columns import find, shown, unread_note
from pilotfish.reading.npz import array_header, load_member, open_npz
from pilotfish.records.cells import values_of
from pilotfish.records.records import Records, RecordsMeta, check, string_ids
from pilotfish.tasks.mask import KNOWN, UNKNOWN
from pilotfish.tasks.mask_answers import Masks

COUNTS = ("intersection", "union")
MOST = 2**53
EXPECTED = "expected intersection and union (N, C), pixels per image and class, and score (N)"


def holds_counts(path: Path) -> bool:
    """Whether an .npz file has both arrays of counts."""
    return path.suffix.lower() == ".npz" and all(name in open_npz(path, RecordsError).members for name in COUNTS)


def import_counts(path: Path, meta: RecordsMeta) -> Records:
    """Counts ``intersection`` and ``union`` (N, C) beside the truth, with ``score`` (N), larger where an image is safer
    to exit; without one the model can be a base alone. ``id`` (N) and ``classes`` (C) are optional.

    An image of which no pixel counts is left out where others are measured. RecordsError, with row and class, for what
    cannot be counts, and for scores that are no numbers.
    """
    if path.suffix.lower() != ".npz":
        raise RecordsError(f"{path}: segmentation is imported from an .npz file; {EXPECTED}")
    npz = open_npz(path, RecordsError)
    names = list(npz.members)
    if lacking := [name for name in COUNTS if name not in names]:
        headers = {name: array_header(npz, name) for name in names}
        raise RecordsError(f"{path}: no {lacking[0]!r} among {shown(headers)}; {EXPECTED}")
    both, either = (_counts(path, name, load_member(npz, name)) for name in COUNTS)
    if both.shape != either.shape:
        raise RecordsError(f"{path}: intersection is {both.shape} and union {either.shape}; both are (N, C)")
    n, classes = both.shape
    left = [name for name in names if name not in COUNTS]
    score = None
    if "score" in left:
        score = values_of(path, "score", load_member(npz, "score"))
        left.remove("score")
        if score.shape != (n,) or score.dtype.kind not in "biuf":
            raise RecordsError(f"{path}: score is {score.dtype} {score.shape}; expected {n} numbers, one per image")
        score = score.astype(np.float64)
        if np.isnan(score).any():
            row = int(np.flatnonzero(np.isnan(score))[0])
            raise RecordsError(f"{path}: the score of row {row} is NaN; an image without an answer has no row")
    key, called = (find(str(path), left, role, RecordsError) for role in ("id", "class_names"))
    called = "classes" if called is None and "classes" in left else called
    ids = string_ids(np.arange(n) if key is None else load_member(npz, key))
    named = None if called is None else tuple(string_ids(load_member(npz, called)).to_pylist())
    if named is not None and len(named) != classes:
        raise RecordsError(f"{path}: {len(named)} names in {called!r} and counts of {classes} classes")
    known = np.where(either.any(axis=1), KNOWN, UNKNOWN)
    outputs = Masks(both, either, score=score)
    notes = unread_note(path.name, [name for name in left if name not in (key, called)])
    if score is None:
        notes += (f"{path.name} has no score (N): the model can be a base, not a saver",)
    meta = replace(meta, n_classes=classes, class_names=named, notes=notes)
    return check(Records(ids, known, outputs, meta))


def _counts(path: Path, name: str, array: NDArray[Any]) -> NDArray[np.int64]:
    if array.ndim != 2 or not array.size or array.dtype.kind not in "iuf":
        raise RecordsError(f"{path}: {name} is {array.dtype} {array.shape}; {EXPECTED}")
    with np.errstate(invalid="ignore"):
        wrong = ~(np.isfinite(array) & (np.floor(array) == array) & (np.abs(array) <= MOST))
    if wrong.any():
        row, c = (int(at[0]) for at in np.nonzero(wrong))
        raise RecordsError(f"{path}: {name} of row {row}, class {c} is {array[row, c]}; pixels are whole numbers")
    return array.astype(np.int64)
