"""Tables that other programs wrote, .csv, .tsv, .parquet, .json and .jsonl, as a pyarrow table of named columns."""

from __future__ import annotations

import csv
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from pilotfish.errors import RecordsError, one_line
from pilotfish.files import MAX_JSON_BYTES, without_duplicates
from pilotfish.reading.columns import DELIMITERS, delimiter_of, is_known
from pilotfish.reading.limits import check_size
from pilotfish.records.parquet_size import check_parquet, texts_as_dictionaries
from pilotfish.text import quantity

TABULAR = (".csv", ".tsv", ".parquet", ".json", ".jsonl")


def read_tabular(path: Path) -> tuple[pa.Table, tuple[str, ...]]:
    """(the table, notes). Cells of .csv and .tsv stay text, so that the id ``007`` is not 7; see ``cells``."""
    suffix = path.suffix.lower()
    notes: tuple[str, ...] = ()
    try:
        if suffix == ".parquet":
            table = _read_parquet(path)
        elif suffix in (".json", ".jsonl"):
            table = _read_json(path)
        else:
            table, notes = _read_csv(path)
    except (pa.ArrowException, OSError, UnicodeError, OverflowError) as error:
        said = one_line((str(error).splitlines() or [""])[0][:200]) or type(error).__name__
        raise RecordsError(f"{path}: cannot be read ({said})") from error
    if twice := [name for name, n in Counter(table.column_names).items() if n > 1]:
        raise RecordsError(f"{path}: column {twice[0]!r} stands more than once; column names are unique")
    return table, notes


def _read_parquet(path: Path) -> pa.Table:
    with pa.OSFile(str(path)) as source:
        metadata = pq.read_metadata(source)
        check_parquet(str(path), metadata, None, RecordsError)
        return pq.ParquetFile(source, read_dictionary=texts_as_dictionaries(metadata)).read()


def _read_csv(path: Path) -> tuple[pa.Table, tuple[str, ...]]:
    check_size(str(path), 2 * path.stat().st_size, None, RecordsError)
    with open(path, "rb") as raw:
        if raw.read(2) in (b"\xff\xfe", b"\xfe\xff"):
            raise RecordsError(f"{path}: cannot be read (UTF-16 text, Excel's 'Unicode text'; save it as CSV UTF-8)")
    with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
        head = file.readline(2**20)
        skipped = int(re.fullmatch(r'"?sep=.?"?\s*', head, re.IGNORECASE) is not None)  # what Excel writes first
        if skipped:
            head = file.readline(2**20)
    delimiter = delimiter_of(head, ("\t", ",", ";", "|") if path.suffix.lower() == ".tsv" else DELIMITERS)
    quoted_after_space = re.search(rf'(^|{re.escape(delimiter)})[ \t]+"', head) is not None
    if not quoted_after_space and path.stat().st_size <= MAX_JSON_BYTES:
        quoted_after_space = re.search(rf'{re.escape(delimiter)} +"'.encode(), path.read_bytes()) is not None
    if quoted_after_space:
        table = _with_python(path, delimiter, skipped)
    else:
        try:
            names = next(csv.reader([head], delimiter=delimiter), [])
        except csv.Error:
            names = []  # pyarrow says what is wrong
        if len(names) > 1 and not any(map(is_known, names)) and all(map(_is_value, names)):
            raise RecordsError(
                f"{path}: its first row ({one_line(head.strip())[:60]}) is not a header; expected names of columns, "
                "such as id,prediction,confidence,label"
            )
        table = pyarrow.csv.read_csv(
            path,
            read_options=pyarrow.csv.ReadOptions(skip_rows=skipped),
            parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(column_types={name: pa.string() for name in names}),
        )
    table = pa.Table.from_arrays(
        [pc.utf8_trim_whitespace(column) for column in table.columns], [name.strip() for name in table.column_names]
    )
    usual = "\t" if path.suffix.lower() == ".tsv" else ","
    if delimiter == usual:
        return table, ()
    return table, (f"{path.name}: its columns are separated by {delimiter!r}",)


def _is_value(cell: str) -> bool:
    """Whether a cell looks like a number or the name of a file, and not like the name of a column."""
    text = cell.strip().replace(",", ".", 1)
    return re.fullmatch(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?|.+\.[A-Za-z]{3,4}", text) is not None


def _with_python(path: Path, delimiter: str, skipped: int = 0) -> pa.Table:
    """Cells quoted after a space, which pyarrow does not take for quoted."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(itertools.islice(file, skipped, None), delimiter=delimiter, skipinitialspace=True)
            names = next(reader, [])
            rows = [row for row in reader if row]
    except csv.Error as error:
        raise RecordsError(f"{path}: cannot be read ({one_line(str(error))})") from error
    if uneven := [(i, len(row)) for i, row in enumerate(rows) if len(row) != len(names)]:
        raise RecordsError(
            f"{path}: cannot be read (row {uneven[0][0]} has {quantity(uneven[0][1], 'cell')} "
            f"for {quantity(len(names), 'column')})"
        )
    columns = zip(*rows, strict=True) if rows else [() for _ in names]
    return pa.Table.from_arrays([pa.array(column, pa.string()) for column in columns], names=names)


def _read_json(path: Path) -> pa.Table:
    size = path.stat().st_size
    if size > MAX_JSON_BYTES:
        raise RecordsError(f"{path}: {size:,} bytes of JSON, more than the {MAX_JSON_BYTES:,} read; write .parquet")
    text = path.read_text(encoding="utf-8-sig")
    try:
        document = _parse(path, text)
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, brackets in brackets
        raise RecordsError(f"{path}: not valid JSON ({one_line(str(error))[:200]})") from error
    columns = _columns(path, document)
    arrays = {}
    for name, values in columns.items():
        try:
            arrays[name] = pa.array(values)
        except (pa.ArrowException, OverflowError, ValueError, TypeError) as error:
            said = one_line((str(error).splitlines() or [""])[0][:120])
            raise RecordsError(
                f"{path}: column {one_line(name)[:60]!r} holds values of several kinds ({said})"
            ) from error
    return pa.table(arrays)


def _parse(path: Path, text: str) -> Any:
    """One JSON document, or one object a line."""
    try:
        return json.loads(text, object_pairs_hook=without_duplicates)
    except json.JSONDecodeError:
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) < 2 and path.suffix.lower() != ".jsonl":
            raise
        return [json.loads(line, object_pairs_hook=without_duplicates) for line in lines]


def _columns(path: Path, document: Any) -> dict[str, list[Any]]:
    """Columns of a list of rows, of lists by column, and of the forms that pandas writes (index, columns, split)."""
    if isinstance(document, dict) and len(document) == 1:  # {"results": [row, …]}
        inner = next(iter(document.values()))
        if isinstance(inner, list) and inner and isinstance(inner[0], dict):
            document = inner
    if isinstance(document, list) and document and all(isinstance(row, dict) for row in document):
        return _of_rows(path, document)
    if isinstance(document, dict) and document:
        values = list(document.values())
        if set(document) >= {"columns", "data"} and all(isinstance(document[key], list) for key in ("columns", "data")):
            return _of_split(path, document["columns"], document["data"])
        if all(isinstance(value, list) for value in values):
            return _even(path, document)
        if all(isinstance(value, dict) for value in values):
            if any(is_known(name) for name in document):  # {column: {row: value}}
                rows = list(dict.fromkeys(itertools.chain.from_iterable(values)))
                return {name: [column.get(row) for row in rows] for name, column in document.items()}
            return {"id": list(document), **_of_rows(path, values)}  # {id: {column: value}}
    raise RecordsError(
        f"{path}: expected a list of objects, one for each sample, or an object of lists, one for each column; "
        f"found {type(document).__name__}"
    )


def _of_rows(path: Path, rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    names = list(dict.fromkeys(itertools.chain.from_iterable(rows)))
    if len(names) > 10_000:
        raise RecordsError(f"{path}: {len(names):,} different keys in its objects; expected the same few in each")
    return {name: [row.get(name) for row in rows] for name in names}


def _of_split(path: Path, names: list[Any], rows: list[Any]) -> dict[str, list[Any]]:
    if any(not isinstance(row, list) or len(row) != len(names) for row in rows):
        raise RecordsError(f"{path}: 'data' needs a list of {len(names)} values for each sample, as 'columns' has")
    return {str(name): list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


def _even(path: Path, columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        found: Iterable[str] = (f"{one_line(name)[:40]} {n:,}" for name, n in itertools.islice(lengths.items(), 6))
        raise RecordsError(f"{path}: columns of different lengths ({', '.join(found)}); expected one value per sample")
    return columns
