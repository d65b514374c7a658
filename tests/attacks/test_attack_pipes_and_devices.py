"""A named pipe lay where a document, records, a part or weights were expected: reading it waited for ever. A link to
``/dev/zero`` never ended.

Taught: only regular files are read.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pilotfish.errors import PilotfishError
from pilotfish.recording import RecordOptions, record
from pilotfish.records import Run

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")


def pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def device(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")


def folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


@pytest.mark.parametrize("make", [pipe, device, folder])
@pytest.mark.parametrize("name", ["cascade.json", "runtime.json", "bench.json"])
def test_in_a_cascade(
    name: str, make: Callable[[Path], None], runnable: Path, made: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    make(runnable / name)
    if name == "cascade.json":
        refused("inspect", runnable)
        assert "expected a cascade folder" in refused("predict", runnable, made / "data.npz")
    elif name == "bench.json":
        refused("report", runnable, "--out", tmp_path / "r.html", "--bench", runnable / name)


@pytest.mark.parametrize("make", [pipe, device, folder])
def test_in_a_run(make: Callable[[Path], None], made: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    shutil.copytree(made / "run", tmp_path / "run")
    make(tmp_path / "run" / "evil.val.parquet")
    assert "not a regular file" in refused("inspect", tmp_path / "run")
    with pytest.raises(PilotfishError, match="not a regular file"):
        Run(tmp_path / "run").metas()


@pytest.mark.parametrize("make", [pipe, device, folder])
@pytest.mark.parametrize("name", ["plan.json", "part-000000000000-000000000008.parquet"])
def test_in_a_recording_that_was_cut_off(name: str, make: Callable[[Path], None], made: Path, tmp_path: Path) -> None:
    parts = tmp_path / "run" / "m.val.parts"
    parts.mkdir(parents=True)
    make(parts / name)
    options = RecordOptions(timing=False, batch_size=8)
    try:
        found = record(
            f"arrays:{made}/data.npz", f"onnx:{made}/small.onnx", tmp_path / "run", alias="m", options=options
        )
    except PilotfishError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert found[0].n == 60


@pytest.mark.parametrize("make", [pipe, device])
def test_as_weights(make: Callable[[Path], None], tmp_path: Path, refused: Callable[..., str], made: Path) -> None:
    for kind, suffix in (
        ("onnx", "onnx"),
        ("checkpoint", "safetensors"),
        ("checkpoint", "pt"),
        ("exits", "safetensors"),
    ):
        make(tmp_path / f"m.{suffix}")
        refused(
            "record", "--data", made / "data.npz", "--model", f"{kind}:{tmp_path}/m.{suffix}", "--run", tmp_path / "r"
        )
