"""Files written whole or not at all: full disks, read-only folders, writers that die, JSON that is not JSON."""

from __future__ import annotations

import errno
import json
import math
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pilotfish import tune
from pilotfish.errors import ArtefactError, PilotfishError
from pilotfish.files import atomic_path, read_json, sha256_file, sha256_json, unwritable, write_json, write_text
from pilotfish.records import Run
from support.pairs import Pair
from support.runs import records, write_pair


def test_a_file_is_written_with_its_folder_and_as_any_other_file(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b" / "x.txt"
    write_text(target, "ü\n")
    assert target.read_bytes() == b"\xc3\xbc\n"
    (tmp_path / "plain").write_text("x")
    assert target.stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert [p.name for p in target.parent.iterdir()] == ["x.txt"]


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), OSError(errno.EIO, "broken")])
def test_a_block_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "x.json"
    write_json(target, {"a": 1})

    def die() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises((type(error), PilotfishError)):
        die()
    assert read_json(target, ArtefactError) == {"a": 1}
    assert list(tmp_path.iterdir()) == [target]


def saves(tmp_path: Path) -> list[tuple[Path, Callable[[], Any]]]:
    """What Pilotfish writes in the rooms without torch: records, a cascade, JSON. Each (file, how to write it)."""
    rng = np.random.default_rng(0)
    pair = Pair(rng.random(30).tolist(), [True] * 30, [True] * 30)
    tuning = tune(write_pair(tmp_path / "planned", pair), ["saver", "base"], max_drop=0, holdout=0)
    run = Run(tmp_path / "run")
    return [
        (run.file("m"), lambda: run.write(records("m", [0] * 5000))),
        (tmp_path / "cascade" / "cascade.json", lambda: tuning.save(tmp_path / "cascade")),
        (tmp_path / "x.json", lambda: write_json(tmp_path / "x.json", {"a": [1] * 5000})),
    ]


def check_refused(path: Path, save: Callable[[], Any], before: bytes, message: str) -> None:
    with pytest.raises(PilotfishError, match=message) as caught:
        save()
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir() if p.suffix == ".tmp"] == []


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "the disk is full; free some space and run the same command again"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EROFS, "the file system is read-only; name a folder that can be written"),
    ],
)
def test_a_full_disk_is_one_line_and_the_old_file_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, message: str
) -> None:
    for path, save in saves(tmp_path):
        save()
        before = path.read_bytes()

        def fail(*_: Any) -> None:
            raise OSError(number, os.strerror(number))

        with monkeypatch.context() as patch:
            patch.setattr(os, call, fail)
            check_refused(path, save, before, message)
        save()


CUT_SHORT = """
import pathlib, resource, signal, sys
import numpy as np, pyarrow as pa
from pilotfish.errors import PilotfishError
from pilotfish.files import write_text
from pilotfish.records import Outputs, Records, RecordsMeta, Run

folder = pathlib.Path(sys.argv[1])

def write(n):
    write_text(folder / "x.txt", "old" if n == 1 else "new" * n)

def record(n):
    ids, zero = pa.array([str(i * 7919) for i in range(n)]), np.zeros(n, np.int64)
    Run(folder).write(Records(ids, zero, Outputs(zero), RecordsMeta("m", "val")))

write(1)
record(1)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
for save in (write, record):
    try:
        save(50_000)
    except PilotfishError as error:
        print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="RLIMIT_FSIZE is POSIX")
def test_a_write_that_the_system_cuts_short_leaves_the_old_file(tmp_path: Path) -> None:
    """A real failure in the middle of a write: files of this process may not grow beyond 5000 bytes."""
    done = subprocess.run(
        [sys.executable, "-c", CUT_SHORT, str(tmp_path)], capture_output=True, text=True, timeout=60, check=True
    )
    targets = [tmp_path / "x.txt", Run(tmp_path).file("m")]
    said = done.stdout.splitlines()
    assert [line.split(": ")[0] for line in said] == [f"cannot write {target}" for target in targets]
    assert targets[0].read_text() == "old"
    assert len(Run(tmp_path).read("m")) == 1
    assert sorted(tmp_path.iterdir()) == sorted(targets)


def test_a_read_only_folder_is_one_line(tmp_path: Path) -> None:
    for path, save in saves(tmp_path):
        save()
        before = path.read_bytes()
        path.parent.chmod(0o555)
        try:
            if os.access(path.parent, os.W_OK):
                pytest.skip("this user may write to read-only folders (root)")
            check_refused(path, save, before, "permission denied; name a folder that can be written")
        finally:
            path.parent.chmod(0o755)


@pytest.mark.parametrize("where", ["a file as a folder", "a folder as a file", "/proc", "a long name"])
def test_places_that_cannot_be_written(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    target = {
        "a file as a folder": tmp_path / "file" / "x.txt",
        "a folder as a file": tmp_path / "folder",
        "/proc": Path("/proc/pilotfish/x.txt"),
        "a long name": tmp_path / ("x" * 300),
    }[where]
    with pytest.raises(PilotfishError, match=r"^cannot write ") as caught:
        write_text(target, "x")
    assert len(str(caught.value).splitlines()) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]
    assert (tmp_path / "file").read_text() == "x"


def test_reasons_that_are_not_known_are_the_systems_own() -> None:
    assert str(unwritable(Path("x"), OSError(errno.EIO, "Input/output error"))) == "cannot write x: Input/output error"
    assert str(unwritable(Path("x"), OSError("odd"))) == "cannot write x: odd"


def test_many_writers_of_one_file_leave_one_of_theirs(tmp_path: Path) -> None:
    target = tmp_path / "x.json"
    threads = [threading.Thread(target=write_json, args=(target, {"who": [i] * 2000})) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(read_json(target, ArtefactError)["who"])) == 1
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_infinities_are_not_written_as_json(tmp_path: Path, value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"a": value})
    assert list(tmp_path.iterdir()) == []


def test_json_comes_back(tmp_path: Path) -> None:
    document = {"a": [1, 2.5, None, True, "ü", {"b": []}], "": {}}
    write_json(tmp_path / "x.json", document)
    assert read_json(tmp_path / "x.json", ArtefactError) == document
    assert json.loads((tmp_path / "x.json").read_text()) == document


@pytest.mark.parametrize("name", ["none.json", "."])
def test_json_that_cannot_be_read_is_of_the_callers_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(ArtefactError, match="cannot be read"):
        read_json(tmp_path / name, ArtefactError)


def test_hashes_depend_on_content_alone(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_file(tmp_path / "a") == sha256_file(tmp_path / "b") == known
    assert sha256_json({"a": 1, "b": [1.5]}) == sha256_json({"b": [1.5], "a": 1})
    assert sha256_json({"a": 1}) != sha256_json({"a": "1"})
