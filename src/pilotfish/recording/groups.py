"""Which samples of a data set belong together: ``record --group-by``."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from pilotfish.data import Dataset, FolderDataset
from pilotfish.data.folder import LABELS_FILE
from pilotfish.records.groups import GroupBy, file_column, groups_by, now_read
from pilotfish.records.records import string_ids


def data_groups(data: Dataset, group_by: GroupBy) -> dict[str, str] | None:
    """The group of each sample, by id; None for ``none``. A column is one of a folder's ``labels.csv``, or an
    array of the ``.npz`` file."""
    ids = string_ids(list(data.ids))

    def column(name: str) -> pa.Array | None:
        if isinstance(data, FolderDataset):
            file = data.root / LABELS_FILE
        elif data.spec.startswith("arrays:"):
            file = Path(data.spec.removeprefix("arrays:")).expanduser()
        else:
            return None
        return file_column(file, name, ids) if file.is_file() else None

    found = groups_by(group_by, ids, column)
    return None if found is None else dict(zip(ids.to_pylist(), found.to_pylist(), strict=True))


def data_notes(data: Dataset, group_by: GroupBy | None) -> tuple[str, ...]:
    """What the data set says of itself; a column that names the groups was read."""
    notes: tuple[str, ...] = tuple(getattr(data, "notes", ()))
    return notes if group_by is None else now_read(notes, LABELS_FILE, str(group_by))
