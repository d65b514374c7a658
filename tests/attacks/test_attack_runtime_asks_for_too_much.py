"""``runtime.json`` asked for 65,536 threads: the process died. Lanes, batch sizes and the batch sizes that costs are
named for (``ms@cpu-b99999999``) could ask for as much.

Taught: what a file says of threads, lanes and batches is held to what this machine has.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pilotfish.cascade import Stage, load_artefact
from pilotfish.errors import ArtefactError
from pilotfish.machine import cpu_count, device_name, total_memory
from pilotfish.runtime import Cascade, StageRuntime
from pilotfish.runtime.choice import best_batch, held, write_choices

SOUND = {"backend": "onnxruntime", "batch_size": 8, "threads": 1, "lanes": 1}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("threads", 65_536),
        ("threads", cpu_count() + 1),
        ("threads", 10**400),
        ("threads", -1),
        ("lanes", 65_536),
        ("lanes", 0),
        ("lanes", 2**63),
        ("batch_size", 10**9),
        ("batch_size", 65_536),
        ("batch_size", 8.5),
        ("batch_size", [8]),
        ("backend", "python"),
        ("backend", "../../evil.so"),
        ("ms", "fast"),
        ("max_difference", {}),
        ("spin", True),
    ],
)
def test_what_this_machine_does_not_have_is_refused(
    key: str, value: Any, runnable: Path, refused: Any, made: Path
) -> None:
    write_choices(runnable, load_artefact(runnable), "cpu", [StageRuntime(**SOUND)] * 2, {})  # type: ignore[arg-type]
    file = runnable / "runtime.json"
    document = json.loads(file.read_text())
    document["devices"][device_name("cpu")]["stages"][1][key] = value
    file.write_text(json.dumps(document))
    if key == "backend" and value == "python":  # a backend, but none of this model: the default runs it
        assert Cascade.load(runnable).models[1].backend.name == "onnxruntime"
        return
    said = refused("predict", runnable, made / "data.npz")
    assert "runtime.json" in said
    if value != 10**400:  # no number at all
        assert "delete it and run pilotfish tune-runtime" in said


@pytest.mark.parametrize("entry", [[], "x", 7, {"stages": 7}, {"stages": {}}, {"stages": [[]]}, {}])
def test_entries_of_other_kinds(entry: Any, runnable: Path, refused: Any, made: Path) -> None:
    document = {"schema": 1, "devices": {device_name("cpu"): entry}}
    if isinstance(entry, dict) and isinstance(entry.get("stages"), list):
        stages = load_artefact(runnable).stages
        entry["models"] = [{"name": s.name, "weights_hash": s.weights_hash} for s in stages]
    (runnable / "runtime.json").write_text(json.dumps(document))
    assert "runtime.json" in refused("predict", runnable, made / "data.npz")


def test_a_batch_that_costs_are_named_for(runnable: Path) -> None:
    for size in (0, 4097, 99_999_999, 10**4000):
        stage = Stage("s", costs={f"ms@cpu-b{size}": 1.0, "ms@cpu-b16": 2.0, "ms@cpu-b\u0663": 0.1})
        assert best_batch(stage) == 16


def test_batches_fit_the_memory() -> None:
    large = (3, 4096, 4096)
    choice, notes = held(StageRuntime("onnxruntime", 512, 1, 2), large, "base")
    assert 1 <= choice.batch_size < 512
    assert choice.batch_size * 2 * 4 * np.prod(large) <= max(total_memory() / 4, 2 * 4 * np.prod(large))
    (note,) = notes
    assert "base runs in batches of" in note
    assert held(StageRuntime("onnxruntime", 32, 1, 2), (3, 224, 224), "base") == (
        StageRuntime("onnxruntime", 32, 1, 2),
        (),
    )


def test_a_cascade_says_so(runnable: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Cascade.load(runnable)
    monkeypatch.setattr("pilotfish.runtime.choice.total_memory", lambda: 1000)
    again = Cascade(whole.artefact, [dataclasses.replace(m, ephemeral=True) for m in whole.models])
    assert all("fit this machine's memory" in note for note in again.notes)
    assert len(again.notes) == 2


def test_a_linked_file_is_not_written(runnable: Path, tmp_path: Path) -> None:
    outside = tmp_path / "precious.json"
    outside.write_text("mine")
    (runnable / "runtime.json").symlink_to(outside)
    with pytest.raises(ArtefactError, match="is a link"):
        write_choices(runnable, load_artefact(runnable), "cpu", [], {})
    assert outside.read_text() == "mine"
