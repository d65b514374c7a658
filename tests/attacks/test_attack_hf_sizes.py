"""A config.json of a few bytes asked for a network of terabytes, or of a hundred million layers, and a processor for
images of a million pixels a side.

Taught: a network is built without memory first, and given up as soon as its weights are more than its files could hold,
in number or in size.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from support import hf


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hf.save(tmp_path_factory.mktemp("hf") / "vit", "vit")


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_size": 2**20, "intermediate_size": 2**20},
        {"num_hidden_layers": 10**8},
        {"image_size": 2**16, "patch_size": 1},
        {"id2label": None, "num_labels": 10**8},
    ],
    ids=["wide", "deep", "positions", "classes"],
)
def test_networks_larger_than_their_files(
    changes: dict[str, Any], folder: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    import shutil

    changed = hf.edit(shutil.copytree(folder, tmp_path / "vit"), "config.json", **changes)
    said = refused("record", "--data", "digits:val", "--model", f"hf:{changed}", "--run", tmp_path / "run")
    assert "weights" in said or "classes" in said


@pytest.mark.parametrize("size", [{"height": 10**6, "width": 10**6}, {"shortest_edge": 10**9}, 10**6, [10**6, 2]])
def test_images_larger_than_memory(size: Any, folder: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    import shutil

    changed = hf.edit(shutil.copytree(folder, tmp_path / "vit"), "preprocessor_config.json", size=size)
    said = refused("record", "--data", "digits:val", "--model", f"hf:{changed}", "--run", tmp_path / "run")
    assert "expected 1 to 4096" in said


@pytest.mark.parametrize(
    "changes", [{"image_size": 4096}, {"patch_size": 1}, {"patch_size": 0}, {"image_size": "4096"}]
)
def test_tables_of_all_pairs_of_positions(
    changes: dict[str, Any], folder: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    """LeViT makes one in Python: a size of 4096 took hours."""
    import shutil

    levit = {
        "model_type": "levit",
        "architectures": ["LevitForImageClassification"],
        "image_size": 224,
        "patch_size": 16,
    }
    changed = hf.edit(shutil.copytree(folder, tmp_path / "levit"), "config.json", **levit | changes)
    said = refused("record", "--data", "digits:val", "--model", f"hf:{changed}", "--run", tmp_path / "run")
    assert "positions a side" in said or "describes no levit" in said
