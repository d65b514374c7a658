"""Finished parts of a recording: on disk whole or not at all, so a killed recording resumes where it stopped.

``NAME.SPLIT.parts/`` beside the records to be holds ``plan.json`` (what is being recorded, and how) and one Parquet
file per finished stretch of samples, named for it. When all are there they are joined into the records file.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pilotfish.documents import Within, as_document, read_as
from pilotfish.errors import RecordsError
from pilotfish.files import atomic_path, parse_json, read_json, unwritable, write_json
from pilotfish.records import Cost, Failure, Records, RecordsMeta
from pilotfish.records.parquet import to_table, write_tables

NAME = re.compile(r"part-(\d{12})-(\d{12})\.parquet")
FAILURES_KEY = b"failures"
PLAN = "plan.json"
LOCK = "lock"
MAX_BATCH = 65536


@dataclass(frozen=True)
class _Plan:
    """What a recording resumes with, of what its plan says."""

    batch_size: Annotated[int, Within(1, MAX_BATCH)]
    identity: Mapping[str, Any]
    timing: Mapping[str, Any]
    costs: Mapping[str, Cost]
    store: str
    cost_notes: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def validate(self) -> None:
        """ValueError for a way to store that there is not."""
        if re.fullmatch(r"auto|full|top[0-9]{1,5}", self.store) is None:
            raise ValueError(f"store is {self.store[:40]!r}, expected auto, full or topK")


@dataclass(frozen=True)
class Parts:
    """The folder of one recording in progress."""

    folder: Path

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for this process; RecordsError when another one records here, or when it leads elsewhere:
        its parts are overwritten and deleted."""
        import fcntl

        self._refuse_link()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        except OSError as error:
            raise unwritable(self.folder, error) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(handle)
            raise RecordsError(
                f"another process is recording into {self.folder.name}; wait for it, or use another name (--as)"
            ) from error
        try:
            yield
        finally:
            os.close(handle)

    def _refuse_link(self) -> None:
        if self.folder.is_symlink():
            raise RecordsError(
                f"{self.folder} is a link; recordings are not kept through links: remove it, or use --as"
            )

    def plan(self) -> dict[str, Any] | None:
        """What an earlier start of this recording set out to do, or None. RecordsError for a damaged plan."""
        self._refuse_link()
        path = self.folder / PLAN
        if not path.is_file():
            return None
        plan = read_json(path, RecordsError)
        read_as(_Plan, plan, str(path), RecordsError, advice="delete the folder and record again", unknown="ignore")
        return plan

    def write_plan(self, plan: dict[str, Any]) -> None:
        """Set down what is being recorded."""
        write_json(self.folder / PLAN, plan)

    def done(self) -> int:
        """Number of samples, from the first on, that finished parts cover. RecordsError for a damaged part."""
        reached = 0
        for first, end, path in self._files():
            if first != reached:
                break
            if self._footer(path).num_rows + len(self._failures(path)) != end - first:
                raise self._damaged(f"{path.name} does not hold the samples that it is named for")
            reached = end
        return reached

    def write(self, first: int, end: int, records: Records | None, failures: list[Failure]) -> None:
        """Store the samples *first* to *end* - 1: rows for those that could be read, reasons for the others."""
        table = pa.table({"id": pa.array([], pa.string())}) if records is None else to_table(records)
        document = json.dumps(as_document(failures))
        with atomic_path(self.folder / f"part-{first:012d}-{end:012d}.parquet") as temporary:
            pq.write_table(
                table.replace_schema_metadata({FAILURES_KEY: document.encode()}), temporary, compression="zstd"
            )

    def failures(self) -> tuple[Failure, ...]:
        """All samples without a row, in order."""
        found: list[Failure] = []
        for _, _, path in self._files():
            found += self._failures(path)
        return tuple(found)

    def rows(self) -> int:
        """Rows in all finished parts."""
        return sum(self._footer(path).num_rows for _, _, path in self._files())

    def join(self, target: Path, meta: RecordsMeta, group: dict[str, str] | None = None) -> None:
        """Write the records file from the parts, one part in memory at a time, then remove them.

        group  of each sample, by id
        """
        files = [path for _, _, path in self._files() if self._footer(path).num_rows]
        try:
            with atomic_path(target) as temporary:
                schema = _shared_schema(files)
                columns = schema.names
                tables = (self._table(path, columns) for path in files)
                if group is not None:
                    tables = (_with_groups(table, group) for table in tables)
                    schema = schema.append(pa.field("group", pa.string()))
                write_tables(temporary, schema, tables, meta)
        except (pa.ArrowException, ValueError) as error:
            raise self._damaged(error) from error
        self.remove()

    def remove(self) -> None:
        """Delete the parts, finished or not; the plan goes last, so that what is left by a kill is known for rest."""
        self.remove_rows()
        shutil.rmtree(self.folder, ignore_errors=True)

    def remove_rows(self, beyond: int = 0) -> None:
        """Delete the finished parts that begin at sample *beyond* or later."""
        for first, _, path in self._files():
            if first >= beyond:
                path.unlink(missing_ok=True)

    def _footer(self, path: Path) -> Any:
        try:
            return pq.read_metadata(path)
        except (pa.ArrowException, OSError, UnicodeError) as error:  # Thrift's errors come as OSError
            raise self._damaged(error) from error

    def _table(self, path: Path, columns: list[str]) -> pa.Table:
        try:
            return pq.read_table(path, columns=columns, partitioning=None)
        except (pa.ArrowException, OSError, UnicodeError) as error:
            raise self._damaged(error) from error

    def _failures(self, path: Path) -> tuple[Failure, ...]:
        try:
            document = (self._footer(path).schema.to_arrow_schema().metadata or {}).get(FAILURES_KEY, b"[]")
            return read_as(tuple[Failure, ...], parse_json(document), path.name, RecordsError)
        except (pa.ArrowException, RecordsError, ValueError) as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception | str) -> RecordsError:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        return RecordsError(f"{self.folder}: a part is damaged ({reason}); delete the folder and record again")

    def _files(self) -> list[tuple[int, int, Path]]:
        found = ((NAME.fullmatch(path.name), path) for path in self.folder.glob("part-*.parquet"))
        return sorted((int(match[1]), int(match[2]), path) for match, path in found if match and path.is_file())


def _with_groups(table: pa.Table, group: dict[str, str]) -> pa.Table:
    named = pa.array([group.get(one, one) for one in table.column("id").to_pylist()], pa.string())
    return table.append_column("group", named)


def _shared_schema(files: list[Path]) -> pa.Schema:
    """The columns that all parts have: those of an earlier version may lack some."""
    first, *others = (pq.read_schema(path) for path in files)
    return pa.schema([column for column in first if all(column.name in other.names for other in others)])
