"""Which array of a file of predictions is what: outputs, prediction, confidence, truth, ids, and what is left over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pilotfish.errors import RecordsError
from pilotfish.reading.columns import find, plain, shown, unread_note
from pilotfish.reading.npz import array_header, load_member, open_npz
from pilotfish.records.cells import confidences, values_of, whole_numbers
from pilotfish.records.class_numbers import Column
from pilotfish.records.foreign_outputs import read_outputs
from pilotfish.records.records import string_ids
from pilotfish.scores.outputs import Outputs
from pilotfish.text import quantity

NPZ_ARRAYS = ("probs", "logits", "prediction", "ranked")


@dataclass(frozen=True)
class Parsed:
    """A file's content before classes are numbered: either *outputs*, or a *prediction* perhaps with *confidence*."""

    ids: pa.Array
    truth: Column | None
    outputs: Outputs | None = None
    prediction: Column | None = None
    confidence: NDArray[np.float64] | None = None
    n_classes: int | None = None
    class_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class NamedArrays:
    """What is in a file: names of arrays (N, …) and (N,), and how to get one."""

    path: Path
    matrices: list[str]
    vectors: list[str]
    raw: Callable[[str], Any]
    expected: str
    used: list[str] = field(default_factory=list)
    _known: dict[str, NDArray[Any]] = field(default_factory=dict)

    def values(self, name: str) -> NDArray[Any]:
        if name not in self._known:
            raw = self.raw(name)
            if isinstance(raw, np.ndarray) and raw.ndim == 0:
                raise RecordsError(f"{self.path}: {name!r} is not an array whose first axis is the samples")
            self._known[name] = values_of(self.path, name, raw)
        return self._known[name]

    def same(self, a: str, b: str) -> bool:
        x, y = self.values(a), self.values(b)
        return x.shape == y.shape and bool(np.array_equal(x, y, equal_nan=x.dtype.kind == y.dtype.kind == "f"))

    def find(self, role: str, names: list[str], same: bool = False) -> str | None:
        left = [name for name in names if name not in self.used]
        return find(str(self.path), left, role, RecordsError, self.same if same else None)


def npz_arrays(path: Path) -> tuple[NamedArrays, tuple[str, ...] | None]:
    """(what is in an ``.npz`` file, the class names that it gives)."""
    npz = open_npz(path, RecordsError)
    headers = {name: array_header(npz, name) for name in npz.members}
    matrices = [name for name, (shape, _) in headers.items() if len(shape) > 1 and shape[1:] != (1,)]
    vectors = [name for name in headers if name not in matrices]
    texts = [name for name in vectors if headers[name][1].kind in "US"]
    file = NamedArrays(path, matrices, vectors, lambda name: load_member(npz, name), f"arrays {shown(headers)}")
    if (name := file.find("class_names", texts)) is None:
        return file, None
    file.used.append(name)
    return file, tuple(string_ids(file.raw(name)).to_pylist())


def assigned(
    file: NamedArrays, class_names: tuple[str, ...] | None, notes: tuple[str, ...] = (), table: bool = False
) -> Parsed:
    """Each array to its role: the outputs, or a prediction with its confidence; the truth; the ids."""
    path, outputs, n_classes, prediction, confidence = file.path, None, None, None, None
    main, kind = _main(file, table)
    file.used.append(main)
    if kind == "prediction":
        prediction = (main, file.values(main))
        if prediction[1].ndim != 1:
            raise RecordsError(f"{path}: {main!r} has shape {prediction[1].shape}; expected one class for each sample")
        if (name := file.find("confidence", file.vectors, same=True)) is not None:
            file.used.append(name)
            confidence = confidences(path, name, file.values(name))
            if "logit" in plain(name):
                notes += (f"{name!r} is kept as a confidence of unknown scale: one logit is no probability",)
    elif kind == "ranked":
        outputs, said = _ranked(path, main, file.values(main))
        notes += said
    else:
        if kind == "probs" and np.ndim(raw := file.raw(main)) == 1 and not table:
            raise RecordsError(
                f"{path}: {main!r} has shape {np.shape(raw)}; expected (N, C), or (N, 1) for the second of two classes"
            )
        outputs, n_classes, said = read_outputs(path, main, file.values(main), kind)
        notes += said
    n = len(file.values(main))
    if class_names is not None and n_classes is not None and len(class_names) != n_classes:
        raise RecordsError(
            f"{path}: {quantity(len(class_names), 'class name')} for {n_classes} classes; expected one for each"
        )
    truth = file.find("label", [*file.vectors, *file.matrices], same=True)
    if truth is not None:
        file.used.append(truth)
    ids, said = ids_of(file, n, table)
    notes += said
    left = [name for name in (*file.vectors, *file.matrices) if name not in file.used]
    if outputs is not None and (other := file.find("prediction", file.vectors)) is not None:
        notes += _disagreement(file, other, main, outputs)
    return Parsed(
        ids,
        None if truth is None else (truth, file.values(truth)),
        outputs,
        prediction,
        confidence,
        n_classes,
        class_names,
        (*notes, *unread_note(path.name, left)),
    )


def _main(file: NamedArrays, table: bool) -> tuple[str, str]:
    """(name, kind) of the array that says most of the model's answers."""
    prediction = file.find("prediction", file.vectors, same=True)
    if table and prediction is not None and file.find("confidence", [n for n in file.vectors if n != prediction], True):
        return prediction, "prediction"
    for kind in ("probs", "logits"):
        if (name := file.find(kind, file.matrices)) is not None:
            return name, kind
    if prediction is not None:
        return prediction, "prediction"
    if (name := file.find("ranked", file.matrices)) is not None or (name := file.find("ranked", file.vectors)):
        return name, "ranked"
    if (name := file.find("outputs", file.matrices)) is not None:
        whole = plain(name).startswith(("pred", "ypred")) and file.values(name).dtype.kind in "iu"
        return name, "prediction" if whole else "outputs"
    if not table:  # a column of a table is a confidence, and says nothing without its prediction
        for kind in ("logits", "probs"):
            if (name := file.find(kind, file.vectors)) is not None:
                return name, kind
    wanted = "id, prediction [, confidence] [, label]" if table else f"one of {', '.join(NPZ_ARRAYS)}"
    answer = file.find("label", file.vectors, same=True) if table else None
    hint = "" if answer is None else f"; if {answer!r} is what the model answered, call it prediction"
    if table and len(file.vectors) > 2:
        hint += "; a column for each class is called prob_0, prob_1, … (or logit_0, …) in class order"
    raise RecordsError(f"{file.path}: {file.expected}; expected {wanted}{hint}")


def _ranked(path: Path, name: str, values: NDArray[Any]) -> tuple[Outputs, tuple[str, ...]]:
    if values.ndim != 2 or values.shape[1] == 0:
        raise RecordsError(f"{path}: {name!r} has shape {values.shape}; expected (N, K) class ids, best first")
    ranked = whole_numbers(path, name, values)
    if ranked.size and int(ranked.max()) > np.iinfo(np.int32).max:
        row = int(np.argmax(ranked.max(axis=1)))
        raise RecordsError(f"{path}: {name!r} of row {row} has class {ranked.max()}; classes up to 2^31 - 1 are kept")
    return Outputs(ranked[:, 0].copy(), top_classes=ranked.astype(np.int32)), ()


def ids_of(file: NamedArrays, n: int, table: bool) -> tuple[pa.Array, tuple[str, ...]]:
    """(the ids of *n* samples, their places where the file has none; notes)."""
    name = file.find("id", file.vectors)
    if name is None:
        if unfit := [name for name in file.matrices if plain(name) in ("id", "ids", "filename", "file")]:
            string_ids(file.raw(unfit[0]))  # says what is wrong with them
        ids = string_ids(np.arange(n))
        if not table:  # arrays are in the order of the data, as documented
            return ids, ()
        said = f"{file.path.name} has no column id: samples are called by their row, 0 to {n - 1}"
        return ids, (f"{said}, so all files of a run need the same rows in the same order",)
    file.used.append(name)
    ids = string_ids(file.raw(name))
    if len(ids) and (empty := np.asarray(pc.equal(ids, ""))).any():
        raise RecordsError(
            f"{file.path}: {quantity(int(empty.sum()), 'id is', 'ids are')} empty, row {int(empty.argmax())} the first"
        )
    if plain(name) in ("", "unnamed0", "indexlevel0", "index", "idx", "name"):
        return ids, (f"{shown([name])} is read as the column id",)
    return ids, ()


def _disagreement(file: NamedArrays, name: str, main: str, outputs: Outputs) -> tuple[str, ...]:
    """What a prediction says that stands beside the outputs it should follow from."""
    values = file.values(name)
    if values.dtype.kind not in "iuf" or values.shape != outputs.prediction.shape:
        return ()
    differ = int((values != outputs.prediction).sum())
    return (
        (f"{name!r} differs from the largest of {main!r} in {differ:,} of {quantity(len(values), 'row')}",)
        if differ
        else ()
    )
