"""``labels:PATH``: images in a folder whose ``labels.csv`` gives each several labels."""

from __future__ import annotations

import os
from pathlib import Path

from pilotfish.data.dataset import digest
from pilotfish.data.image_folder import LABELS_FILE, FolderDataset, labels_file, listed_files
from pilotfish.data.labels_csv import listed, read_rows
from pilotfish.errors import DataError, one_line
from pilotfish.reading.columns import shown
from pilotfish.reading.label_lists import label_table


def load_label_folder(path: str | Path) -> FolderDataset:
    """The images that the ``labels.csv`` of the folder *path* lists, or a ``.csv`` file that is *path* itself.

    Columns: ``file``, relative to the CSV file's folder, and ``label``, a list of names or numbers (``cat;dog``; empty
    where no label is true), or a column of 0 and 1 for each class, all empty where nothing is known. The data's
    ``truth`` is int8 (N, C) of 0 and 1, -1 in rows where nothing is known.

    Raises DataError for a folder or a table that holds something else.
    """
    root = Path(os.path.expanduser(path))
    csv: Path | None = None
    if os.path.isfile(root) and root.suffix.lower() == ".csv":
        csv, root = root, root.parent
    elif not os.path.isdir(root):
        found = "is a file, not a folder" if os.path.exists(root) else "does not exist"
        raise DataError(f"labels:{one_line(str(path))} {found}; expected a folder of images with a {LABELS_FILE}")
    if csv is None and (csv := labels_file(root)) is None:
        raise DataError(
            f"labels:{one_line(str(path))} has no {LABELS_FILE}; expected one with file, and label (cat;dog) or a "
            "column of 0 and 1 for each class"
        )
    columns, rows = read_rows(csv)
    file, given = listed(csv, columns, rows)
    cells = {
        name: [row[at].strip() if at < len(row) else "" for _, row in rows]
        for at, name in enumerate(columns)
        if name != file
    }
    table = label_table(csv.name, cells, DataError)
    files, lines, notes = listed_files(root, given)
    if table is None:
        said = f"{csv.name} has no labels (found: {shown(columns)}): its samples are taken as unlabelled"
        return FolderDataset(
            f"labels:{path}", root, files, None, None, digest(lines, None, None), (said, *notes), task="labels"
        )
    return FolderDataset(
        f"labels:{path}",
        root,
        files,
        None,
        table.names,
        digest(lines, table.truth, table.names),
        (*table.notes, *notes),
        sorted_names=table.sorted_names,
        truth=table.truth,
        task="labels",
    )
