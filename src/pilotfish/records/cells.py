"""Columns of files that other programs wrote, as checked arrays; errors name the file and the row."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pilotfish.errors import RecordsError
from pilotfish.records.records import NO_LABEL


def read_tabular(path: Path) -> pa.Table:
    """A .parquet or .csv file; ids stay text (``007`` is not 7)."""
    try:
        if path.suffix == ".parquet":
            table = pq.read_table(path)
        else:
            options = pyarrow.csv.ConvertOptions(
                column_types={name: pa.string() for name in ("id", "filename", "file")}
            )
            table = pyarrow.csv.read_csv(path, convert_options=options)
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise RecordsError(f"{path}: cannot be read ({str(error).splitlines()[0][:200]})") from error
    if twice := [name for name in table.column_names if table.column_names.count(name) > 1]:
        raise RecordsError(f"{path}: column {twice[0]!r} stands more than once; column names are unique")
    return table


def label_column(path: Path, table: pa.Table) -> NDArray[np.int64]:
    """Column ``label``, -1 where it is empty; all -1 without the column."""
    if "label" not in table.column_names or table.column("label").null_count == table.num_rows:
        return np.full(table.num_rows, NO_LABEL, np.int64)
    column = table.column("label")
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise RecordsError(f"{path}: column 'label' holds {column.type}; expected class numbers, such as 0 to 999")
    known = np.asarray(column.is_valid())
    label = np.full(table.num_rows, NO_LABEL, np.int64)
    label[known] = whole_numbers(path, "label", np.asarray(column.drop_null()))
    return label


def values_of(path: Path, table: pa.Table, name: str) -> Any:
    """Column *name* as a numpy array; nothing may be missing."""
    column = table.column(name)
    if column.null_count:
        raise RecordsError(f"{path}: column {name!r} has {column.null_count} missing values")
    return np.asarray(column)


def first_numbers(path: Path, table: pa.Table, name: str) -> Any:
    """The first number of each cell: a number, a list, or the text of one ("[281 282]")."""
    values = values_of(path, table, name)
    if values.dtype.kind in "iuf":
        return values
    return np.array([_first_number(path, name, row, cell) for row, cell in enumerate(values.tolist())])


def _first_number(path: Path, name: str, row: int, cell: Any) -> float:
    parts = [part for part in re.split(r"[\s,\[\]()]+", cell) if part] if isinstance(cell, str) else cell
    try:
        return float(parts[0])
    except (TypeError, ValueError, LookupError):
        shown = str(cell).replace("\n", " ")[:60]
        raise RecordsError(f"{path}: column {name!r} of row {row} does not begin with a number: {shown!r}") from None


def whole_numbers(path: Path, name: str, values: Any) -> NDArray[np.int64]:
    """int64 of any integers, or of floats that are whole."""
    array = np.asarray(values)
    if array.dtype.kind == "f" and np.isfinite(array).all() and (array == np.floor(array)).all():
        return array.astype(np.int64)
    if array.dtype.kind not in "iu" or (array.dtype.kind == "u" and (array > np.iinfo(np.int64).max).any()):
        raise RecordsError(f"{path}: {name!r} holds {array.dtype}; expected whole numbers, one class id per sample")
    return array.astype(np.int64)


def confidences(path: Path, values: Any) -> NDArray[np.float64]:
    """float64 (N,), finite."""
    array = np.asarray(values)
    if array.dtype.kind not in "iuf" or array.ndim != 1:
        raise RecordsError(
            f"{path}: 'confidence' holds {array.dtype} of shape {array.shape}; expected one number per sample"
        )
    if not np.isfinite(array).all():
        row = int(np.flatnonzero(~np.isfinite(array))[0])
        raise RecordsError(f"{path}: the confidence of row {row} is {array[row]}; leave out samples without one")
    return array.astype(np.float64)
