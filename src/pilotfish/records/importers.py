"""Predictions made elsewhere, as records: .npz, .csv, .parquet, and what timm's inference script writes."""

from __future__ import annotations

import datetime
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pilotfish.errors import RecordsError, UsageError
from pilotfish.records.cells import confidences, first_numbers, label_column, read_tabular, values_of, whole_numbers
from pilotfish.records.outputs import Outputs, bad_rows, from_logits, from_probabilities
from pilotfish.records.records import NO_LABEL, Records, RecordsMeta, check, string_ids

IMPORT_TOP_K = 10
NPZ_ARRAYS = ("probs", "logits", "prediction", "ranked")


def import_file(
    file: str | Path,
    model: str,
    split: str = "val",
    costs: Mapping[str, float] | None = None,
    format: str = "auto",
    labels: str | Path | None = None,
) -> Records:
    """Read predictions made elsewhere.

    file    .npz with ``probs`` or ``logits`` (N, C), or ``prediction`` (N) with or without ``confidence`` (N),
            or ``ranked`` (N, K) class ids, best first; ``label`` (N) and ``id`` (N) are optional. Or .csv/.parquet
            with columns id, prediction [, confidence] [, label]
    costs   cost per sample by key, such as ``{"macs": 3.9e8}``
    format  ``auto``, or ``timm`` for the files of timm's inference script
    labels  a .csv with the truth: an id column (id, filename or file) and ``label``

    Raises RecordsError for a file that does not hold this.
    """
    path = Path(file)
    if not path.is_file():
        raise RecordsError(f"{path}: no such file; expected .npz, .csv or .parquet")
    if format == "timm":
        ids, label, outputs, n_classes = _read_timm(path)
    elif format != "auto":
        raise UsageError(f"unknown format {format!r}; formats: auto, timm")
    elif path.suffix == ".npz":
        ids, label, outputs, n_classes = _read_npz(path)
    elif path.suffix in (".csv", ".parquet"):
        ids, label, outputs, n_classes = _read_columns(path)
    else:
        raise RecordsError(f"{path}: unknown file type {path.suffix or '(none)'}; expected .npz, .csv or .parquet")
    if labels is not None:
        label = _labels_for(ids, Path(labels))
    meta = RecordsMeta(
        model=model,
        split=split,
        source=f"imported:{path.name}",
        n_classes=n_classes,
        costs=checked_costs(costs or {}),
        store=f"top{outputs.top_classes.shape[1]}" if outputs.top_classes is not None else None,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    return check(Records(ids, label, outputs, meta))


def checked_costs(costs: Mapping[str, float]) -> dict[str, float]:
    """Costs as floats; UsageError for one that is not a finite number >= 0."""
    for key, value in costs.items():
        if not key or not np.isfinite(value) or value < 0:
            raise UsageError(f"cost {key!r} is {value}; a cost is a finite number of at least 0")
    return {key: float(value) for key, value in costs.items()}


Parsed = tuple[pa.Array, "np.ndarray[Any, np.dtype[np.int64]]", Outputs, int | None]


def _read_npz(path: Path) -> Parsed:
    try:
        loaded = np.load(path, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            raise RecordsError(f"{path}: holds one array without a name; write it with numpy.savez(file, probs=…)")
        with loaded as archive:
            found = list(archive.files)
            names = [name for name in NPZ_ARRAYS if name in found]
            if not names:
                raise RecordsError(
                    f"{path}: arrays {', '.join(found) or '(none)'}; expected one of {', '.join(NPZ_ARRAYS)}"
                )
            wanted = {*names, "label", "id", "confidence"} & set(found)
            arrays = {name: archive[name] for name in wanted}
    except MemoryError as error:
        raise RecordsError(f"{path}: an array claims more than the memory there is; is the file damaged?") from error
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        raise RecordsError(f"{path}: not a readable .npz file ({error})") from error
    except ValueError as error:
        if "pickle" in str(error).lower():
            raise RecordsError(
                f"{path}: holds pickled objects, which are refused because loading them can run code; "
                "save plain arrays of numbers and strings"
            ) from error
        raise RecordsError(f"{path}: not a readable .npz file ({error})") from error
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray) or array.ndim == 0:  # numpy hands out damaged members as bytes
            raise RecordsError(f"{path}: {name!r} is not an array whose first axis is the samples")
    main = arrays[names[0]]
    n_classes = int(main.shape[1]) if names[0] in ("probs", "logits") and main.ndim == 2 else None
    outputs = _outputs(path, names[0], main, arrays.get("confidence"))
    ids = string_ids(arrays["id"]) if "id" in arrays else string_ids(np.arange(len(main)))
    label = (
        whole_numbers(path, "label", arrays["label"]) if "label" in arrays else np.full(len(main), NO_LABEL, np.int64)
    )
    return ids, label, outputs, n_classes


def _outputs(path: Path, name: str, values: Any, confidence: Any) -> Outputs:
    if name == "prediction":
        prediction = whole_numbers(path, "prediction", values)
        return Outputs(prediction, confidence=None if confidence is None else confidences(path, confidence))
    if name == "ranked":
        if values.ndim != 2 or values.shape[1] == 0:
            raise RecordsError(f"{path}: 'ranked' has shape {values.shape}; expected (N, K) class ids, best first")
        ranked = whole_numbers(path, "ranked", values)
        return Outputs(ranked[:, 0].copy(), top_classes=ranked.astype(np.int32))
    if values.dtype.kind not in "fiu":
        raise RecordsError(f"{path}: {name!r} has dtype {values.dtype}; expected floating-point numbers")
    if name == "probs":
        return from_probabilities(values, top_k=IMPORT_TOP_K)
    if values.ndim == 2 and len(bad := bad_rows(values)):
        raise RecordsError(
            f"{path}: {len(bad)} rows of logits are not finite, row {bad[0]} the first; leave those samples out"
        )
    return from_logits(values, top_k=IMPORT_TOP_K)


def _read_columns(path: Path) -> Parsed:
    table = read_tabular(path)
    for needed in ("id", "prediction"):
        if needed not in table.column_names:
            raise RecordsError(
                f"{path}: columns {', '.join(table.column_names)}; expected id, prediction [, confidence] [, label]"
                + ("; timm's own files are read with --format timm" if "filename" in table.column_names else "")
            )
    prediction = whole_numbers(path, "prediction", values_of(path, table, "prediction"))
    confidence = confidences(path, values_of(path, table, "confidence")) if "confidence" in table.column_names else None
    return (
        string_ids(table.column("id")),
        label_column(path, table),
        Outputs(prediction, confidence=confidence),
        None,
    )


def _read_timm(path: Path) -> Parsed:
    """Files of timm's inference.py: ``filename``, ``index`` (or ``index_0``), ``prob`` (or ``prob_0``, ``logit``).

    Its ``label`` column is a predicted name, never the truth. Of several classes per row the first is used.
    """
    table = read_tabular(path)
    names = set(table.column_names)
    index = next((c for c in ("index", "index_0") if c in names), None)
    prob = next((c for c in ("prob", "prob_0") if c in names), None)
    if "filename" not in names or index is None:
        raise RecordsError(
            f"{path}: columns {', '.join(table.column_names)}; expected filename, index and prob, as timm's "
            "inference script writes with --include-index"
        )
    prediction = whole_numbers(path, index, first_numbers(path, table, index))
    confidence = None if prob is None else confidences(path, first_numbers(path, table, prob))
    outputs = Outputs(prediction, confidence=confidence)
    return string_ids(table.column("filename")), np.full(table.num_rows, NO_LABEL, np.int64), outputs, None


def _labels_for(ids: pa.Array, path: Path) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Labels from a file, joined by id; a sample the file does not name has none."""
    if not path.is_file():
        raise RecordsError(f"{path}: no such file; --labels takes a .csv with columns id (or filename, file) and label")
    table = read_tabular(path)
    key = next((c for c in ("id", "filename", "file") if c in table.column_names), None)
    if key is None or "label" not in table.column_names:
        raise RecordsError(
            f"{path}: columns {', '.join(table.column_names)}; expected id (or filename, file) and label"
        )
    label = label_column(path, table)
    keys = string_ids(table.column(key))
    if (twice := len(keys) - len(keys.unique())) > 0:
        raise RecordsError(f"{path}: {twice} ids in column {key!r} stand more than once; each sample has one label")
    where = pc.index_in(ids, value_set=keys)
    if where.null_count == len(ids):  # timm writes base names unless asked for full paths
        base_names = pc.replace_substring_regex(keys, pattern=r".*/", replacement="")
        if len(base_names.unique()) == len(base_names):
            where = pc.index_in(ids, value_set=base_names)
    if where.null_count == len(ids):
        raise RecordsError(f"{path}: names none of the {len(ids)} samples ({ids[0]!s}, …); its ids are {keys[0]!s}, …")
    rows = np.asarray(where.fill_null(-1))
    return np.where(rows >= 0, label[rows], NO_LABEL)
