"""A link to ``/``, to a folder above, or links to links made a folder of images the whole machine, or went on for ever.

Taught: links that lead back are not followed and named, and folders that are entered by many ways end the walk.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from pilotfish.data import load_folder


@pytest.mark.parametrize("target", ["/", "..", ".", "/proc/self/root"])
def test_links_that_lead_back(target: str, tmp_path: Path) -> None:
    root = tmp_path / "data"
    (root / "cat").mkdir(parents=True)
    Image.new("RGB", (2, 2)).save(root / "cat/a.png")
    os.symlink(target, root / "cat/link")
    data = load_folder(root)
    assert data.ids == ("cat/a.png",)
    assert data.notes == ("links that lead back are not followed: cat/link",)


def test_links_to_links(tmp_path: Path, refused: Callable[..., str]) -> None:
    folders = [tmp_path / f"data/{i}" for i in range(9)]
    for folder in folders:
        folder.mkdir(parents=True)
    for a in folders:
        for b in folders:
            os.symlink(b, a / f"to{b.name}")
    said = refused("record", "--data", f"folder:{tmp_path}/data", "--model", "onnx:m.onnx", "--run", tmp_path / "run")
    assert "links to links" in said
