"""A zip held a cascade and, beside it, a module with the name of one that the user has: whoever unpacked it, went there
and allowed the model that they knew ran the other file.

Taught: for a name that a file holds, the working directory is not on the import path, even where a name that was typed
put it there before. ``PYTHONPATH`` is how a user says where such modules are.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pilotfish.errors import ModelError
from pilotfish.models import load_model
from pilotfish.runtime import Cascade
from support.process import process


def test_a_module_beside_the_cascade_is_not_found(
    edit: Any, evil: str, marker: Path, refused: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = edit(lambda d: d["stages"][0].update(spec=f"python:{evil}:f"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])  # as in an interactive session
    with pytest.raises(ModelError, match=f"importing {evil} failed"):
        Cascade.load(folder, allow_python=(f"{evil}:f",))
    assert f"importing {evil} failed" in refused("predict", folder, "x.png", "--allow-python", f"{evil}:f")
    assert not marker.exists()


def test_nor_where_a_typed_name_was_found(
    edit: Any, evil: str, marker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"mine_{evil}.py").write_text("def f(batch): return batch\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    load_model(f"python:mine_{evil}:f")  # typed: the working directory is looked at
    folder = edit(lambda d: d["stages"][0].update(spec=f"python:{evil}:f"))
    with pytest.raises(ModelError, match=f"importing {evil} failed"):
        Cascade.load(folder, allow_python=(f"{evil}:f",))
    assert not marker.exists()


def test_nor_by_python_dash_m(edit: Any, evil: str, marker: Path, tmp_path: Path) -> None:
    """``python -m`` puts the working directory first; the installed command does not."""
    edit(lambda d: d["stages"][0].update(spec=f"python:{evil}:f"))
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 3), np.float32))
    ended = process(tmp_path, "predict", "cascade", "x.npz", "--allow-python", f"{evil}:f")
    assert ended.returncode == 1
    assert f"importing {evil} failed" in ended.stderr
    assert not marker.exists()
