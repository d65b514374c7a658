"""Times stay with the machine that they were measured on."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

from pilotfish.machine import device_name
from pilotfish.recording import RecordOptions, record
from pilotfish.records import Run

MODEL = """
import numpy as np

def small(batch):
    return batch.reshape(len(batch), -1)[:, :3].astype(np.float32)

small.weights_hash = "a" * 64
"""
NAME = "python:timed_model:small"


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "timed_model.py").write_text(MODEL)
    monkeypatch.syspath_prepend(str(tmp_path))
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).random((20, 4)).astype(np.float32))
    return f"arrays:{tmp_path / 'data.npz'}"


def test_the_machine_is_kept_and_another_one_is_said(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [first] = record(data, NAME, tmp_path / "run")
    timing = Run(tmp_path / "run").read(NAME).meta.timing
    assert timing["machine"] == device_name("cpu")
    assert timing["threads"] >= 1
    assert timing["batch_sizes"][0] == 1
    [again] = record(data, NAME, tmp_path / "run")
    assert (again.skipped, again.notes) == (True, first.notes)
    monkeypatch.setattr(
        importlib.import_module("pilotfish.recording.finished"), "device_name", lambda _: "cpu, Another One, 64 cores"
    )
    [elsewhere] = record(data, NAME, tmp_path / "run")
    [note] = [note for note in elsewhere.notes if note not in first.notes]
    assert device_name("cpu") in note
    assert "cpu, Another One, 64 cores" in note
    assert "--overwrite" in note


def test_times_that_are_added_later_say_where(data: str, tmp_path: Path) -> None:
    record(data, NAME, tmp_path / "run", options=RecordOptions(timing=False))
    run = Run(tmp_path / "run")
    assert "machine" not in run.read(NAME).meta.timing
    record(data, NAME, tmp_path / "run")
    found = run.read(NAME).meta
    assert found.timing["machine"] == device_name("cpu")
    assert "ms@cpu" in found.costs
