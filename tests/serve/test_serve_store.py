"""The file of a server's state: what was put survives, and what cannot be used is said in one line."""

from __future__ import annotations

import logging
import os
import resource
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

import pilotfish
from pilotfish.errors import PilotfishError, StateError, UnwritableError
from pilotfish.serve.watch.store import OTHERS, Store

KEY = ("pair", "abc")


def kept(path: Path, document: object = 1) -> Path:
    store = Store(path)
    store.put(KEY, "audit", {"n": document})
    store.keep(KEY, {"a": (5.0, [1, "x"])}, 0.0)
    store.close()
    return path


def test_what_was_put_is_there_again(tmp_path: Path) -> None:
    path = kept(tmp_path / "state.db")
    assert path.stat().st_mode & 0o077 == 0  # answers by id are nobody else's business
    store = Store(path)
    assert store.get(KEY, "audit") == {"n": 1}
    assert store.get(KEY, "drift") is None
    assert store.answers(KEY) == {"a": (5.0, [1, "x"])}
    assert store.get(("pair", "other"), "audit") is None
    assert store.others(("pair", "other")) == ["abc"]
    store.close()


def test_sources_are_asked_before_every_write(tmp_path: Path) -> None:
    store = Store(tmp_path / "state.db", every=0.01)
    count = iter(range(10**6))
    store.ask(lambda: store.put(KEY, "count", next(count)))
    deadline = time.monotonic() + 30
    while (store.get(KEY, "count") or 0) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert store.get(KEY, "count") >= 3
    store.close()


def test_answers_are_bounded_and_in_order(tmp_path: Path) -> None:
    store = Store(tmp_path / "state.db", every=60)
    for start in range(0, 500, 50):
        rows = {str(i): (float(i), i) for i in range(start, start + 50)}
        store.keep(KEY, rows, float(start - 50))
        store.flush()
    found = store.answers(KEY)
    assert list(found) == [str(i) for i in range(400, 500)]
    store.keep(KEY, {"450": (450.0, "again")}, 400.0)
    store.flush()
    assert list(store.answers(KEY))[50] == "450"
    store.close()


def test_the_newest_cascades_of_a_name_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    for i in range(OTHERS + 3):
        store = Store(path)
        store.put(("pair", str(i)), "audit", i)
        store.close()
    store = Store(path)
    assert store.others(("pair", "-")) == [str(i) for i in range(OTHERS + 2, 2, -1)]
    store.close()


KILLED = """
import sys, time, os
from pilotfish.serve.watch.store import Store
store = Store(sys.argv[1], every=0.1)
n = [0]
def source():
    n[0] += 1
    store.put(("pair", "abc"), "audit", {"n": n[0], "at": time.time()})
store.ask(source)
while True:
    time.sleep(0.2)
    print(time.time(), flush=True)
"""


def test_a_process_that_is_killed_loses_a_second_at_most(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    environment = {**os.environ, "PYTHONPATH": str(Path(pilotfish.__file__).parent.parent)}
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        for _ in range(3):
            last = float(process.stdout.readline())
        with pytest.raises(StateError, match="in use by another server"):
            Store(path)
        process.kill()
    store = Store(path)
    found = store.get(KEY, "audit")
    store.close()
    assert found["n"] >= 1
    assert found["at"] > last - 5  # a second on a quiet machine


def test_two_servers_on_one_file_are_refused(tmp_path: Path) -> None:
    path = kept(tmp_path / "state.db")
    store = Store(path)
    with pytest.raises(StateError, match="in use by another server; each needs its own file"):
        Store(path)
    store.put(KEY, "audit", 2)
    store.close()
    again = Store(path)
    assert again.get(KEY, "audit") == 2
    again.close()


def text(path: Path) -> None:
    path.write_text("this is no database, but somebody's notes")


def truncated(path: Path) -> None:
    kept(path, "x" * 20000)
    path.write_bytes(path.read_bytes()[:9000])


def scribbled(path: Path) -> None:
    kept(path, "x" * 20000)
    content = bytearray(path.read_bytes())
    content[5000:9000] = b"\xff" * 4000
    path.write_bytes(content)


def foreign(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE notes (text)")
    connection.close()


def newer(path: Path) -> None:
    kept(path)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()


def folder(path: Path) -> None:
    path.mkdir()


def without_a_table(path: Path) -> None:
    changed(path, "DROP TABLE state")


def without_a_column(path: Path) -> None:
    changed(path, "ALTER TABLE state DROP COLUMN document")


def with_another_column(path: Path) -> None:
    changed(path, "ALTER TABLE state RENAME COLUMN part TO piece")


def changed(path: Path, statement: str) -> None:
    kept(path)
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (text, "not a state file"),
        (truncated, "damaged"),
        (scribbled, "damaged"),
        (foreign, "another program"),
        (newer, "later version"),
        (folder, "not a regular file"),
        (without_a_table, "damaged .no such table"),
        (without_a_column, "damaged .no such column"),
        (with_another_column, "damaged .no such column"),
    ],
)
def test_files_that_cannot_be_used_are_refused_and_left_alone(tmp_path: Path, spoil: object, says: str) -> None:
    path = tmp_path / "state.db"
    spoil(path)  # type: ignore[operator]
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(PilotfishError, match=says) as caught:
        Store(path).get(KEY, "audit")
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert (path.read_bytes() if path.is_file() else b"") == before


def test_a_file_that_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = kept(tmp_path / "state.db")
    connect = sqlite3.connect

    def read_only(database: Path, **options: object) -> sqlite3.Connection:
        return connect(f"file:{database}?mode=ro", uri=True, **options)  # type: ignore[call-overload,no-any-return]

    monkeypatch.setattr(sqlite3, "connect", read_only)
    with pytest.raises(UnwritableError, match=r"cannot write .*state\.db"):
        Store(path)


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="its folder does not exist"):
        Store(tmp_path / "nowhere" / "state.db")


def test_a_write_that_fails_is_tried_again(tmp_path: Path) -> None:
    store = Store(tmp_path / "state.db", every=60)
    store._connection.execute("PRAGMA query_only = 1")
    store.put(KEY, "audit", 7)
    store.keep(KEY, {"a": (1.0, 1)}, 0.0)
    store.flush()
    assert store.fault is not None
    assert "cannot be written" in store.fault
    store._connection.execute("PRAGMA query_only = 0")
    store.flush()
    assert store.fault is None
    assert (store.get(KEY, "audit"), store.answers(KEY)) == (7, {"a": (1.0, 1)})
    store.close()


@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_a_file_that_is_gone_is_said_and_written_when_it_is_back(tmp_path: Path, how: str) -> None:
    path, aside = tmp_path / "state.db", tmp_path / "aside.db"
    store = Store(path, every=60)
    os.link(path, aside)
    path.unlink()
    if how == "replaced":
        path.write_bytes(b"")
    store.put(KEY, "audit", 7)
    store.keep(KEY, {"a": (1.0, 1)}, 0.0)
    store.flush()
    assert store.fault is not None
    assert "cannot be written" in store.fault
    os.replace(aside, path)
    store.flush()
    assert store.fault is None
    assert (store.get(KEY, "audit"), store.answers(KEY)) == (7, {"a": (1.0, 1)})
    store.close()


@pytest.fixture
def small_disk() -> object:
    """Calls for a disk that has no room beyond so many bytes of a file, None for as many as there were."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (soft if size is None else size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("answers", [100, 5000])  # of many SQLite writes some before it commits
def test_a_disk_that_is_full_loses_nothing_once_it_is_not(tmp_path: Path, small_disk: object, answers: int) -> None:
    path = tmp_path / "state.db"
    store = Store(path, every=60)
    store.put(KEY, "audit", 1)
    store.flush()
    small_disk(60_000)  # type: ignore[operator]
    for round in range(3):
        store.put(KEY, "audit", 2 + round)
        store.keep(KEY, {f"{round} {i}": (float(round), "x" * 1000) for i in range(answers)}, 0.0)
        store.flush()
        assert store.fault is not None
        assert "(disk I/O error)" in store.fault
        assert "\n" not in store.fault
    small_disk(None)  # type: ignore[operator]
    store.flush()
    assert store.fault is None
    store.close()
    again = Store(path)
    assert (again.get(KEY, "audit"), len(again.answers(KEY))) == (4, 3 * answers)
    again.close()


def test_what_is_lost_at_the_end_is_said(tmp_path: Path, small_disk: object, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "state.db"
    store = Store(path, every=60)
    small_disk(10_000)  # type: ignore[operator]
    store.put(KEY, "audit", "x" * 100_000)
    with caplog.at_level(logging.ERROR):
        store.close()
    small_disk(None)  # type: ignore[operator]
    assert [record.getMessage().count("closed without") for record in caplog.records] == [0, 1]
    assert all(str(path) in record.getMessage() for record in caplog.records)


def test_answers_that_cannot_be_written_are_as_few_as_those_that_are_kept(tmp_path: Path) -> None:
    store = Store(tmp_path / "state.db", every=60)
    store._connection.execute("PRAGMA query_only = 1")
    for start in range(0, 500, 50):
        store.keep(KEY, {str(i): (float(i), i) for i in range(start, start + 50)}, float(start - 50))
        store.flush()
        assert store.fault is not None
    store._connection.execute("PRAGMA query_only = 0")
    assert sorted(store._answers[KEY][0]) == [str(i) for i in range(400, 500)]
    store.flush()
    assert len(store.answers(KEY)) == 100
    store.close()
