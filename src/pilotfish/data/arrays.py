"""``arrays:FILE.npz``: samples that are rows of an array, as ``numpy.savez`` writes them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pilotfish.data.dataset import UNLABELLED, Labels, digest, labels_or_none
from pilotfish.errors import DataError, one_line
from pilotfish.reading.npz import Npz, load_member, map_member, open_npz

SAMPLE_KEYS = ("x", "images", "data", "inputs")
LABEL_KEYS = ("label", "labels", "y")
ID_KEY = "id"
NAMES_KEY = "class_names"


@dataclass(frozen=True, eq=False)
class ArrayDataset:
    """Rows of *samples* (N, ...), which may be mapped from a file and of any byte order."""

    spec: str
    samples: npt.NDArray[Any] = field(repr=False)
    ids: Sequence[str] = field(repr=False)
    labels: Labels | None = field(repr=False)
    class_names: tuple[str, ...] | None = field(repr=False)
    fingerprint: str

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, i: int) -> npt.NDArray[Any]:
        # a copy in the machine's byte order: torch takes no other, and the file may be closed to writing
        return np.array(self.samples[i], dtype=self.samples.dtype.newbyteorder("="), order="C")


def load_arrays(path: str | Path) -> ArrayDataset:
    """Open the ``.npz`` file *path*; its samples stay on disk where the file is uncompressed.

    Arrays: the samples (N, ...), numbers, under ``x``, ``images``, ``data`` or ``inputs``; perhaps ``label``,
    ``labels`` or ``y`` (N,), class indices with -1 for an unlabelled sample; perhaps ``id`` (N,), distinct strings
    or integers (else the row's index); perhaps ``class_names``, strings by class index.

    The fingerprint covers the checksums that the file keeps of these arrays.

    Raises ``DataError`` for anything else, pickled arrays included.
    """
    file = Path(os.path.expanduser(path))
    if os.path.isdir(file):
        raise DataError(f"arrays:{path} is a folder; expected an .npz file, or write folder:{path}")
    if file.suffix.lower() == ".npy":
        raise DataError(f"arrays:{path} is a single array; expected an .npz file: numpy.savez('data.npz', x=…)")
    npz = open_npz(file)
    sample_key = _one_of(npz, SAMPLE_KEYS)
    if sample_key is None:
        found = one_line(", ".join(npz.members)) or "nothing"
        raise DataError(f"{file} has no samples: found {found}; expected one of {', '.join(SAMPLE_KEYS)}")
    label_key = _one_of(npz, LABEL_KEYS)
    samples = _samples(npz, sample_key)
    labels = None if label_key is None else _labels(npz, label_key, len(samples))
    ids = _ids(npz, len(samples)) if ID_KEY in npz.members else tuple(map(str, range(len(samples))))
    class_names = _class_names(npz, labels) if NAMES_KEY in npz.members else None
    used = [key for key in (sample_key, label_key, ID_KEY, NAMES_KEY) if key in npz.members]
    parts = (f"{key}\0{npz.members[key].CRC}\0{npz.members[key].file_size}\n".encode() for key in used if key)
    return ArrayDataset(f"arrays:{path}", samples, ids, labels, class_names, digest(parts, labels, class_names))


def _one_of(npz: Npz, keys: Sequence[str]) -> str | None:
    found = [key for key in keys if key in npz.members]
    if len(found) > 1:
        raise DataError(f"{npz.path} has {' and '.join(found)}, which mean the same; keep one of them")
    return found[0] if found else None


def _samples(npz: Npz, key: str) -> npt.NDArray[Any]:
    samples = map_member(npz, key)
    if samples.dtype.kind not in "biuf":
        raise DataError(f"{npz.path}: {key} has the dtype {samples.dtype}; expected numbers")
    if samples.ndim < 2:
        raise DataError(f"{npz.path}: {key} has the shape {samples.shape}; expected one sample per row, (N, ...)")
    if samples.size == 0:
        raise DataError(f"{npz.path}: {key} has the shape {samples.shape}, so no samples; expected at least one")
    return samples


def _column(npz: Npz, key: str, n: int) -> npt.NDArray[Any]:
    column = load_member(npz, key)
    if column.shape != (n,):
        raise DataError(f"{npz.path}: {key} has the shape {column.shape} for {n} samples; expected ({n},)")
    return column


def _labels(npz: Npz, key: str, n: int) -> Labels | None:
    column = _column(npz, key, n)
    if column.dtype.kind not in "biuf":
        raise DataError(
            f"{npz.path}: {key} has the dtype {column.dtype}; expected class indices (names go in {NAMES_KEY})"
        )
    values = column.astype(np.float64)  # exact up to 2^53, and no class index comes near
    wrong = ~((values >= UNLABELLED) & (values <= 2**53) & (values == np.floor(values)))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(
            f"{npz.path}: {key}[{row}] is {column[row]}; "
            "expected an integer class index from 0 up, or -1 for an unlabelled sample"
        )
    return labels_or_none(column.astype(np.int64))


def _ids(npz: Npz, n: int) -> tuple[str, ...]:
    ids = _strings(npz, _column(npz, ID_KEY, n), ID_KEY)
    if len(set(ids)) < n:
        values, counts = np.unique(np.array(ids), return_counts=True)
        twice = str(values[np.argmax(counts)])
        raise DataError(
            f"{npz.path}: the {ID_KEY} {one_line(twice)} occurs {counts.max()} times; expected distinct ids"
        )
    return ids


def _class_names(npz: Npz, labels: Labels | None) -> tuple[str, ...]:
    column = load_member(npz, NAMES_KEY)
    if column.ndim != 1:
        raise DataError(f"{npz.path}: {NAMES_KEY} has the shape {column.shape}; expected (classes,)")
    names = _strings(npz, column, NAMES_KEY)
    if labels is not None and labels.max() >= len(names):
        raise DataError(
            f"{npz.path}: the largest label is {labels.max()} and there are {len(names)} {NAMES_KEY}; "
            "expected a name for each class"
        )
    return names


def _strings(npz: Npz, column: npt.NDArray[Any], key: str) -> tuple[str, ...]:
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
