"""``arrays:FILE.npz``: samples that are rows of an array, as ``numpy.savez`` writes them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pilotfish.data.array_labels import column_of, read_labels, read_many, strings
from pilotfish.data.dataset import Labels, digest
from pilotfish.errors import DataError, one_line
from pilotfish.reading.columns import find, shown, unread_note
from pilotfish.reading.npz import Npz, array_header, load_member, map_member, open_npz

SAMPLE_KEYS = ("x", "images", "data", "inputs")
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
    notes: tuple[str, ...] = ()
    truth: Any = field(default=None, repr=False)
    task: str = "classes"

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, i: int) -> npt.NDArray[Any]:
        # a copy in the machine's byte order: torch takes no other, and the file may be closed to writing
        return np.array(self.samples[i], dtype=self.samples.dtype.newbyteorder("="), order="C")


def load_arrays(path: str | Path) -> ArrayDataset:
    """Open the ``.npz`` file *path*; its samples stay on disk where the file is uncompressed.

    Arrays: the samples (N, ...), numbers, under ``x``, ``images``, ``data`` or ``inputs``; perhaps ``label`` (N,),
    class indices with -1 or NaN for an unlabelled sample, truth values, one-hot rows, or class names, or (N, C), 0 or 1
    for each of several labels (then the data are of task labels, with a ``truth``); perhaps ``id`` (N,), distinct
    strings or integers (else the row's index); perhaps ``class_names``, strings by class index. The usual synonyms
    are read (``reading.columns.ROLES``); ``notes`` says what was assumed, and what was not read.

    The fingerprint covers the checksums that the file keeps of these arrays.

    Raises ``DataError`` for anything else, pickled arrays included.
    """
    file = Path(os.path.expanduser(path))
    if os.path.isdir(file):
        raise DataError(f"arrays:{path} is a folder; expected an .npz file, or write folder:{path}")
    if file.suffix.lower() == ".npy":
        raise DataError(f"arrays:{path} is a single array; expected an .npz file: numpy.savez('data.npz', x=…)")
    npz = open_npz(file)
    headers = {key: array_header(npz, key) for key in npz.members}
    columns = [key for key, (shape, _) in headers.items() if len(shape) == 1 or shape[1:] == (1,)]
    sample_key = find(str(file), [key for key in headers if key not in columns], "samples", DataError)
    sample_key = sample_key or find(str(file), columns, "samples", DataError)
    if sample_key is None:
        found = shown(npz.members) if npz.members else "nothing"
        raise DataError(f"{file} has no samples: found {found}; expected one of {', '.join(SAMPLE_KEYS)}")
    samples = _samples(npz, sample_key)
    others = [key for key in npz.members if key != sample_key]
    label_key = find(str(file), others, "label", DataError)
    texts = [key for key in columns if headers[key][1].kind in "USO" and key not in (sample_key, label_key)]
    names_key = find(str(file), texts, "class_names", DataError)
    if names_key is None and NAMES_KEY in others:
        names_key = NAMES_KEY
    id_key = find(str(file), [key for key in columns if key not in (sample_key, label_key, names_key)], "id", DataError)
    class_names = None if names_key is None else _class_names(npz, names_key)
    labels: Labels | None = None
    notes: tuple[str, ...] = ()
    truth = None if label_key is None else read_many(npz, label_key, len(samples))
    if truth is not None:
        notes = (f"{label_key!r} has a 0 or 1 for each class: read as several labels for a sample",)
        if class_names is not None and len(class_names) != truth.shape[1]:
            raise DataError(
                f"{file}: {label_key} has {truth.shape[1]} columns and there are {len(class_names)} {names_key}; "
                "expected a name for each"
            )
    elif label_key is not None:
        labels, class_names, notes = read_labels(npz, label_key, len(samples), class_names)
    ids = _ids(npz, id_key, len(samples)) if id_key is not None else tuple(map(str, range(len(samples))))
    if labels is not None and class_names is not None and labels.max() >= len(class_names):
        raise DataError(
            f"{file}: the largest label is {labels.max()} and there are {len(class_names)} {names_key}; "
            "expected a name for each class"
        )
    used = [key for key in (sample_key, label_key, id_key, names_key) if key is not None]
    parts = (f"{key}\0{npz.members[key].CRC}\0{npz.members[key].file_size}\n".encode() for key in used)
    notes += unread_note(file.name, (key for key in npz.members if key not in used))
    more: Any = {} if truth is None else {"truth": truth, "task": "labels"}
    identity = digest(parts, labels if truth is None else truth, class_names)
    return ArrayDataset(f"arrays:{path}", samples, ids, labels, class_names, identity, notes, **more)


def _samples(npz: Npz, key: str) -> npt.NDArray[Any]:
    samples = map_member(npz, key)
    if samples.dtype.kind not in "biuf":
        raise DataError(f"{npz.path}: {key} has the dtype {samples.dtype}; expected numbers")
    if samples.ndim < 2:
        raise DataError(f"{npz.path}: {key} has the shape {samples.shape}; expected one sample per row, (N, ...)")
    if samples.size == 0:
        raise DataError(f"{npz.path}: {key} has the shape {samples.shape}, so no samples; expected at least one")
    return samples


def _ids(npz: Npz, key: str, n: int) -> tuple[str, ...]:
    ids = strings(npz, column_of(npz, key, n), key)
    if len(set(ids)) < n:
        values, counts = np.unique(np.array(ids), return_counts=True)
        twice = str(values[np.argmax(counts)])
        raise DataError(f"{npz.path}: the {key} {one_line(twice)} occurs {counts.max()} times; expected distinct ids")
    return ids


def _class_names(npz: Npz, key: str) -> tuple[str, ...]:
    column = load_member(npz, key)
    if column.ndim != 1:
        raise DataError(f"{npz.path}: {key} has the shape {column.shape}; expected (classes,)")
    return strings(npz, column, key)
