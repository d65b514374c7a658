"""A folder's ``labels.csv``: which files are samples, and what each shows."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pilotfish.data.dataset import UNLABELLED, Labels, labels_or_none
from pilotfish.errors import DataError, one_line

FILE_COLUMNS = ("file", "filename", "path")
LABEL_COLUMN = "label"
NAME_COLUMNS = ("name", "wnid")

_INTEGER = re.compile(r"[+-]?\d{1,15}(\.0*)?")  # "3.0" is what pandas writes for 3 beside an empty cell


@dataclass(frozen=True)
class LabelTable:
    """N rows of a ``labels.csv``: normalised relative paths, labels int64 (N,) or None, names by class index."""

    files: tuple[str, ...]
    labels: Labels | None
    class_names: tuple[str, ...] | None


def read_labels_csv(path: Path) -> LabelTable:
    """Read *path*, a CSV file in UTF-8 with a header row and one row per sample.

    Columns: ``file`` (or ``filename``, ``path``), relative to the CSV file's folder; ``label``, a class index, or a
    class name (then the sorted names give the indices), or empty for an unlabelled sample; and perhaps ``name`` or
    ``wnid``, which names the class of an integer label. Other columns are ignored.

    Raises ``DataError`` for a missing column, a path that leaves the folder, a file listed twice, and labels that
    are neither all integers nor all names.
    """
    columns, rows = _read_columns(path)
    files = tuple(_inside(path, number, row[0]) for number, row in rows)
    if len(set(files)) < len(files):
        twice, _ = Counter(files).most_common(1)[0]
        raise DataError(f"{path} lists {one_line(twice)} more than once; expected one row per file")
    if LABEL_COLUMN not in columns:
        return LabelTable(files, None, None)
    labels, class_names = _labels(path, [(number, row[1].strip()) for number, row in rows])
    if labels is not None and class_names is None:
        class_names = _names_of(labels, [row[2].strip() for _, row in rows])
    return LabelTable(files, labels, class_names)


def _read_columns(path: Path) -> tuple[list[str], list[tuple[int, tuple[str, str, str]]]]:
    """The column names found, and for each row its line number and its (file, label, name), "" where absent."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, skipinitialspace=True)
            columns = [cell.strip().lower() for cell in next(reader, [])]
            places = [_place(columns, names) for names in (FILE_COLUMNS, (LABEL_COLUMN,), NAME_COLUMNS)]
            if places[0] is None:
                found = one_line(", ".join(columns)) or "none"
                raise DataError(
                    f"{path} has no column for the file (found: {found}); "
                    f"expected a header row with {' or '.join(FILE_COLUMNS)}, and label"
                )
            rows = []
            for row in reader:
                if len(row) > len(columns):
                    raise DataError(
                        f"{path} line {reader.line_num} has {len(row)} cells for {len(columns)} columns; "
                        "quote names that contain a comma"
                    )
                if any(row):
                    cells = [row[at] if at is not None and at < len(row) else "" for at in places]
                    rows.append((reader.line_num, (cells[0], cells[1], cells[2])))
    except UnicodeDecodeError:
        raise DataError(f"{path} is not text in UTF-8; save it as UTF-8") from None
    except csv.Error as error:
        raise DataError(f"{path} is not a readable CSV file: {one_line(str(error))}") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    if not rows:
        raise DataError(f"{path} has no rows below its header; expected one row per image")
    return columns, rows


def _place(columns: Sequence[str], names: Sequence[str]) -> int | None:
    return next((columns.index(name) for name in names if name in columns), None)


def _inside(path: Path, number: int, file: str) -> str:
    """*file* normalised, "a/b.png", if it stays in the folder by its own words."""
    parts = file.split("/")
    if file.startswith("/") or ".." in parts:
        raise DataError(
            f"{path} line {number} points outside the folder: {one_line(file)}; "
            "expected a path relative to it, without .."
        )
    kept = "/".join(part for part in parts if part not in ("", "."))
    if not kept:
        raise DataError(f"{path} line {number} names no file")
    return kept


def _labels(path: Path, cells: Sequence[tuple[int, str]]) -> tuple[Labels | None, tuple[str, ...] | None]:
    given = [(number, text) for number, text in cells if text]
    words = [(number, text) for number, text in given if not _INTEGER.fullmatch(text)]
    if words and len(words) < len(given):
        number, text = words[0]
        raise DataError(
            f"{path} line {number} has the label {one_line(text)!r} where other rows have integers; "
            "expected class indices or class names throughout"
        )
    if words:
        class_names = tuple(sorted({text for _, text in words}))
        index = {name: i for i, name in enumerate(class_names)}
        return np.array([index.get(text, UNLABELLED) for _, text in cells], dtype=np.int64), class_names
    indices = [int(text.split(".")[0]) if text else UNLABELLED for _, text in cells]
    labels = np.array(indices, dtype=np.int64)
    if labels.min() < UNLABELLED:
        row = int(np.argmax(labels < UNLABELLED))
        raise DataError(
            f"{path} line {cells[row][0]} has the label {labels[row]}; "
            "expected a class index from 0 up, or -1 or nothing for an unlabelled sample"
        )
    return labels_or_none(labels), None


def _names_of(labels: Labels, names: Sequence[str]) -> tuple[str, ...] | None:
    """Names by class index, if each index from 0 to the largest has exactly one."""
    pairs = {(label, name) for label, name in zip(labels.tolist(), names, strict=True) if label >= 0 and name}
    by_index = dict(pairs)
    complete = len(by_index) == int(labels.max()) + 1
    return tuple(by_index[i] for i in range(len(by_index))) if complete and len(pairs) == len(by_index) else None
