"""A stage of somebody's cascade was ``python:evil:f``: loading it imported ``evil.py`` from the working directory;
``python:builtins:exec`` and ``python:pickle:loads`` needed no file at all, they got the bytes of the data.

Taught: a spec in a file is somebody else's word. What runs code is refused before any stage is loaded, unless the user
names it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pilotfish import Cascade, bench, export, export_stages, tune_runtime
from pilotfish.errors import ArtefactError, UsageError
from pilotfish.runtime import predict_sequentially

CODE = ("builtins:exec", "pickle:loads", "os:system", "EVIL:f", "importlib:import_module")


def spec_of(stage: int, spec: str) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        document["stages"][1 - stage]["spec"] = "checkpoint:/nowhere.safetensors"  # never looked at
        document["stages"][stage]["spec"] = spec

    return change


@pytest.mark.parametrize("stage", [0, 1])
@pytest.mark.parametrize("code", CODE)
def test_no_code_of_a_stage_is_run(
    code: str, stage: int, edit: Any, evil: str, marker: Path, refused: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = code.replace("EVIL", evil)
    folder = edit(spec_of(stage, f"python:{code}"))
    monkeypatch.chdir(folder.parent)
    said = refused("predict", "cascade", "x.png")
    assert f"--allow-python {code}" in said
    assert ("saver", "base")[stage] in said
    assert not marker.exists()


def test_every_way_to_load_a_cascade_refuses(
    edit: Any, evil: str, marker: Path, refused: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")  # without it exports end before any stage is looked at
    folder = edit(spec_of(1, f"python:{evil}:f"))
    monkeypatch.chdir(folder.parent)
    (tmp_path / "photos").mkdir()
    np.savez(tmp_path / "data.npz", x=np.zeros((4, 3), np.float32))
    data = f"arrays:{tmp_path / 'data.npz'}"
    for command in (
        ["predict", "cascade", "photos"],
        ["predict", "cascade", "photos", "--low-memory"],
        ["bench", "cascade", "--data", data],
        ["tune-runtime", "cascade"],
        ["export", "cascade", "--out", "c.onnx"],
        ["export", "cascade", "--out", "stages", "--by-stage"],
        ["predict", "cascade", "photos", "--allow-python", f"{evil}:g"],
        ["predict", "cascade", "photos", "--allow-python", "other:f"],
    ):
        assert f"--allow-python {evil}:f" in refused(*command)
    calls: tuple[Callable[[], object], ...] = (
        lambda: Cascade.load(folder),
        lambda: predict_sequentially(folder, []),
        lambda: bench(folder, data),
        lambda: tune_runtime(folder),
        lambda: export(folder, tmp_path / "c.onnx"),
        lambda: export_stages(folder, tmp_path / "stages"),
        lambda: Cascade.load(folder, allow_python=(evil, f"{evil}:g")[1:]),
    )
    for call in calls:
        with pytest.raises(ArtefactError, match=r"allow_python=\("):
            call()
    assert not marker.exists()


def test_what_is_allowed_is_run_and_only_that(
    edit: Any, evil: str, marker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = edit(spec_of(0, f"python:{evil}:f"))
    monkeypatch.syspath_prepend(folder.parent)
    with pytest.raises(Exception, match="nowhere"):  # the other stage's weights
        Cascade.load(folder, allow_python=(f"{evil}:f",))
    assert marker.exists()


@pytest.mark.parametrize("name", ["evil", "", ":f", "evil:", "python:"])
def test_a_name_that_allows_nothing_is_said(name: str, cascade: Path) -> None:
    with pytest.raises(UsageError, match="--allow-python takes MODULE:OBJECT"):
        Cascade.load(cascade, allow_python=(name,))


def test_inspect_shows_what_would_be_loaded(edit: Any, shown: Any, evil: str, marker: Path) -> None:
    folder = edit(spec_of(0, f"python:{evil}:f"))
    code, out, err = shown("inspect", folder)
    assert code == 0
    assert f"python:{evil}:f" in out
    assert "checkpoint:/nowhere.safetensors" in out
    assert f"note: saver runs code of python:{evil}:f when it is loaded" in err
    assert not marker.exists()
