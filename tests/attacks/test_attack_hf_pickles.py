"""A folder held ``pytorch_model.bin`` and no safetensors: transformers would unpickle it.

Taught: safetensors are all that is opened, whatever lies beside them and whatever the index says.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from pilotfish.models import load_model
from support import hf


class Evil:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return open, (str(self.marker), "w")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return hf.save(tmp_path / "vit", "vit")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "tf_model.h5", "flax_model.msgpack"])
def test_weights_of_other_kinds(name: str, folder: Path, marker: Path, refused: Callable[..., str]) -> None:
    (folder / name).write_bytes(pickle.dumps(Evil(marker)))
    load_model(f"hf:{folder}", backend="torch")  # beside safetensors they are not looked at
    (folder / "model.safetensors").unlink()
    said = refused("record", "--data", "digits:val", "--model", f"hf:{folder}", "--run", folder / "run")
    assert f"its weights are {name}, which may run code when read; save them as model.safetensors" in said
    assert not marker.exists()


def test_an_index_of_pickles(folder: Path, marker: Path, refused: Callable[..., str]) -> None:
    (folder / "model.safetensors").rename(folder / "kept")
    (folder / "part.bin").write_bytes(pickle.dumps(Evil(marker)))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "part.bin"}}))
    said = refused("record", "--data", "digits:val", "--model", f"hf:{folder}", "--run", folder / "run")
    assert "names 'part.bin'; expected .safetensors files of this folder" in said
    (folder / "model.safetensors.index.json").unlink()
    (folder / "part.bin").rename(folder / "model.safetensors")  # a pickle under another name
    said = refused("record", "--data", "digits:val", "--model", f"hf:{folder}", "--run", folder / "run")
    assert "not a readable safetensors file" in said
    assert not marker.exists()


def test_an_adapter_names_another_model(folder: Path, refused: Callable[..., str]) -> None:
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "shop/base"}))
    said = refused("record", "--data", "digits:val", "--model", f"hf:{folder}", "--run", folder / "run")
    assert "holds an adapter and no network; merge it" in said
