"""Predictions made elsewhere, as records: .npz, .csv, .parquet, .json, and what timm's inference script writes."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pilotfish.errors import RecordsError, UsageError
from pilotfish.reading.coco_json import looks_like_coco
from pilotfish.reading.columns import find, shown, unread_note
from pilotfish.reading.npz import load_member, open_npz
from pilotfish.records.cells import confidences, first_numbers, values_of, whole_numbers
from pilotfish.records.class_numbers import numbered
from pilotfish.records.coco import import_coco
from pilotfish.records.count_import import holds_counts, import_counts
from pilotfish.records.groups import GroupBy, import_groups
from pilotfish.records.label_import import implied, import_labels
from pilotfish.records.records import MAX_COST, Records, RecordsMeta, check, string_ids
from pilotfish.records.roles import NPZ_ARRAYS, NamedArrays, Parsed, assigned, npz_arrays
from pilotfish.records.tabular import TABULAR, read_tabular
from pilotfish.records.truth import truth_for
from pilotfish.scores.outputs import Outputs
from pilotfish.tasks import BOXES, CLASSES, LABELS, MASK, NO_LABEL, Task, find_task

FORMATS = ("auto", "timm", "coco")


def import_file(
    file: str | Path,
    model: str,
    split: str = "val",
    costs: Mapping[str, float] | None = None,
    format: str = "auto",
    labels: str | Path | None = None,
    group_by: GroupBy | None = None,
    task: str | None = None,
    classes: Sequence[str] | None = None,
    images: str | Path | None = None,
) -> Records:
    """Read predictions made elsewhere.

    file    .npz with ``probs`` or ``logits`` (N, C), or ``prediction`` (N) with or without ``confidence`` (N),
            or ``ranked`` (N, K) class ids, best first; ``label`` (N) and ``id`` (N) are optional; or ``intersection``
            and ``union`` (N, C) and ``score`` (N) of task mask, see :mod:`pilotfish.records.count_import`. Or .csv,
            .tsv, .parquet or .json with columns id, prediction [, confidence] [, label]. The usual synonyms are read
            (``columns.ROLES``)
    costs   cost per sample by key, such as ``{"macs": 3.9e8}``
    format  ``auto``, ``timm`` for the files of timm's inference script, or ``coco`` for COCO's list of results (a .json
            whose rows have ``bbox``)
    labels  a table with the truth: an id column (id, filename or file) and ``label``; for COCO's results its instances
    images  for COCO's results without *labels*: a file with the ids of all images, one a line
    task    what an answer is, by name; None: as the file has it, else classes. Of labels see
            :func:`pilotfish.records.label_import.import_labels`; of other tasks the file has the task's own columns (or
            arrays), and ``id`` and ``label`` as above
    classes  class names of other records of the same samples, in their order: a file that has names and no numbers is
            numbered as they are, and names of its own come after them

    What was assumed, and what was not read, is in ``meta.notes``. Raises RecordsError for a file that does not hold
    this.
    """
    path = Path(file)
    suffix = path.suffix.lower()
    if not path.is_file():
        raise RecordsError(f"{path}: no such file; expected .npz, .csv, .parquet or .json")
    if format not in FORMATS:
        raise UsageError(f"unknown format {format!r}; formats: {', '.join(FORMATS)}")
    if format == "coco" or (format == "auto" and looks_like_coco(path)):
        if task not in (None, CLASSES.name, BOXES.name):
            raise UsageError(f"{path} holds boxes, which are of task {BOXES.name}, not of {task}")
        meta = RecordsMeta(model, split, costs=checked_costs(costs or {}), task=BOXES.name)
        records = import_coco(path, meta, *(None if name is None else Path(name) for name in (labels, images)))
        return records if group_by is None else import_groups(records, group_by, (path, None))
    if task == BOXES.name:
        raise UsageError(f"{path}: boxes are read from COCO's list of results, a .json: --format coco")
    if images is not None:
        raise UsageError(f"--images names the images of COCO's results, and {path} is none; leave it out")
    if suffix not in (*TABULAR, *((".npz",) if format == "auto" else ())):
        raise RecordsError(
            f"{path}: unknown file type {path.suffix or '(none)'}; expected .npz, .csv, .tsv, .parquet, .json or .jsonl"
        )
    arrays = npz_arrays(path) if suffix == ".npz" else None
    guessed: tuple[str, ...] = ()
    if task is None:
        of_labels = arrays is not None and implied(arrays[0])
        task = MASK.name if holds_counts(path) else LABELS.name if of_labels else CLASSES.name
        if task == LABELS.name:
            guessed = ("the labels are 0 or 1 for each class: read as several labels for a sample (task labels)",)
    if (kind := find_task(task)) is not CLASSES:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        meta = RecordsMeta(model, split, costs=checked_costs(costs or {}), task=task, created=now)
        meta = replace(meta, source=f"imported:{path.name}")
        if kind is LABELS:
            truth_file = None if labels is None else Path(labels)
            records = import_labels(path, replace(meta, notes=guessed), truth_file, classes)
        elif kind is MASK:
            if labels is not None:
                raise UsageError(f"{path} holds counts beside the truth: leave --labels out")
            records = import_counts(path, meta)
        else:
            records = _of_task(path, kind, meta, labels)
        return records if group_by is None else import_groups(records, group_by, (path, labels))
    found = _read_timm(path) if format == "timm" else _read_columns(path) if arrays is None else assigned(*arrays)
    truth, notes = found.truth, found.notes
    if labels is not None:
        if truth is not None:
            notes += (f"column {truth[0]!r} of {path.name} is not read: the truth comes from --labels",)
        truth, said = truth_for(found.ids, Path(labels))
        notes += said
    answers = found.prediction, found.n_classes, found.class_names
    label, prediction, names, said = numbered(path, truth, *answers, known=classes)
    notes += said
    outputs = found.outputs
    if prediction is not None:
        outputs = Outputs(prediction, confidence=found.confidence)
    if outputs is None:
        raise RecordsError(f"{path}: no predictions; expected one of {', '.join(NPZ_ARRAYS)}")
    meta = RecordsMeta(
        model=model,
        split=split,
        source=f"imported:{path.name}",
        n_classes=found.n_classes if names is None else len(names),
        class_names=names,
        costs=checked_costs(costs or {}),
        store=f"top{outputs.top_classes.shape[1]}" if outputs.top_classes is not None else None,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        notes=notes,
    )
    if label is None:
        label = np.full(len(outputs), NO_LABEL, np.int64)
    records = check(Records(found.ids, label, outputs, meta))
    return records if group_by is None else import_groups(records, group_by, (path, labels))


def _of_task(path: Path, task: Task, meta: RecordsMeta, labels: str | Path | None) -> Records:
    """Answers of *task* in its own columns."""
    notes: tuple[str, ...] = ()
    columns: dict[str, Any]
    if path.suffix.lower() == ".npz":
        npz = open_npz(path, RecordsError)
        columns = {name: load_member(npz, name) for name in npz.members}
    else:
        table, notes = read_tabular(path)
        columns = dict(zip(table.column_names, table.columns, strict=True))
    arrays = {}
    for field, column in task.columns.items():
        if column.name in columns:
            values = values_of(path, column.name, columns.pop(column.name))
            if values.dtype.kind not in "biuf":
                raise RecordsError(f"{path}: column {column.name!r} holds texts; expected numbers")
            arrays[field] = values.astype(column.dtype)
    if lacking := [column.name for f, column in task.columns.items() if f not in arrays and not column.optional]:
        raise RecordsError(f"{path}: no {lacking[0]!r} among {shown(columns)}; expected what task {task.name} answers")
    outputs = task.outputs(**arrays)
    key = find(str(path), list(columns), "id", RecordsError)
    ids = string_ids(np.arange(len(outputs)) if key is None else columns.pop(key))
    name = find(str(path), list(columns), "label", RecordsError)
    truth = None if name is None else values_of(path, name, columns.pop(name))
    notes += unread_note(path.name, list(columns))
    if labels is not None:
        if name is not None:
            notes += (f"column {name!r} of {path.name} is not read: the truth comes from --labels",)
        (name, truth), said = truth_for(ids, Path(labels))
        notes += said
    if truth is not None and truth.dtype.kind not in "iuf":
        raise RecordsError(f"{path}: the labels in {name!r} are texts, and task {task.name} takes numbers")
    return check(Records(ids, task.truth(truth, len(outputs)), outputs, replace(meta, notes=notes)))


def checked_costs(costs: Mapping[str, float]) -> dict[str, float]:
    """Costs as floats; UsageError for one that is not a finite number >= 0."""
    for key, value in costs.items():
        if not key or not 0 <= value <= MAX_COST:
            raise UsageError(
                f"cost {key!r} is {value}; a cost is a finite number of at least 0 (and {MAX_COST:g} at most)"
            )
    return {key: float(value) for key, value in costs.items()}


def _read_columns(path: Path) -> Parsed:
    table, notes = read_tabular(path)
    columns = dict(zip(table.column_names, table.columns, strict=True))
    expected = f"columns {shown(columns)}"
    prediction = find(str(path), list(columns), "prediction", RecordsError, lambda *_: True)
    ranks = [name for name in columns if re.fullmatch(r"(index|label)(_\d+)?", name)]
    if prediction is None and "filename" in columns and any(name.startswith("index") for name in ranks):
        raise RecordsError(
            f"{path}: {expected}; expected id, prediction [, confidence] [, label]; timm's own files are read with "
            "--format timm"
        )
    others = [name for name in columns if name != prediction and name not in _lists_as_text(columns)]
    sure = prediction is not None and find(str(path), others, "confidence", RecordsError, lambda *_: True) is not None
    if not sure and not any(name.endswith("_0") for name in ranks):  # else prob_0, prob_1 are of ranks, not of classes
        for name in _lists_as_text(columns):
            columns[name] = _numbers_in(path, name, columns[name])
        for kind, parts in _numbered_columns(list(columns)):
            columns[kind] = np.stack([values_of(path, name, columns.pop(name)) for name in parts], axis=1)
    nested = [name for name, column in columns.items() if isinstance(column, np.ndarray) or _is_list(column.type)]
    file = NamedArrays(path, nested, [name for name in columns if name not in nested], columns.__getitem__, expected)
    return assigned(file, None, notes, table=True)


def _lists_as_text(columns: Mapping[str, Any]) -> list[str]:
    """Names of the columns of outputs whose cells are the text of lists, "[0.1, 0.9]", as pandas writes arrays."""
    roles = [
        find("", [name], role, RecordsError) for role in ("probs", "logits", "outputs", "ranked") for name in columns
    ]
    texts = [name for name in dict.fromkeys(roles) if name is not None and pa.types.is_string(columns[name].type)]
    return [name for name in texts if len(columns[name]) and str(columns[name][0]).startswith(("[", "("))]


def _numbers_in(path: Path, name: str, column: Any) -> NDArray[Any]:
    cells = pc.replace_substring_regex(column, pattern=r"[\s,;\[\]()]+", replacement=" ").to_pylist()
    lengths = {len((cell or "").split()) for cell in cells}
    try:
        flat = np.array(" ".join(cells).split(), np.float64)
    except (ValueError, TypeError):
        raise RecordsError(f"{path}: column {name!r} holds lists that are not numbers throughout") from None
    if len(lengths) != 1:
        raise RecordsError(f"{path}: column {name!r} holds lists of different lengths; every row needs equally many")
    return flat.reshape(len(cells), -1)


def _is_list(kind: Any) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _numbered_columns(names: list[str]) -> Iterator[tuple[str, list[str]]]:
    """(role, columns) of what stands in a column for each class: prob_0, prob_1, …"""
    kinds = {"prob": "probs", "probs": "probs", "p": "probs", "proba": "probs", "probability": "probs"}
    kinds |= {"logit": "logits", "logits": "logits", "score": "scores", "output": "outputs"}
    for prefix, kind in kinds.items():
        places = {
            int(m[1]): name for name in names if (m := re.fullmatch(rf"{prefix}[_.\- ]?(\d{{1,6}})", name.lower()))
        }
        if len(places) > 1 and sorted(places) == list(range(len(places))) and kind not in names:
            yield kind, [places[k] for k in range(len(places))]


def _read_timm(path: Path) -> Parsed:
    """Files of timm's inference.py: ``filename``, ``index`` (or ``index_0``), ``prob`` or ``logit`` (or ``prob_0`` …).

    Its ``label`` column is a predicted name, never the truth. Of several classes per row the first is used.
    """
    table, notes = read_tabular(path)
    names = table.column_names
    index = next((c for c in ("index", "index_0") if c in names), None)
    score = next((c for c in ("prob", "prob_0", "logit", "logit_0") if c in names), None)
    key = find(str(path), [name for name in names if name not in (index, score)], "id", RecordsError)
    if key is None or index is None:
        raise RecordsError(
            f"{path}: columns {shown(names)}; expected filename, index and prob, as timm's inference script writes "
            "with --include-index"
        )
    prediction = whole_numbers(path, index, first_numbers(path, index, table.column(index)))
    confidence = None
    if score is not None:
        confidence = confidences(path, "confidence", first_numbers(path, score, table.column(score)))
        if score.startswith("logit"):
            said = f"{score!r} is kept as a confidence of unknown scale: one logit is no probability"
            notes += (f"{said} (--output-type prob writes those)",)
    own = re.compile(r"(index|label|prob|logit)(_\d+)?")
    left = [name for name in names if name != key and not own.fullmatch(name)]
    return Parsed(
        string_ids(table.column(key)),
        None,
        prediction=(index, prediction),
        confidence=confidence,
        notes=(*notes, *unread_note(path.name, left)),
    )
