"""A folder's ``labels.csv``: which files are samples, and what each shows."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pilotfish.data.dataset import UNLABELLED, Labels, labels_or_none
from pilotfish.errors import DataError, one_line
from pilotfish.reading.columns import MISSING, delimiter_of, find, shown, unread_note
from pilotfish.text import quantity

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?inf(inity)?", re.IGNORECASE)
_INTEGER = re.compile(r"[+-]?\d{1,15}(\.0*)?")  # "3.0" is what pandas writes for 3 beside an empty cell
Rows = list[tuple[int, list[str]]]


@dataclass(frozen=True)
class LabelTable:
    """N rows of a ``labels.csv``: normalised relative paths, labels int64 (N,) or None, names by class index.

    notes         what was assumed or not read
    sorted_names  whether labels are places among the sorted names that the file gives as labels
    label_names   name of each label, where not all numbers from 0 to the largest have one
    """

    files: tuple[str, ...]
    labels: Labels | None
    class_names: tuple[str, ...] | None
    notes: tuple[str, ...] = ()
    sorted_names: bool = False
    label_names: Mapping[int, str] | None = None


def read_labels_csv(path: Path) -> LabelTable:
    """Read *path*, a CSV file in UTF-8 with a header row and one row per sample.

    Columns: ``file`` (or ``filename``, ``path``, ``image``, ``id`` …), relative to the CSV file's folder; ``label`` (or
    ``class``, ``target``, ``species`` …), a class index, or a class name (then the sorted names give the indices), or
    empty for an unlabelled sample; and perhaps ``name`` or ``wnid``, which names the class of an integer label. Other
    columns are named in the notes, and so is a table without labels. Commas, semicolons, tabs or bars between cells.

    Raises ``DataError`` for a missing column, a path that leaves the folder, a file listed twice, and labels that
    are neither all integers nor all names.
    """
    columns, rows = read_rows(path)
    columns = [name.lower() for name in columns]
    file, files = listed(path, columns, rows)
    others = [name for name in columns if name != file]
    label = find(str(path), others, "label", DataError)
    name = find(str(path), [other for other in others if other != label], "name", DataError)
    if label is None and name == "wnid":
        label, name = name, None
    if label is None:
        notes: tuple[str, ...] = ()
        if others:
            said = f"{path.name} has no column label (found: {shown(columns)})"
            notes = (f"{said}: its samples are taken as unlabelled; name the column that has the truth 'label'",)
        return LabelTable(files, None, None, notes)
    cells = _cells(rows, columns.index(label))
    labels, class_names, notes = _labels(path, cells)
    by_name, label_names = class_names is not None, None
    if labels is not None and not by_name and name is not None:
        class_names, label_names = _names_of(labels, [text for _, text in _cells(rows, columns.index(name))])
    left = [other for other in others if other not in (label, name)]
    return LabelTable(files, labels, class_names, (*notes, *unread_note(path.name, left)), by_name, label_names)


def listed(path: Path, columns: Sequence[str], rows: Rows) -> tuple[str, tuple[str, ...]]:
    """(the column for the file, each row's file). DataError where there is none, for a path that leaves the folder, and
    for a file that stands twice."""
    file = find(str(path), columns, "file", DataError)
    if file is None:
        found = shown(columns) if any(columns) else "none"
        raise DataError(
            f"{path} has no column for the file (found: {found}); expected a header row with file or filename or path, "
            "and label"
        )
    if not rows:
        raise DataError(f"{path} has no rows below its header; expected one row per image")
    at = columns.index(file)
    root = f"{path.parent.resolve()}/"
    files = tuple(_inside(path, number, row[at] if at < len(row) else "", root) for number, row in rows)
    if len(set(files)) < len(files):
        twice, _ = Counter(files).most_common(1)[0]
        raise DataError(f"{path} lists {one_line(twice)} more than once; expected one row per file")
    return file, files


def found_files(files: Sequence[str], there: Collection[str], root: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(*files*, those that are not *there* replaced by the file that is meant, where it is just one; notes).

    Meant are files that differ in case or in ``\\`` for ``/``, whose suffix was left out, that begin with the folder's
    own name, or that are given without the sub-folder they lie in.

    there  paths below the folder
    root   the folder's name
    """
    if all(file in there for file in files):
        return tuple(files), ()
    by = [_places(there, key) for key in (str.lower, _stem, _name, _name_stem)]
    taken = set(files)
    found: list[str] = []
    example = ""
    for file in files:
        meant = None if file in there else _meant(file, by, root)
        if meant is None or meant in taken:
            found.append(file)
            continue
        example = example or f"{one_line(meant)[:60]} for {one_line(file)[:60]}"
        taken.add(meant)
        found.append(meant)
    changed = sum(a != b for a, b in zip(files, found, strict=True))
    said = (
        f"files found under another spelling than in the labels: {changed:,} ({example}{', …' if changed > 1 else ''})"
    )
    return tuple(found), (said,) if changed else ()


Places = dict[str, str | None]  # key -> the one path that has it, None where several do


def _places(paths: Iterable[str], key: Callable[[str], str]) -> Places:
    found: Places = {}
    for path in paths:
        at = key(path)
        found[at] = None if at in found else path
    return found


def _meant(file: str, by: Sequence[Places], root: str) -> str | None:
    whole, stems, names, name_stems = by
    path = file.replace("\\", "/").removeprefix("./")
    for spelled in (path, path.removeprefix(f"{root}/")):
        meant = whole.get(spelled.lower()) or stems.get(_stem(spelled))
        if meant is None and "/" not in spelled:
            meant = names.get(spelled.lower()) or name_stems.get(_stem(spelled))
        if meant is not None:
            return meant
    return None


def _name(path: str) -> str:
    return path.lower().rpartition("/")[2]


def _name_stem(path: str) -> str:
    return _stem(path).rpartition("/")[2]


def _stem(path: str) -> str:
    return re.sub(r"\.[a-z0-9]{1,5}$", "", path.lower())


def read_rows(path: Path) -> tuple[list[str], Rows]:
    """The column names, and for each row that is not empty its line number and its cells."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            head = file.readline(2**20)
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter_of(head), skipinitialspace=True)
            columns = [cell.strip() for cell in next(reader, [])]
            rows = []
            for row in reader:
                if len(row) > len(columns):
                    raise DataError(
                        f"{path} line {reader.line_num} has {len(row)} cells for {len(columns)} columns; "
                        "quote names that contain a comma"
                    )
                if any(row):
                    rows.append((reader.line_num, row))
    except UnicodeDecodeError:
        raise DataError(f"{path} is not text in UTF-8; save it as UTF-8") from None
    except csv.Error as error:
        raise DataError(f"{path} is not a readable CSV file: {one_line(str(error))}") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    if twice := [name for name, times in Counter(map(str.lower, columns)).items() if times > 1 and name]:
        raise DataError(f"{path}: column {one_line(twice[0])!r} stands more than once; column names are unique")
    return columns, rows


def _cells(rows: Rows, at: int) -> list[tuple[int, str]]:
    return [(number, row[at].strip() if at < len(row) else "") for number, row in rows]


def _inside(path: Path, number: int, file: str, root: str) -> str:
    """*file* normalised, "a/b.png", if it stays in the folder by its own words."""
    file = file.removeprefix(root)  # absolute, and of this folder
    parts = file.replace("\\", "/").split("/")
    if file.startswith("/") or ".." in parts:
        raise DataError(
            f"{path} line {number} points outside the folder: {one_line(file)}; "
            "expected a path relative to it, without .."
        )
    kept = "/".join(part for part in file.split("/") if part not in ("", "."))
    if not kept:
        raise DataError(f"{path} line {number} names no file")
    return kept


def _labels(
    path: Path, cells: Sequence[tuple[int, str]]
) -> tuple[Labels | None, tuple[str, ...] | None, tuple[str, ...]]:
    cells = [(number, "" if text in ("nan", "NaN", "<NA>") else text) for number, text in cells]
    if any(_INTEGER.fullmatch(text) for _, text in cells):
        cells = [(number, "" if text in MISSING else text) for number, text in cells]
    given = [(number, text) for number, text in cells if text]
    words = [(number, text) for number, text in given if not _INTEGER.fullmatch(text)]
    notes: tuple[str, ...] = ()
    if not given:
        return None, None, (f"{path.name} has a column for labels, and no sample has one",)
    if len(given) < len(cells):
        notes = (f"{path.name} has no label for {len(cells) - len(given):,} of {quantity(len(cells), 'sample')}",)
    if words and len(words) < len(given):
        number, text = words[0]
        raise DataError(
            f"{path} line {number} has the label {one_line(text)[:60]!r} where other rows have integers; "
            "expected class indices or class names throughout"
        )
    if words:
        class_names = tuple(sorted({text for _, text in words}))
        for number, text in words:
            if _NUMBER.fullmatch(text):
                raise DataError(
                    f"{path} line {number} has the label {one_line(text)[:60]!r}; "
                    "expected an integer class index from 0 up, or a class name"
                )
        index = {name: i for i, name in enumerate(class_names)}
        return np.array([index.get(text, UNLABELLED) for _, text in cells], dtype=np.int64), class_names, notes
    indices = [int(text.split(".")[0]) if text else UNLABELLED for _, text in cells]
    labels = np.array(indices, dtype=np.int64)
    if labels.min() < UNLABELLED:
        row = int(np.argmax(labels < UNLABELLED))
        raise DataError(
            f"{path} line {cells[row][0]} has the label {labels[row]}; "
            "expected a class index from 0 up, or -1 or nothing for an unlabelled sample"
        )
    return labels_or_none(labels), None, notes


def _names_of(labels: Labels, names: Sequence[str]) -> tuple[tuple[str, ...] | None, dict[int, str] | None]:
    """(names by class index, None) if each index from 0 to the largest has exactly one; else (None, name by label) if
    each label that occurs has exactly one; else (None, None)."""
    pairs = {(label, name) for label, name in zip(labels.tolist(), names, strict=True) if label >= 0 and name}
    by_label = dict(pairs)
    if len(pairs) != len(by_label) or not by_label.keys() >= set(labels[labels >= 0].tolist()):
        return None, None
    complete = len(by_label) == int(labels.max()) + 1
    return (tuple(by_label[i] for i in range(len(by_label))), None) if complete else (None, by_label)
