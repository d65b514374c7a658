"""kill -9 at any moment: the same command resumes after the last finished part and ends with the same records."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pilotfish.recording import RecordOptions, planned, record, run_parts
from pilotfish.records import Records, RecordsMeta, Run, open_run
from pilotfish.records.parquet import record_columns
from pilotfish.tasks import CLASSES
from support.process import LIMIT, command, environment, refusal

BATCH, PART_ROWS = 8, 64
SAME = ("record", "--data=arrays:data.npz", "--model=python:model:slow", "--run=run", "--as=m", "--no-timing")
UNREADABLE = (3, 64, 65, 66, 67, 68, 69, 70, 71, 500, 1199)  # 64 to 71 are a whole batch

MODEL = """
import os, time
import numpy as np

WEIGHTS = np.random.default_rng(1).standard_normal((6, 20)).astype(np.float32)

given = 0

def held():  # where the file "hold" is, no more batches than it says: nobody is overtaken on a busy machine
    try:
        return given >= int(open("hold").read())
    except (FileNotFoundError, ValueError):
        return False

def slow(batch):
    global given
    time.sleep(0.002)
    while held():
        time.sleep(0.01)
    given += 1
    with open("log", "a") as file:
        file.write(f"{int(batch[0, 0])}\\n")
    return batch @ WEIGHTS
"""

DRIVER = f"""
import importlib, os, signal, sys
from pilotfish.recording import RecordOptions, record

importlib.import_module("pilotfish.recording.run_parts").PART_ROWS = {PART_ROWS}
# these run the model as well
importlib.import_module("pilotfish.recording.planned").repeat_notes = lambda *_: ()
importlib.import_module("pilotfish.recording.planned").settle = lambda model, reading, _: (model, reading)
fatal = " ".join(sys.argv[2:])
replace, parts = os.replace, []

def replace_or_die(source, target):
    name = os.path.basename(target)
    if name.startswith("part-"):
        parts.append(name)
        name = f"part {{len(parts)}}"
    if fatal == f"before {{name}}":
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
    if fatal == f"after {{name}}":
        os.kill(os.getpid(), signal.SIGKILL)

os.replace = replace_or_die
record("arrays:data.npz", "python:model:slow", sys.argv[1], alias="m",
       options=RecordOptions(timing=False, batch_size={BATCH}, workers=2))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return written(tmp_path, 1200)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Records:
    folder = written(tmp_path_factory.mktemp("unbroken"), 1200)
    finished(folder, "run")
    return read(folder, "run")


def written(folder: Path, n: int) -> Path:
    """Samples whose first number is their index; those with a NaN cannot be read."""
    x = np.random.default_rng(0).standard_normal((n, 6)).astype(np.float32)
    x[:, 0] = np.arange(n)
    x[list(UNREADABLE), 1] = np.nan
    np.savez(folder / "data.npz", x=x, label=np.arange(n) % 20)
    (folder / "model.py").write_text(MODEL)
    (folder / "driver.py").write_text(DRIVER)
    return folder


def start(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "driver.py", *arguments], cwd=folder, env=environment())


def finished(folder: Path, run: str, part_rows: int = PART_ROWS) -> None:
    """As the driver, in this process."""
    options = RecordOptions(timing=False, batch_size=BATCH, workers=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        patch.setattr(run_parts, "PART_ROWS", part_rows)
        patch.setattr(planned, "repeat_notes", lambda *_: ())
        patch.setattr(planned, "settle", lambda model, reading, _: (model, reading))
        try:
            record("arrays:data.npz", "python:model:slow", run, alias="m", options=options)
        finally:
            sys.modules.pop("model", None)


def lines(folder: Path) -> list[int]:
    """First samples of the batches that the model was given."""
    with contextlib.suppress(FileNotFoundError):
        return [int(line) for line in (folder / "log").read_text().split()]
    return []


def batches_from(first: int, end: int) -> list[int]:
    """Numbers of the batches from sample *first* on that the model has to be given."""
    rows = range(first, end, BATCH)
    return [row // BATCH for row in rows if not set(range(row, row + BATCH)) <= set(UNREADABLE)]


def done(folder: Path) -> int:
    """Samples that finished parts cover."""
    ends = [int(re.findall(r"\d{12}", path.name)[1]) for path in folder.glob("run/m.val.parts/part-*.parquet")]
    return max(ends, default=0)


def lasting(meta: RecordsMeta) -> RecordsMeta:
    return dataclasses.replace(meta, created=None)


def assert_equal(found: Records, expected: Records) -> None:
    assert found.ids.equals(expected.ids)
    assert np.array_equal(found.label, expected.label)
    for field in dataclasses.fields(expected.outputs):
        a, b = getattr(found.outputs, field.name), getattr(expected.outputs, field.name)
        assert np.array_equal(a, b), field.name
    assert lasting(found.meta) == lasting(expected.meta)


def read(folder: Path, run: str) -> Records:
    return Run(folder / run).read("m", columns=record_columns(CLASSES, everything=True))


def test_killed_at_ten_random_moments(tmp_path: Path) -> None:
    folder, chance = written(tmp_path, 2400), random.Random(0)
    finished(folder, "unbroken")
    (folder / "log").unlink()
    for _ in range(10):
        before, kept = len(lines(folder)), done(folder)
        batches, delay = chance.randrange(0, 25), chance.uniform(0, 0.01)
        (folder / "hold").write_text(str(batches + 3))
        process = start(folder, "run")
        while process.poll() is None and len(lines(folder)) - before < batches:
            time.sleep(0.001)
        time.sleep(delay if batches else chance.uniform(0, 0.5))
        process.kill()
        process.wait()
        assert process.returncode == -signal.SIGKILL
        assert all(first >= kept for first in lines(folder)[before:])  # finished parts are not run again
        assert done(folder) >= kept
        assert not (folder / "run" / "m.val.parquet").exists()
    before, kept = len(lines(folder)), done(folder)
    assert kept > 0
    (folder / "hold").unlink()
    finished(folder, "run")
    assert [first // BATCH for first in lines(folder)[before:]] == batches_from(kept, 2400)
    assert_equal(read(folder, "run"), read(folder, "unbroken"))
    assert [f.id for f in read(folder, "run").meta.failures] == [str(i) for i in UNREADABLE]
    assert [path.name for path in (folder / "run").iterdir()] == ["m.val.parquet"]


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("target", ["plan.json", "part 1", "part 8", "m.val.parquet"])
def test_killed_at_the_very_moment_a_file_takes_its_name(
    moment: str, target: str, folder: Path, unbroken: Records
) -> None:
    assert start(folder, "run", moment, target).wait(LIMIT) == -signal.SIGKILL
    whole = (moment, target) == ("after", "m.val.parquet")
    assert (folder / "run" / "m.val.parquet").exists() == whole
    before, kept = len(lines(folder)), done(folder)
    finished(folder, "run")
    assert [first // BATCH for first in lines(folder)[before:]] == batches_from(kept, 1200)
    assert_equal(read(folder, "run"), unbroken)
    assert open_run(folder / "run").unfinished() == []


def test_parts_of_a_removal_that_was_cut_off_are_never_taken_for_rows(folder: Path) -> None:
    """The plan is gone and a part is left: it may be of other weights."""
    start(folder, "run", "after", "part 3").wait(LIMIT)
    (folder / "run" / "m.val.parts" / "plan.json").unlink()
    source = (folder / "model.py").read_text()
    (folder / "model.py").write_text(source.replace("batch @ WEIGHTS", "batch @ -WEIGHTS"))
    finished(folder, "run")
    finished(folder, "unbroken")
    assert_equal(read(folder, "run"), read(folder, "unbroken"))


def test_parts_behind_a_gap_are_made_again(folder: Path, unbroken: Records) -> None:
    """Somebody deleted a part, and the new ones are cut otherwise: still no id twice or missing."""
    start(folder, "run", "before", "m.val.parquet").wait(LIMIT)
    sorted(folder.glob("run/m.val.parts/part-*"))[2].unlink()
    finished(folder, "run", part_rows=40)
    assert_equal(read(folder, "run"), unbroken)


def test_an_unfinished_recording_is_named_and_other_settings_are_refused(folder: Path) -> None:
    start(folder, "run", "after", "part 3").wait(LIMIT)
    kept = done(folder)
    said = refusal(folder, "savers", "run", "--base", "m")
    assert "holds an unfinished recording (m.val.parts): run the same record command again" in said
    assert "was begun with --batch-size 8" in refusal(folder, *SAME, "--batch-size", "9")
    assert "unfinished recording of other store" in refusal(folder, *SAME, "--store", "top2")
    ended = command(folder, *SAME, "--json")
    assert ended.returncode == 0
    assert json.loads(ended.stdout)[0]["started"] == kept > 0


def test_a_damaged_part_is_one_line(folder: Path) -> None:
    start(folder, "run", "before", "m.val.parquet").wait(LIMIT)
    part = sorted(folder.glob("run/m.val.parts/part-*"))[1]
    part.write_bytes(part.read_bytes()[:-20])
    assert "a part is damaged" in refusal(folder, *SAME)


def test_a_second_writer_is_told_to_wait(folder: Path, unbroken: Records) -> None:
    (folder / "hold").write_text("9")
    first = start(folder, "run")
    try:
        while not lines(folder) and first.poll() is None:
            time.sleep(0.001)
        first.send_signal(signal.SIGSTOP)  # alive, and holding its place
        assert "another process is recording into m.val.parts" in refusal(folder, *SAME)
    finally:
        (folder / "hold").unlink()
        first.send_signal(signal.SIGCONT)
    assert first.wait(LIMIT) == 0
    assert_equal(read(folder, "run"), unbroken)


def test_leftovers_of_another_process_at_work_are_let_be(folder: Path) -> None:
    """The records are there; somebody replaces them with --overwrite while we ask for the same ones."""
    finished(folder, "run")
    (folder / "log").unlink()
    driver = (folder / "driver.py").read_text()
    (folder / "driver.py").write_text(driver.replace("timing=False", "timing=False, overwrite=True"))
    (folder / "hold").write_text("30")  # three parts and more
    other = start(folder, "run")
    try:
        while done(folder) < 2 * PART_ROWS and other.poll() is None:
            time.sleep(0.001)
        other.send_signal(signal.SIGSTOP)
        ended = command(folder, *SAME, "--json")
        assert json.loads(ended.stdout)[0]["skipped"] is True
        assert done(folder) >= 2 * PART_ROWS
    finally:
        (folder / "hold").unlink()
        other.send_signal(signal.SIGCONT)
    assert other.wait(LIMIT) == 0
    assert len(read(folder, "run")) == 1200 - len(UNREADABLE)
