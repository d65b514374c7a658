"""An index of shards named ``../../secret.safetensors``, and shards were links to files elsewhere: a cascade with
``--embed`` would have carried them away.

Taught: everything is a file of the folder itself, under a plain name. The Hub's cache alone links to files beside it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from support import hf

INDEX = "model.safetensors.index.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = hf.save(tmp_path / "vit", "vit")
    (folder / "model.safetensors").rename(tmp_path / "secret.safetensors")
    return folder


@pytest.mark.parametrize(
    "name",
    ["../secret.safetensors", "/etc/passwd", "sub/../../secret.safetensors", "..\\\\secret.safetensors", "..", "", 7],
)
def test_shards_elsewhere(name: object, folder: Path, refused: Callable[..., str]) -> None:
    (folder / INDEX).write_text(json.dumps({"weight_map": {"classifier.bias": name}}))
    said = refused("record", "--data", "digits:val", "--model", f"hf:{folder}", "--run", folder / "run")
    assert "of this folder" in said


@pytest.mark.parametrize(
    "file", ["model.safetensors", "part.safetensors", "config.json", "preprocessor_config.json", INDEX]
)
def test_links_out_of_the_folder(file: str, folder: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    if file == "part.safetensors":
        (folder / INDEX).write_text(json.dumps({"weight_map": {"classifier.bias": file}}))
    elif file in ("config.json", "preprocessor_config.json"):
        (folder / "model.safetensors").write_bytes((tmp_path / "secret.safetensors").read_bytes())
        (folder / file).rename(tmp_path / "secret.safetensors")
    (folder / file).symlink_to("../secret.safetensors")
    said = refused("record", "--data", "digits:val", "--model", f"hf:{folder}", "--run", folder / "run")
    assert f"{file}: is a link that leads out of the folder" in said


def test_a_link_to_blobs_beside_no_snapshot(folder: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "secret.safetensors").rename(tmp_path / "blobs/x")
    (folder / "model.safetensors").symlink_to("../blobs/x")
    said = refused("record", "--data", "digits:val", "--model", f"hf:{folder}", "--run", folder / "run")
    assert "leads out of the folder" in said


@pytest.mark.parametrize("name", ["../vit", "shop/..", "..", "shop/vit/../../x", "shop//vit", "~"])
def test_names_that_are_no_names_of_the_hub(name: str, refused: Callable[..., str], folder: Path) -> None:
    said = refused("record", "--data", "digits:val", "--model", f"hf:{name}", "--run", folder / "run")
    assert "no such folder" in said or "holds no config.json" in said
