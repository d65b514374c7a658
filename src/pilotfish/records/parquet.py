"""Records as Parquet files: the columns, the metadata, reading and writing (see docs/records.md)."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pilotfish.documents import as_document, read_as
from pilotfish.errors import RecordsError
from pilotfish.files import atomic_path, decode_name, parse_json
from pilotfish.reading.columns import unread_note
from pilotfish.records.parquet_size import check_parquet, texts_as_dictionaries
from pilotfish.records.records import SCHEMA_VERSION, Records, RecordsMeta, check, string_ids
from pilotfish.scores.ragged import Ragged
from pilotfish.tasks.classes import CLASSES
from pilotfish.tasks.task import Column, Task, task_in
from pilotfish.text import quantity

META_KEY = b"pilotfish"
COMMON_COLUMNS = ("id", "label", "content", "group")


def record_columns(task: Task, everything: bool = False) -> list[str]:
    """Names of the columns that records of *task* may have: those that planning reads, or *everything*."""
    truth = [c.name for c in task.truth_columns.values()]
    names = [*COMMON_COLUMNS, *truth, *(c.name for c in task.columns.values() if c.planning or everything)]
    return list(dict.fromkeys(names))


def to_table(records: Records) -> pa.Table:
    """A pyarrow table with the columns of the schema."""
    task, label = records.task, records.label
    columns: dict[str, Any] = {"id": records.ids}
    if not task.truth_columns:
        columns["label"] = pa.array(label, pa.from_numpy_dtype(label.dtype), mask=~task.known(label))
    for field, column in task.truth_columns.items():
        columns[column.name] = _arrow(label if isinstance(label, np.ndarray) else getattr(label, field), column)
    for field, column in task.columns.items():
        if (values := getattr(records.outputs, field)) is not None:
            columns[column.name] = _arrow(values, column)
    texts = {"content": records.content, "group": records.group}
    columns |= {name: column for name, column in texts.items() if column is not None}
    return pa.table(columns)


def from_table(table: pa.Table, meta: RecordsMeta) -> Records:
    """The inverse of :func:`to_table`; tolerant of other integer and float widths, and of absent columns."""
    names = set(table.column_names)
    task = task_in(meta.task, f"the records of {meta.model}", RecordsError)
    for needed in ("id", *(column.name for column in task.columns.values() if not column.optional)):
        if needed not in names:
            raise RecordsError(f"{meta.model}: no column {needed!r} among {', '.join(table.column_names)}")

    if twice := [name for name, times in Counter(table.column_names).items() if times > 1]:
        raise RecordsError(f"{meta.model}: column {twice[0]!r} stands more than once; column names are unique")
    arrays: dict[str, Any] = {}
    for field, column in task.columns.items():
        if column.name in names:
            arrays[field] = _array(table.column(column.name), column, meta.model)
    content = _texts_in(table, "content", meta.model, missing="") if "content" in names else None
    group = _texts_in(table, "group", meta.model) if "group" in names else None
    truth = _truth(table, task, meta.model)
    return Records(string_ids(table.column("id")), truth, task.outputs(**arrays), meta, content, group)


def _array(values: pa.ChunkedArray, column: Column, model: str) -> Any:
    """A column as an array of its dtype, or as lists."""
    if values.null_count:
        raise RecordsError(
            f"{model}: column {column.name!r} has {values.null_count} missing values; a sample without an answer has "
            "no row"
        )
    where = f"{model}: column {column.name!r}"
    if column.dtype is object:
        if not (pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type)):
            raise RecordsError(f"{where}: expected bytes, found {values.type}")
        found = np.empty(len(values), object)
        found[:] = values.to_pylist()
        return found
    return _ragged(values, column, where) if column.ragged else _numbers(values, column.dtype, where)


def _ragged(values: pa.ChunkedArray, column: Column, where: str) -> Ragged:
    array = values.combine_chunks()
    if not (pa.types.is_list(array.type) or pa.types.is_large_list(array.type)):
        raise RecordsError(f"{where}: expected lists, found {array.type}")
    counts = np.diff(array.offsets.to_numpy())
    found = _numbers(pa.chunked_array([array.flatten()]), column.dtype, where)
    if found.ndim != column.dims:
        raise RecordsError(f"{where}: expected lists of {'lists' if column.dims == 2 else 'numbers'}")
    return Ragged.by_counts(found, counts)


def _truth(table: pa.Table, task: Task, model: str) -> Any:
    """The truth of every row, as the task has it."""
    if task.truth_columns:
        there = {f: c for f, c in task.truth_columns.items() if c.name in table.column_names}
        if not there or all(table.column(c.name).null_count == table.num_rows for c in there.values()):
            return task.unknown(table.num_rows)
        if lacking := [c.name for c in task.truth_columns.values() if c not in there.values()]:
            raise RecordsError(f"{model}: no column {lacking[0]!r} beside {next(iter(there.values())).name!r}")
        arrays = {field: _array(table.column(c.name), c, model) for field, c in there.items()}
        return next(iter(arrays.values())) if task.truth_of is None else task.truth_of(**arrays)
    names = set(table.column_names)
    label = table.column("label") if "label" in names else None
    if label is not None and not (pa.types.is_integer(label.type) or pa.types.is_floating(label.type)):
        if label.null_count < len(label):
            expected = "class numbers" if task.classes else "numbers"
            raise RecordsError(f"{model}: column 'label' holds {label.type}; expected {expected}")
        label = None
    truth = task.truth(None, table.num_rows)
    if label is not None and label.null_count < len(label):
        known = _numbers(label.drop_null(), truth.dtype, f"{model}: column 'label'")
        truth[np.asarray(label.is_valid())] = known
    return truth


def write_records(records: Records, path: Path) -> None:
    """Write *records* to *path* atomically, after checking them."""
    table = to_table(check(records))
    with atomic_path(path) as temporary:
        write_tables(temporary, table.schema, [table], records.meta)


def write_tables(path: Path, schema: pa.Schema, tables: Iterable[pa.Table], meta: RecordsMeta) -> None:
    """Write tables of one schema as one Parquet file. The metadata go into the footer once, not into Arrow's copy
    of the schema as well: with 1000 class names that is half of a small file."""
    options = {"compression": "zstd", "write_page_checksum": True}  # flipped bits are seen when the file is read
    # distinct texts gain nothing by a dictionary, and without one the file says how large they are
    lists = {field.name for field in schema if pa.types.is_fixed_size_list(field.type)}
    repeated = [f"{name}.list.element" if name in lists else name for name in schema.names]
    options |= {"use_dictionary": [name for name in repeated if name not in ("id", "content")]}
    with pq.ParquetWriter(path, schema.remove_metadata(), **options) as writer:
        for table in tables:
            writer.write_table(table.replace_schema_metadata(None), row_group_size=2**17)
        writer.add_key_value_metadata({META_KEY: encode_meta(meta)})


def read_records(path: Path, columns: Sequence[str] | None = None) -> Records:
    """Read one records file.

    columns  names of those to read beside what no outputs can lack; None: those that planning needs (see
             :func:`record_columns`)
    """
    with _opened(path) as file:  # once: the file may be replaced while it is read
        meta = _meta_in(file, path)
        try:
            task = task_in(meta.task, str(path), RecordsError)
            needed = [column.name for column in task.columns.values() if not column.optional]
            needed += [column.name for column in task.truth_columns.values()]
            named = record_columns(task) if columns is None else [*dict.fromkeys([*columns, *needed])]
            wanted = [name for name in named if name in file.schema_arrow.names]
            check_parquet(str(path), file.metadata, wanted, RecordsError)
            table = file.read(wanted)
        except (pa.ArrowException, OSError, UnicodeError) as error:
            raise RecordsError(f"{path}: damaged Parquet file ({first_line(error)}); record it again") from error
    return check(from_table(table, meta))


def read_column(path: Path, name: str) -> pa.Array | None:
    """One column of a records file as text, such as one that another program wrote; None where it has none."""
    with _opened(path) as file:
        if name not in file.schema_arrow.names:
            return None
        try:
            return _texts_in(file.read([name]), name, str(path))
        except (pa.ArrowException, OSError, UnicodeError) as error:
            raise RecordsError(f"{path}: damaged Parquet file ({first_line(error)}); record it again") from error


def read_meta(path: Path) -> RecordsMeta:
    """The metadata of one records file, without reading its rows."""
    with _opened(path) as file:
        return _meta_in(file, path)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    if path.exists() and not path.is_file():  # a pipe or a device may never end
        raise RecordsError(f"{path}: not a regular file; expected a Parquet file of records")
    try:
        source = pa.OSFile(str(path))
        file = pq.ParquetFile(source, page_checksum_verification=True)
        if dictionaries := texts_as_dictionaries(file.metadata):
            file = pq.ParquetFile(source, page_checksum_verification=True, read_dictionary=dictionaries)
    except FileNotFoundError as error:
        raise RecordsError(f"{path}: no such records file") from error
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise RecordsError(f"{path}: not a readable Parquet file ({first_line(error)})") from error
    with source:
        yield file


def _meta_in(file: pq.ParquetFile, path: Path) -> RecordsMeta:
    found = file.metadata.metadata or {}
    encoded, _, split = path.name.removesuffix(".parquet").rpartition(".")
    fallback = {"model": decode_name(encoded or split), "split": decode_name(split) if encoded else "val"}
    if META_KEY not in found:
        known = record_columns(CLASSES, everything=True)
        notes = unread_note(path.name, [name for name in file.schema_arrow.names if name not in known])
        return RecordsMeta(model=fallback["model"], split=fallback["split"], source="external", notes=notes)
    return decode_meta(found[META_KEY], fallback, str(path))


def _texts_in(table: pa.Table, name: str, where: str, missing: str | None = None) -> pa.Array:
    """A column as text; RecordsError for missing values, unless *missing* stands for them."""
    column = table.column(name)
    try:
        text = column.cast(pa.string())
    except pa.ArrowException as error:
        raise RecordsError(f"{where}: column {name!r} holds {column.type}; expected text or numbers") from error
    if text.null_count and missing is None:
        raise RecordsError(
            f"{where}: column {name!r} has {text.null_count} missing values; give each such sample one of its own"
        )
    return string_ids(text if missing is None else pc.fill_null(text, missing))


def _arrow(values: Any, column: Column) -> pa.Array:
    """An array, or lists, as a column of numbers, of lists, or of bytes."""
    if column.dtype is object:
        return pa.array(values.tolist(), pa.binary())
    kind = pa.from_numpy_dtype(np.dtype(column.dtype))
    if isinstance(values, Ragged):
        flat = values.values
        inner = pa.array(flat, kind) if column.dims == 1 else _lists(flat, kind)
        return pa.LargeListArray.from_arrays(pa.array(values.offsets, pa.int64()), inner)
    return pa.array(values, kind) if column.dims == 1 else _lists(values, kind)


def _lists(matrix: np.ndarray[Any, Any], dtype: pa.DataType) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(matrix).reshape(-1), dtype)
    return pa.FixedSizeListArray.from_arrays(flat, matrix.shape[1])


def _numbers(values: pa.ChunkedArray, dtype: Any, where: str) -> Any:
    """A column as a numpy array of *dtype*, lists as rows of a matrix; the values are checked before the cast."""
    array = values.combine_chunks()
    kind, rows, flat = array.type, len(array), array
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        lengths = np.diff(array.offsets.to_numpy())
        if len(set(lengths.tolist())) > 1:
            raise RecordsError(f"{where}: lists of different lengths; every row needs equally many")
        flat = array.flatten()
    elif pa.types.is_fixed_size_list(kind):
        flat = array.flatten()
    if flat.null_count:
        raise RecordsError(
            f"{where}: {quantity(flat.null_count, 'value inside its lists is', 'values inside its lists are')} missing"
        )
    found = flat.to_numpy(zero_copy_only=False)
    if dtype is np.bool_:
        if found.dtype != np.bool_:
            raise RecordsError(f"{where}: expected true or false, found {kind}")
        return found
    if np.issubdtype(dtype, np.integer) and not np.issubdtype(found.dtype, np.integer):
        if found.dtype.kind != "f" or not (np.isfinite(found) & (found == np.floor(found))).all():
            raise RecordsError(f"{where}: expected whole numbers, found {kind}")
    elif found.dtype.kind not in "iuf" and found.dtype != dtype:
        raise RecordsError(f"{where}: expected numbers, found {kind}")
    if np.issubdtype(dtype, np.integer) and len(found):
        limits = np.iinfo(dtype)
        low, high = found.min(), found.max()
        if low < limits.min or high > limits.max or (found.dtype.kind == "f" and high >= float(limits.max)):
            wrong = low if low < limits.min else high
            raise RecordsError(f"{where}: {wrong} is beyond {np.dtype(dtype)}; classes are numbered from 0")
    with np.errstate(over="ignore"):  # float64 logits beyond float32
        cast = found.astype(dtype, copy=False)
    if flat is array:
        return cast
    return cast.reshape(rows, kind.list_size if pa.types.is_fixed_size_list(kind) else len(cast) // max(rows, 1))


MAX_META_BYTES = 64 * 2**20


def encode_meta(meta: RecordsMeta) -> bytes:
    """Metadata as UTF-8 JSON, with the schema's version."""
    document = {"schema_version": SCHEMA_VERSION, **as_document(meta)}
    return json.dumps(document, ensure_ascii=False).encode()


def decode_meta(text: bytes, fallback: dict[str, str], where: str) -> RecordsMeta:
    """Metadata from JSON. Unknown keys are left alone, so later minor versions stay readable."""
    if len(text) > MAX_META_BYTES:
        raise RecordsError(f"{where}: {len(text):,} bytes of metadata, more than the {MAX_META_BYTES:,} allowed")
    where = f"{where}: damaged metadata"
    try:
        document = parse_json(text)
    except ValueError as error:
        raise RecordsError(f"{where}: {first_line(error)}") from error
    document = read_as(dict, document, where, RecordsError)
    if (version := document.get("schema_version")) != SCHEMA_VERSION:
        raise RecordsError(f"{where}: schema version {version}, this Pilotfish reads version {SCHEMA_VERSION}")
    return read_as(RecordsMeta, {**fallback, **document}, where, RecordsError, unknown="ignore")


def first_line(error: BaseException) -> str:
    """The first line of what an error of a library says."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
