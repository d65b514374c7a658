"""Columns of files that other programs wrote, as checked arrays; errors name the file, the column and the row."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pilotfish.errors import RecordsError, one_line
from pilotfish.reading.columns import MISSING
from pilotfish.records.parquet_size import check_decoded
from pilotfish.records.records import MOST_TEXT

I64_MAX = np.iinfo(np.int64).max


def values_of(path: Path, name: str, column: Any) -> NDArray[Any]:
    """*column*, a numpy array or one of a pyarrow table, as numpy: numbers and truth values as they are, lists as rows
    of a matrix, texts that are all numbers as numbers, other texts as an object array. NaN and None: nothing there."""
    array: NDArray[Any] = (
        _from_numpy(path, name, column) if isinstance(column, np.ndarray) else _from_arrow(path, name, column)
    )
    if array.ndim == 2 and array.shape[1] == 1:  # (N, 1) is N of something
        array = array[:, 0]
    return array


def _from_numpy(path: Path, name: str, array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.kind in "biuf":
        return array
    if array.dtype.kind not in "US" or array.ndim > 2:
        raise RecordsError(f"{path}: {name!r} holds {array.dtype}; expected numbers, or texts")
    try:
        texts = pa.array(np.char.decode(array).ravel() if array.dtype.kind == "S" else array.ravel(), pa.string())
    except (pa.ArrowException, UnicodeError) as error:
        raise RecordsError(f"{path}: {name!r} holds text that is not valid UTF-8; write it as UTF-8") from error
    return np.asarray(_from_text(texts)).reshape(array.shape)


def _from_arrow(path: Path, name: str, column: Any) -> Any:
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):  # more than 2 GiB of text
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    if pa.types.is_dictionary(array.type):
        if not pa.types.is_decimal(array.type.value_type):
            check_decoded(f"{path}: column {name!r}", array, MOST_TEXT, RecordsError)
        array = array.dictionary_decode()
    kind = array.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _matrix(path, name, array)
    try:
        if pa.types.is_decimal(kind) or pa.types.is_null(kind):
            array = array.cast(pa.float64())
        if pa.types.is_large_string(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            array = array.cast(pa.string())
    except pa.ArrowException as error:
        raise RecordsError(f"{path}: column {name!r} holds {kind}; expected numbers, or texts") from error
    if pa.types.is_string(array.type):
        return _from_text(array)
    if pa.types.is_boolean(array.type):
        known = array.cast(pa.int8())
        return np.asarray(known.cast(pa.float64())) if array.null_count else np.asarray(array)
    if not (pa.types.is_integer(array.type) or pa.types.is_floating(array.type)):
        raise RecordsError(f"{path}: column {name!r} holds {one_line(str(kind))[:80]}; expected numbers, or texts")
    return array.to_numpy(zero_copy_only=False)


def _matrix(path: Path, name: str, array: Any) -> Any:
    lengths = np.unique(np.asarray(pc.list_value_length(array).fill_null(-1)))
    if len(lengths) != 1 or lengths[0] < 0:
        raise RecordsError(f"{path}: column {name!r} holds lists of different lengths; every row needs equally many")
    flat = array.flatten()
    if flat.null_count or not (pa.types.is_integer(flat.type) or pa.types.is_floating(flat.type)):
        raise RecordsError(f"{path}: column {name!r} holds lists of {flat.type}, some missing; expected numbers")
    return flat.to_numpy(zero_copy_only=False).reshape(len(array), int(lengths[0]))


def _from_text(texts: Any) -> Any:
    """Whole numbers, else numbers, else truth values, else the texts, trimmed, with None where nothing is."""
    trimmed = pc.utf8_trim_whitespace(texts)
    known = pc.if_else(pc.is_in(trimmed, value_set=pa.array(MISSING)), pa.scalar(None, pa.string()), trimmed)
    if known.null_count == len(known):
        return np.full(len(known), np.nan)
    first = known.drop_null()[0].as_py()
    if first[:1].isdigit() or first[:1] in "+-.iI":
        number = pc.replace_substring_regex(known, pattern=r"^\+", replacement="")
        for kind in (pa.int64(), pa.float64()):
            try:
                return number.cast(kind).to_numpy(zero_copy_only=False)
            except pa.ArrowException:
                continue
        try:  # 0,93: what spreadsheets write in half of Europe
            return (
                pc.replace_substring(number, ",", ".", max_replacements=1)
                .cast(pa.float64())
                .to_numpy(zero_copy_only=False)
            )
        except pa.ArrowException:
            pass
    lower = pc.utf8_lower(known)
    if pc.all(pc.is_in(lower.drop_null(), value_set=pa.array(["true", "false"]))).as_py():
        truth = pc.equal(lower, "true")
        return np.asarray(truth) if not truth.null_count else np.asarray(truth.cast(pa.int8()).cast(pa.float64()))
    return np.asarray(known.to_pylist(), dtype=object)


def first_numbers(path: Path, name: str, column: Any) -> NDArray[Any]:
    """The first number of each cell: a number, a list, or the text of one ("[281 282]")."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if array.null_count:
        raise RecordsError(f"{path}: column {name!r} has {array.null_count} missing values")
    if not isinstance(array, pa.ChunkedArray) and pa.types.is_string(array.type):
        values: NDArray[Any] = _from_text(array)
        if values.dtype.kind in "iuf" and not np.isnan(values.astype(np.float64)).any():
            return values
    cells = array.to_pylist()
    if cells and not isinstance(cells[0], (str, list)):
        return values_of(path, name, column)
    return np.array([_first_number(path, name, row, cell) for row, cell in enumerate(cells)])


def _first_number(path: Path, name: str, row: int, cell: Any) -> float:
    parts = [part for part in re.split(r"[\s,\[\]()]+", cell) if part] if isinstance(cell, str) else cell
    if not parts and isinstance(cell, str) and not cell.strip():
        raise RecordsError(f"{path}: column {name!r} of row {row} is empty, so it has missing values; leave it out")
    try:
        return float(parts[0])
    except (TypeError, ValueError, LookupError):
        shown = one_line(str(cell).replace("\n", " "))[:60]
        raise RecordsError(f"{path}: column {name!r} of row {row} does not begin with a number: {shown!r}") from None


def whole_numbers(path: Path, name: str, values: Any) -> NDArray[np.int64]:
    """int64 of any integers, or of floats that are whole; nothing wraps around."""
    array = np.asarray(values)
    wrong = None
    if array.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            wrong = ~(np.isfinite(array) & (array == np.floor(array)) & (np.abs(array) < 2.0**63))
    elif array.dtype.kind == "u":
        wrong = array > I64_MAX
    elif array.dtype.kind != "i":
        raise RecordsError(f"{path}: {name!r} holds {_kind(array)}; expected whole numbers, one class id per sample")
    if wrong is not None and wrong.any():
        at = tuple(int(i[0]) for i in np.nonzero(wrong))
        raise RecordsError(
            f"{path}: {name!r} holds {array.dtype}; expected whole numbers, one class id per sample, "
            f"and row {at[0]} is {array[at]}"
        )
    return array.astype(np.int64)


def confidences(path: Path, name: str, values: Any) -> NDArray[np.float64]:
    """float64 (N,), finite."""
    array = np.asarray(values)
    if array.dtype.kind not in "iuf" or array.ndim != 1:
        raise RecordsError(
            f"{path}: {name!r} holds {_kind(array)} of shape {array.shape}; expected one number per sample"
        )
    if not np.isfinite(array).all():
        row = int(np.flatnonzero(~np.isfinite(array))[0])
        raise RecordsError(f"{path}: the {name} of row {row} is {array[row]}; leave out samples without one")
    return array.astype(np.float64)


def nothing_there(values: NDArray[Any]) -> NDArray[np.bool_]:
    """bool (N,): which of some texts are None."""
    return np.array([value is None for value in values.tolist()], bool)


def no_missing(path: Path, name: str, values: NDArray[Any]) -> NDArray[Any]:
    """*values*, when none is missing."""
    missing = nothing_there(values) if values.dtype == object else np.zeros(len(values), bool)
    if values.dtype.kind == "f" and values.ndim == 1:
        missing = np.isnan(values)
    if missing.any():
        raise RecordsError(
            f"{path}: {name!r} has {int(missing.sum()):,} missing values, row {int(np.argmax(missing))} the first; "
            "leave those samples out"
        )
    return values


def _kind(array: NDArray[Any]) -> str:
    if array.dtype != object:
        return str(array.dtype)
    text = next((value for value in array.ravel() if value is not None), "")
    return f"text, such as {one_line(str(text))[:40]!r}"
