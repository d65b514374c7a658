"""A run held a link ``m.val.parts`` to somebody's folder: recording emptied it. ``--embed`` wrote weights through a
linked ``weights/``; ``cascade.json``, ``scores.safetensors`` and the lock of a recording could be links, too.

Taught: what Pilotfish writes, replaces or deletes by a name of its own is never a link.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pilotfish.cascade import load_artefact, save_artefact
from pilotfish.errors import ArtefactError, PilotfishError, RecordsError
from pilotfish.recording import RecordOptions, record
from pilotfish.runtime import predict_sequentially, save_with_weights

OPTIONS = RecordOptions(timing=False, batch_size=8)


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """A folder of somebody's, with names that Pilotfish uses as well."""
    folder = tmp_path / "precious"
    folder.mkdir()
    for name in ("part-000000000000-000000000008.parquet", "plan.json", "0.onnx", "scores.safetensors", "lock"):
        (folder / name).write_text("mine")
    return folder


def untouched(folder: Path) -> bool:
    return len(list(folder.iterdir())) == 5 and all(file.read_text() == "mine" for file in folder.iterdir())


def test_parts_are_not_kept_through_a_link(made: Path, precious: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "m.val.parts").symlink_to(precious)
    with pytest.raises(RecordsError, match=r"m\.val\.parts is a link"):
        record(f"arrays:{made}/data.npz", f"onnx:{made}/small.onnx", tmp_path / "run", alias="m", options=OPTIONS)
    assert untouched(precious)
    (tmp_path / "run" / "m.val.parts").unlink()
    (tmp_path / "run" / "m.val.parts").symlink_to(tmp_path / "nowhere")
    with pytest.raises(RecordsError, match="is a link"):
        record(f"arrays:{made}/data.npz", f"onnx:{made}/small.onnx", tmp_path / "run", alias="m", options=OPTIONS)
    assert not (tmp_path / "nowhere").exists()


def test_leftovers_are_not_removed_through_a_link(made: Path, precious: Path, tmp_path: Path) -> None:
    record(f"arrays:{made}/data.npz", f"onnx:{made}/small.onnx", tmp_path / "run", alias="m", options=OPTIONS)
    (tmp_path / "run" / "m.val.parts").symlink_to(precious)
    with pytest.raises(RecordsError, match="is a link"):
        record(f"arrays:{made}/data.npz", f"onnx:{made}/small.onnx", tmp_path / "run", alias="m", options=OPTIONS)
    assert untouched(precious)


def test_the_lock_is_no_way_out(made: Path, tmp_path: Path) -> None:
    parts = tmp_path / "run" / "m.val.parts"
    parts.mkdir(parents=True)
    (parts / "lock").symlink_to(tmp_path / "made-by-us")
    with pytest.raises(PilotfishError):
        record(f"arrays:{made}/data.npz", f"onnx:{made}/small.onnx", tmp_path / "run", alias="m", options=OPTIONS)
    assert not (tmp_path / "made-by-us").exists()


@pytest.mark.parametrize("name", ["cascade.json", "scores.safetensors", "runtime.json", "weights"])
@pytest.mark.parametrize("embed", [False, True])
def test_a_cascade_is_not_written_through_links(
    name: str, embed: bool, made: Path, runnable: Path, precious: Path
) -> None:
    artefact = load_artefact(runnable)
    if name == "cascade.json":
        (runnable / name).unlink()
        (runnable / name).symlink_to(made / "cascade" / name)
    else:
        (runnable / name).symlink_to(precious if name == "weights" else precious / "0.onnx")
    before = (made / "cascade" / "cascade.json").read_bytes()
    write: Callable[..., Path] = save_with_weights if embed else save_artefact
    with pytest.raises(ArtefactError, match=f"{name} is a link"):
        write(artefact, runnable)
    assert untouched(precious)
    assert (made / "cascade" / "cascade.json").read_bytes() == before


def test_files_that_are_named_replace_a_link_and_not_its_target(
    made: Path, runnable: Path, precious: Path, shown: Callable[..., tuple[int, str, str]]
) -> None:
    """``report --out``, ``predict --state``: the user named the link, and what it leads to stays as it is."""
    page, state = runnable / "r.html", runnable / "s.npz"
    page.symlink_to(precious / "lock")
    assert shown("report", runnable, "--out", page)[0] == 0
    assert page.read_text().lower().startswith("<!doctype html>")
    state.symlink_to(runnable / "nothing-yet")
    with pytest.raises(ArtefactError, match="it is not a file"):
        predict_sequentially(runnable, [], state=state)
    assert untouched(precious)


@pytest.mark.parametrize("option", ["report", "export", "record", "state"])
def test_a_folder_where_a_file_is_to_be(
    option: str, made: Path, runnable: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    folder = tmp_path / "a.onnx"
    (folder / "inside").mkdir(parents=True)
    commands = {
        "report": ["report", runnable, "--out", folder],
        "export": ["export", runnable, "--out", folder],
        "record": [
            "record",
            "--data",
            made / "data.npz",
            "--model",
            f"onnx:{made}/small.onnx",
            "--run",
            made / "data.npz",
        ],
        "state": ["predict", runnable, made / "data.npz", "--low-memory", "--state", folder],
    }
    refused(*commands[option])
    assert [path.name for path in folder.iterdir()] == ["inside"]
