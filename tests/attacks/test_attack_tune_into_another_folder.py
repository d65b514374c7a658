"""``tune --out`` pointed at a folder that was no cascade deleted the ``scores.safetensors`` that lay there.

Taught: a cascade is written into a folder that is new, empty, or a cascade that Pilotfish wrote.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pilotfish.errors import ArtefactError
from pilotfish.flow import build
from pilotfish.plan import tune
from pilotfish.records import Run

TUNE = ("--stages", "saver,base", "--max-drop", "5%", "--out")


@pytest.mark.parametrize(
    "files",
    [
        {"scores.safetensors": "mine"},
        {"cascade.json": "{}"},
        {"cascade.json": '{"stages": []}'},
        {"cascade.json": "not JSON", "scores.safetensors": "mine"},
        {"cascade.json": "[" * 5000},
        {"notes.txt": "mine", "weights": None},
        {".git": None, "runtime.json": "mine"},
    ],
    ids=lambda files: "+".join(files),
)
def test_what_lies_there_stays(files: dict[str, str | None], run: Run, tmp_path: Path, refused: Any) -> None:
    target = tmp_path / "target"
    target.mkdir()
    for name, text in files.items():
        if text is None:
            (target / name).mkdir()
        else:
            (target / name).write_text(text)
    assert "is not a cascade folder" in refused("tune", run.path, *TUNE, target)
    assert "is not a cascade folder" in refused("tune", run.path, *TUNE, target, "--embed")
    with pytest.raises(ArtefactError, match="is not a cascade folder"):
        build("digits:val", ["a", "b"], target, max_drop=0.01)  # before anything is recorded
    assert {path.name for path in target.iterdir()} == set(files)
    assert all((target / name).read_text() == text for name, text in files.items() if text is not None)


def test_new_empty_and_written_before(run: Run, tmp_path: Path) -> None:
    tuning = tune(run, ["saver", "base"], max_drop=0.05)
    (tmp_path / "empty").mkdir()
    (tmp_path / "cut-off" / "weights").mkdir(parents=True)
    for name in ("new", "empty", "cut-off", "new"):
        tuning.save(tmp_path / name)
        assert (tmp_path / name / "cascade.json").is_file()
