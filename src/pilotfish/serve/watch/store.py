"""State that survives a restart, in one SQLite file: audits, alarms, the operating point and recent answers.

A thread writes changes twice a second, in one transaction, to a write-ahead log: a killed process loses at most the
last second, and the file is never half written. While one server uses the file, no other can open it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pilotfish.errors import StateError, UnwritableError, reason
from pilotfish.files import parse_json

LOGGER = logging.getLogger(__name__)
APPLICATION = 0x50465374  # "PFSt", in the header of every state file
VERSION = 1
EVERY = 0.5
OTHERS = 4  # cascades whose state is kept per name, with earlier weights or thresholds
MAGIC = b"SQLite format 3\0"
AGAIN = "move it away to start over, or restore a copy"
TABLES = """
CREATE TABLE state (model TEXT, cascade TEXT, part TEXT, at REAL, document TEXT, PRIMARY KEY (model, cascade, part));
CREATE TABLE answers (model TEXT, cascade TEXT, id TEXT, at REAL, document TEXT, PRIMARY KEY (model, cascade, id));
CREATE INDEX by_age ON answers (model, cascade, at);
"""
Key = tuple[str, str]
"""(name of a model, identity of its cascade)"""
Rows = Mapping[str, tuple[float, Any]]
"""By id: the time, and what is kept, as plain JSON."""


class Store:
    """The state of a server in the file *path*, which is created if it does not exist.

    fault  why the last write failed, one line; None if it succeeded. The server keeps running, and the store retries

    Raises StateError or UnwritableError, with a one-line message, for a file that is damaged, not a state file, of a
    later version, read-only or in use.
    """

    def __init__(self, path: str | Path, every: float = EVERY) -> None:
        self.path, self.every = Path(path), every
        self.fault: str | None = None
        self._documents: dict[tuple[str, str, str], str] = {}
        self._written: dict[tuple[str, str, str], str] = {}
        self._answers: dict[Key, tuple[dict[str, tuple[float, Any]], float]] = {}
        self._sources: list[Callable[[], None]] = []
        self._lock, self._writing, self._ended = threading.Lock(), threading.Lock(), threading.Event()
        with self._plain_errors():
            self._connection = self._open()
            self._is = _which(self.path)
        self._thread = threading.Thread(target=self._go_on, name="pilotfish-state", daemon=True)
        self._thread.start()

    # Reading

    def get(self, key: Key, part: str) -> Any | None:
        """The document last put, as JSON; None if there is none."""
        with self._plain_errors(), self._writing:
            row = self._connection.execute(
                "SELECT document FROM state WHERE model = ? AND cascade = ? AND part = ?", (*key, part)
            ).fetchone()
            return None if row is None else parse_json(row[0])

    def answers(self, key: Key) -> dict[str, tuple[float, Any]]:
        """The saved answers, oldest first."""
        with self._plain_errors(), self._writing:
            rows = self._connection.execute(
                "SELECT id, at, document FROM answers WHERE model = ? AND cascade = ? ORDER BY at, rowid", key
            )
            return {name: (at, parse_json(document)) for name, at, document in rows}

    def others(self, key: Key) -> list[str]:
        """Identities of other cascades served under this name, latest first."""
        with self._plain_errors(), self._writing:
            return [
                row[0]
                for row in self._connection.execute(
                    "SELECT cascade FROM state WHERE model = ? AND cascade <> ? GROUP BY cascade ORDER BY max(at) DESC",
                    key,
                )
            ]

    # Writing

    def put(self, key: Key, part: str, document: Any) -> None:
        """Save a document; it is written within a second."""
        text = json.dumps(document, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
        with self._lock:
            self._documents[(*key, part)] = text

    def keep(self, key: Key, rows: Rows, oldest: float) -> None:
        """Save answers, and delete those before *oldest*, seconds since 1970."""
        with self._lock:
            found = {**self._answers.get(key, ({}, 0.0))[0], **rows}
            if len(found) > len(rows):  # earlier ones are not written yet
                found = {name: row for name, row in found.items() if row[0] >= oldest}
            self._answers[key] = (found, oldest)

    def ask(self, source: Callable[[], None]) -> None:
        """Call *source*, which calls :meth:`put` and :meth:`keep`, before every write."""
        self._sources.append(source)

    def flush(self) -> None:
        """Write changes now. A failure is stored in ``fault`` and retried with the next write."""
        try:
            for source in self._sources:
                source()
            self._write()
            if self.fault is not None:
                LOGGER.warning("%s: can be written again", self.path)
            self.fault = None
        except Exception as error:  # a full disk, or a bug: the server keeps running
            found = (
                f"{self.path}: the state cannot be written ({reason(error)}); newer state is lost if the process ends"
            )
            if found != self.fault:
                LOGGER.error("%s", found)
            self.fault = found

    def close(self) -> None:
        """Write what is left, and close the file."""
        if self._ended.is_set():
            return
        self._ended.set()
        self._thread.join()
        self.flush()
        if self.fault is not None:
            LOGGER.error("%s: closed without the last audits, labels and moves, which could not be written", self.path)
        with self._writing:
            self._connection.close()

    def _go_on(self) -> None:
        while not self._ended.wait(self.every):
            self.flush()

    def _write(self) -> None:
        with self._lock:
            documents = {key: text for key, text in self._documents.items() if self._written.get(key) != text}
            answers, self._answers = self._answers, {}
        if not documents and not answers:
            return
        now = time.time()
        rows = [
            (*key, name, at, json.dumps(kept, allow_nan=False, separators=(",", ":")))
            for key, (found, _) in answers.items()
            for name, (at, kept) in found.items()
        ]
        try:
            if _which(self.path) != self._is:  # SQLite would keep writing to the deleted file
                raise StateError("the file was replaced; put it back, or restart the server")
            with self._writing, self._transaction() as connection:
                connection.executemany(
                    "INSERT OR REPLACE INTO state VALUES (?, ?, ?, ?, ?)",
                    [(*key, now, text) for key, text in documents.items()],
                )
                connection.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?)", rows)
                connection.executemany(
                    "DELETE FROM answers WHERE model = ? AND cascade = ? AND at < ?",
                    [(*key, oldest) for key, (_, oldest) in answers.items()],
                )
        except Exception:
            with self._lock:  # those added meanwhile are newer
                for key, (found, oldest) in answers.items():
                    newer, later = self._answers.get(key, ({}, oldest))
                    self._answers[key] = ({**found, **newer}, max(oldest, later))
            raise
        self._written.update(documents)

    # The file

    def _open(self) -> sqlite3.Connection:
        self._check_file()
        connection = sqlite3.connect(self.path, timeout=0.2, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("BEGIN EXCLUSIVE")  # and keep the lock
            connection.execute("COMMIT")
            self._check_kind(connection)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(f"PRAGMA journal_size_limit = {4 << 20}")
            with _transaction(connection):
                _forget_others(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _check_file(self) -> None:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            if not self.path.absolute().parent.is_dir():
                raise StateError(f"{self.path}: its folder does not exist; create it, or name another file") from None
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))  # answers are private
            return
        if not stat.S_ISREG(found.st_mode):
            raise StateError(f"{self.path}: not a regular file; --state names a file that the server can create")
        with self.path.open("rb") as file:
            begins = file.read(len(MAGIC))
        if begins and begins != MAGIC:
            raise StateError(
                f"{self.path}: damaged, or not a state file (it begins with {begins[:8]!r}); name another file, or "
                "move this one away to start over"
            )

    def _check_kind(self, connection: sqlite3.Connection) -> None:
        (application,), (version,) = (
            connection.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version")
        )
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if not application and not version and not tables:
            with _transaction(connection):
                for statement in TABLES.split(";")[:-1]:
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {APPLICATION}")
                connection.execute(f"PRAGMA user_version = {VERSION}")
            return
        if application != APPLICATION:
            raise StateError(f"{self.path}: the database of another program; name another file for --state")
        if version > VERSION:
            raise StateError(
                f"{self.path}: written by a later version of pilotfish (state {version}, this one knows {VERSION}); "
                "update pilotfish, or name another file"
            )
        if (said := connection.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise sqlite3.DatabaseError(said)

    @contextlib.contextmanager
    def _plain_errors(self) -> Iterator[None]:
        """Turn errors of SQLite, the disk and JSON into ours."""
        try:
            yield
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise StateError(f"{self.path}: in use by another server; each needs its own file (--state)") from error
            if "no such" in str(error):  # a table or a column
                raise StateError(f"{self.path}: damaged ({reason(error)}); {AGAIN}") from error
            raise UnwritableError(
                f"cannot write {self.path}: {reason(error)}; the server must be able to write the file and its folder"
            ) from error
        except OSError as error:
            raise UnwritableError(
                f"cannot use {self.path}: {error.strerror or error}; name a file that the server can write"
            ) from error
        except (sqlite3.DatabaseError, ValueError) as error:
            raise StateError(f"{self.path}: damaged ({reason(error)}); {AGAIN}") from error

    def _transaction(self) -> contextlib.AbstractContextManager[sqlite3.Connection]:
        return _transaction(self._connection)


def _which(path: Path) -> tuple[int, int]:
    """What distinguishes a file from another with the same name."""
    found = path.stat()
    return found.st_dev, found.st_ino


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite itself rolls back when the disk is full
            connection.execute("ROLLBACK")
        raise


def _forget_others(connection: sqlite3.Connection) -> None:
    """Delete all but the latest cascades of every name."""
    served: Iterable[Key] = connection.execute(
        "SELECT model, cascade FROM state GROUP BY model, cascade ORDER BY model, max(at) DESC"
    ).fetchall()
    seen: dict[str, int] = {}
    for model, cascade in served:
        seen[model] = seen.get(model, 0) + 1
        if seen[model] > OTHERS:
            for table in ("state", "answers"):
                connection.execute(f"DELETE FROM {table} WHERE model = ? AND cascade = ?", (model, cascade))
