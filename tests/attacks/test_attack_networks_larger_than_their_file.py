"""A checkpoint of a kilobyte said that its network has six million classes, or layers a hundred thousand wide: 12 GB
were filled with random numbers before anyone saw that the file holds no such weights.

Taught: a network that a file names has no more weights than the file could hold, if it is not small.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pilotfish.errors import ModelError
from pilotfish.models.names.spec import MOST_CLASSES, parse_count, parse_spec

pytest.importorskip("torch")
CHAIN = {"size": [8, 8], "resize": None, "interpolation": "bilinear", "mean": [0.5], "std": [0.5]}


def exits(path: Path, **changes: Any) -> Path:
    """A file that describes a network with exits and holds three numbers."""
    from safetensors.numpy import save_file

    document = {"kind": "attached", "classes": 4, "input_shape": [1, 8, 8], "preprocessing": CHAIN, **changes}
    save_file({"w": np.zeros(3, np.float32)}, path, metadata={"pilotfish.exits": json.dumps(document)})
    return path


LARGE: list[dict[str, Any]] = [
    {"backbone": "small:convnet", "arguments": {"width": 200, "side": 8}, "exits": [{"after": "2"}]},
    {"backbone": "small:mlp", "arguments": {"width": 30_000, "side": 8}, "exits": []},
    {"kind": "msdnet", "arguments": {"blocks": 2, "channels": 2000, "growth": 2000, "step": 9}},
    {
        "kind": "router",
        "saver": {"backbone": "small:convnet", "arguments": {"width": 4, "side": 8}},
        "joint": {"width": 100_000},
    },
]


@pytest.mark.parametrize("change", LARGE, ids=["wide", "mlp", "msdnet", "router"])
def test_it_is_refused_before_it_is_built(
    change: dict[str, Any], made: Path, tmp_path: Path, refused: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pilotfish.models.names.fit_weights.SMALL", 100_000)
    file = exits(tmp_path / "net.safetensors", **change)
    said = refused("record", "--data", made / "data.npz", "--model", f"exits:{file}", "--run", tmp_path / "r")
    assert "net.safetensors: the network that is named has more than 100,000 weights" in said


def test_weights_that_are_one_number_many_times_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from torch import nn

    from pilotfish.models.names.fit_weights import load_from
    from pilotfish.models.names.weights_file import read_weights

    monkeypatch.setattr("pilotfish.models.names.fit_weights.SMALL", 1000)
    state = {"weight": torch.zeros(1).expand(10**6, 3), "bias": torch.zeros(1).expand(10**6)}
    torch.save(state, tmp_path / "net.pt")
    assert (tmp_path / "net.pt").stat().st_size < 5000
    with pytest.raises(ModelError, match="has more than 1,000 weights"):
        load_from(read_weights(tmp_path / "net.pt"), lambda n: nn.Linear(3, n or 10**6))
    whole = nn.Linear(3, 5000)
    torch.save(whole.state_dict(), tmp_path / "whole.pt")
    load_from(read_weights(tmp_path / "whole.pt"), lambda n: nn.Linear(3, n or 5000))


def test_an_archive_that_unpacks_to_gigabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Any) -> None:
    import torch

    torch.save({"w": torch.zeros(10)}, tmp_path / "whole.pt")
    with zipfile.ZipFile(tmp_path / "whole.pt") as whole, zipfile.ZipFile(tmp_path / "bomb.pt", "w") as bomb:
        for name in whole.namelist():
            content = bytes(2**24) if name.endswith("data/0") else whole.read(name)
            bomb.writestr(name, content, zipfile.ZIP_DEFLATED)
    monkeypatch.setattr("pilotfish.reading.limits.LARGE", 2**20)
    said = refused("record", "--data", "digits:val", "--model", f"checkpoint:{tmp_path}/bomb.pt", "--run", tmp_path)
    assert "decompression bomb" in said


@pytest.mark.parametrize("classes", ["200001", "999999999"])
def test_classes_have_an_end(classes: str) -> None:
    spec = parse_spec(f"timm:resnet18?num_classes={classes}")
    with pytest.raises(ModelError, match="at most 200,000 are taken"):
        parse_count(spec, "num_classes", least=2, most=MOST_CLASSES)
