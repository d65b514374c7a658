"""Which samples of a data set belong together: ``record --group-by``."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from pilotfish.data import Dataset, FolderDataset
from pilotfish.data.image_folder import labels_file
from pilotfish.records.groups import GroupBy, file_column, groups_by, now_read
from pilotfish.records.records import string_ids


def data_groups(data: Dataset, group_by: GroupBy) -> dict[str, str] | None:
    """The group of each sample, by id; None for ``none``. A column is one of a folder's ``labels.csv``, or an
    array of the ``.npz`` file."""
    ids = string_ids(list(data.ids))

    def column(name: str) -> pa.Array | None:
        file = _columns_file(data)
        return None if file is None or not file.is_file() else file_column(file, name, ids)

    found = groups_by(group_by, ids, column)
    return None if found is None else dict(zip(ids.to_pylist(), found.to_pylist(), strict=True))


def data_notes(data: Dataset, group_by: GroupBy | None, notes: tuple[str, ...] | None = None) -> tuple[str, ...]:
    """What the data set says of itself, or *notes* that begin with it; a column that names the groups was read."""
    said: tuple[str, ...] = tuple(getattr(data, "notes", ())) if notes is None else notes
    file = _columns_file(data)
    return said if group_by is None or file is None else now_read(said, file.name, str(group_by))


def _columns_file(data: Dataset) -> Path | None:
    """The file whose columns may name groups."""
    if isinstance(data, FolderDataset):
        return labels_file(data.root)
    return Path(data.spec.removeprefix("arrays:")).expanduser() if data.spec.startswith("arrays:") else None
