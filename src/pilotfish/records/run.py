"""A run: a folder with one Parquet file per model and split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pilotfish.errors import RecordsError, UsageError, nearest
from pilotfish.files import encode_name
from pilotfish.records.groups import NONE, GroupBy, is_file
from pilotfish.records.parquet import read_column, read_meta, read_records, write_records
from pilotfish.records.records import Records, RecordsMeta

PARTS_SUFFIX = ".parts"
MAX_FILE_NAME = 255


@dataclass(frozen=True)
class Run:
    """A folder of records. Nothing is cached: what is on disk is what is there."""

    path: Path  # or its text

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))

    def file(self, model: str, split: str = "val") -> Path:
        """Where the records of *model* on *split* are, or would be."""
        name = f"{encode_name(model)}.{encode_name(split)}.parquet"
        if len(name) > MAX_FILE_NAME:
            raise UsageError(
                f"the names of model and split make a file name of {len(name)} characters, {MAX_FILE_NAME} at most; "
                f"give a shorter one with --as: {model[:60]!r}"
            )
        return self.path / name

    def find(self, model: str, split: str = "val") -> Path | None:
        """The file that holds the records of *model* on *split*, also where another program named it; or None."""
        path = self.file(model, split)
        if path.is_file():
            return path
        others = sorted(self.path.glob("*.parquet"))
        return next((p for p in others if ((meta := read_meta(p)).model, meta.split) == (model, split)), None)

    def metas(self, split: str | None = None) -> list[RecordsMeta]:
        """Metadata of all records, sorted by split and model."""
        found = (read_meta(path) for path in sorted(self.path.glob("*.parquet")))
        kept = (meta for meta in found if split is None or meta.split == split)
        return sorted(kept, key=lambda meta: (meta.split, meta.model))

    def class_names(self, split: str = "val", but: str | None = None) -> tuple[str, ...] | None:
        """The longest list of class names among the records on *split*, those of the model *but* left out; None where
        there is none, or records cannot be read."""
        try:
            found = [meta.class_names for meta in self.metas(split) if meta.model != but and meta.class_names]
        except RecordsError:
            return None
        return max(found, key=len, default=None)

    def models(self, split: str = "val") -> list[str]:
        """Names of the models that have records on *split*."""
        return [meta.model for meta in self.metas(split)]

    def splits(self) -> list[str]:
        """Names of the splits that have records."""
        return sorted({meta.split for meta in self.metas()})

    def unfinished(self) -> list[Path]:
        """Folders of recordings that were cut off; the same ``record`` command resumes them."""
        return sorted(p for p in self.path.glob(f"*{PARTS_SUFFIX}") if p.is_dir())

    def read(self, model: str, split: str = "val", columns: Sequence[str] | None = None) -> Records:
        """The records of one model: *columns* by name, or those that planning needs (not full logits)."""
        path = self.find(model, split)
        if path is None:
            raise RecordsError(self._missing(model, split))
        records = read_records(path, columns)
        if (records.meta.model, records.meta.split) != (model, split):
            raise RecordsError(
                f"{path} holds the records of {records.meta.model} on split {records.meta.split}, and is named as "
                f"those of {model} on split {split}; give the file back its name or record again"
            )
        return records

    def groups(self, model: str, split: str, group_by: GroupBy | None) -> GroupBy | None:
        """*group_by*, or the column of that name in the records of *model*, one text per row."""
        if not isinstance(group_by, str) or group_by == NONE or is_file(group_by):
            return group_by
        path = self.find(model, split)
        column = None if path is None else read_column(path, group_by)
        if column is None and path is not None and group_by.isidentifier() and read_column(path, "group") is not None:
            raise UsageError(
                f"--group-by {group_by}: no column of that name is in the records of {model}; the groups that they "
                "were recorded or imported with are used where --group-by is left out"
            )
        return group_by if column is None else column

    def write(self, records: Records) -> Path:
        """Store *records*, replacing those of the same model and split."""
        path = self.file(records.meta.model, records.meta.split)
        write_records(records, path)
        return path

    def _missing(self, model: str, split: str) -> str:
        if (parts := self.file(model, split).with_suffix(PARTS_SUFFIX)).is_dir():
            return (
                f"the recording of {model} on split {split} in {self.path} is unfinished ({parts.name}); "
                "run the same record command again to finish it"
            )
        here = self.models(split)
        if not here and (splits := self.splits()):
            return f"{self.path} has no records on split {split!r}; it has split {', '.join(splits)}: use --split"
        return f"{self.path} has no records of model {model!r} on split {split!r}; {nearest(model, here)}"


def open_run(path: str | Path) -> Run:
    """The run in folder *path*.

    Raises RecordsError when it is not a folder, or holds no records.
    """
    folder = Path(path)
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "does not exist"
        raise RecordsError(f"{folder} {found}; expected a run folder, as `pilotfish record --run {folder}` makes")
    run = Run(folder)
    if not any(folder.glob("*.parquet")):
        unfinished = run.unfinished()
        hint = (
            f"it holds an unfinished recording ({unfinished[0].name}): run the same record command again"
            if unfinished
            else "fill it with `pilotfish record` or `pilotfish import`"
        )
        raise RecordsError(f"{folder} holds no records (*.parquet); {hint}")
    return run
