"""Preprocessing in a file asked for inputs of 30,000 x 30,000 pixels, or divided by zero: gigabytes per sample, or NaN
for every pixel.

Taught: sizes have limits, and mean and std must make numbers, in whatever file the chain stands.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pilotfish.errors import ArtefactError, PilotfishError
from pilotfish.files import sha256_json
from pilotfish.models import Preprocessing, load_model

SOUND = Preprocessing(size=(8, 8), resize=9, mean=(0.5,), std=(0.25,)).to_json()
HUGE = 10**400
ASKED = [
    {"size": [30_000, 30_000]},
    {"size": [1, 4097]},
    {"size": [8, HUGE]},
    {"size": [0, 8]},
    {"size": [8.0, 8.0]},
    {"size": [True, 8]},
    {"size": "88"},
    {"resize": 30_000},
    {"resize": [HUGE, 9]},
    {"resize": -9},
    {"std": [0]},
    {"std": [1e-300]},
    {"std": [1e39]},
    {"std": [HUGE]},
    {"mean": [1e39]},
    {"mean": [float("nan")]},
    {"mean": [float("inf")]},
    {"mean": ["x"]},
    {"mean": [0.5] * 100_000, "std": [0.5] * 100_000},
    {"dtype": "\ud800"},
    {"dtype": ["float32"]},
    {"interpolation": 7},
    {"decoder": "../../evil"},
    {"kind": "python:evil:f"},
    {"evil": 1},
]


@pytest.mark.parametrize("asked", ASKED, ids=lambda asked: str(asked)[:40])
@pytest.mark.parametrize("kind", ["image", "tensor"])
def test_what_cannot_be_carried_out_is_refused(asked: dict[str, Any], kind: str) -> None:
    tensor = {"kind": "tensor", "size": None, "resize": None, "mean": [], "std": []}
    if kind == "tensor" and not set(asked) & {"size", "resize", "dtype", "evil"}:
        return
    document = {**SOUND, **(tensor if kind == "tensor" else {}), **asked}
    with pytest.raises(ArtefactError) as caught:
        Preprocessing.from_json(document)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("asked", ASKED[:5] + ASKED[10:14], ids=lambda asked: str(asked)[:40])
def test_nor_in_the_metadata_of_an_onnx_file(asked: dict[str, Any], net: Any, tmp_path: Path) -> None:
    chain = {**SOUND, **asked}
    file = net(tmp_path / "m.onnx", 0, **{"pilotfish.preprocessing": json.dumps(chain)})
    with pytest.raises(PilotfishError) as caught:
        load_model(f"onnx:{file}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("asked", [{"size": [30_000, 30_000]}, {"std": [0]}, {"size": [HUGE, 1]}], ids=str)
def test_nor_in_a_checkpoint(asked: dict[str, Any], tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    from pilotfish.models.names.architectures import build_small

    arguments = {"num_classes": 4, "width": 2, "side": 8}
    document = {"architecture": "small:mlp", "arguments": arguments, "preprocessing": {**SOUND, **asked}}
    state = build_small("mlp", 4, 2, 8).state_dict()
    save_file(state, tmp_path / "m.safetensors", metadata={"pilotfish": json.dumps(document)})
    torch.save({**document, "state_dict": state}, tmp_path / "m.pt")
    for file in ("m.safetensors", "m.pt"):
        with pytest.raises(PilotfishError, match=r"preprocessing|number beyond float64"):
            load_model(f"checkpoint:{tmp_path}/{file}")


@pytest.mark.parametrize("arguments", [{"side": 30_000}, {"width": 65_536}, {"side": HUGE}, {"width": float("inf")}])
def test_nor_a_network_that_would_fill_the_memory(arguments: dict[str, Any], tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from pilotfish.models.names.architectures import build_small

    document = {"architecture": "small:mlp", "arguments": {"num_classes": 4, "width": 2, "side": 8, **arguments}}
    state = build_small("mlp", 4, 2, 8).state_dict()
    torch.save({**document, "preprocessing": SOUND, "state_dict": state}, tmp_path / "m.pt")
    with pytest.raises(PilotfishError, match=r"out of range|are needed|has shape"):
        load_model(f"checkpoint:{tmp_path}/m.pt")


def test_a_chain_in_a_cascade_is_held_to_the_same(runnable: Path, made: Path, refused: Any) -> None:
    """A cascade's own chain is used where a model states none, once it has the hash that stands beside it."""
    file = runnable / "cascade.json"
    document = json.loads(file.read_text())
    chain = {**document["stages"][0]["preprocessing"], "kind": "image", "size": [30_000, 30_000]}
    document["stages"][0] |= {"preprocessing": chain, "preprocessing_hash": sha256_json(chain)}
    file.write_text(json.dumps(document))
    assert "other preprocessing" in refused("predict", runnable, made / "data.npz")


def test_usual_chains_pass() -> None:
    for chain in (
        Preprocessing(),
        Preprocessing(size=(4096, 4096), resize=8192),
        Preprocessing(mean=(0.0,) * 3, std=(1 / 255,) * 3),
        Preprocessing(kind="tensor", size=None, resize=None, mean=(), std=()),
        dataclasses.replace(Preprocessing(), dtype="int8", decoder="pillow-draft"),
    ):
        assert Preprocessing.from_json(json.loads(json.dumps(chain.to_json()))) == chain
    assert np.isfinite(Preprocessing(size=(8, 8))(np.zeros((9, 9, 3), np.uint8))).all()
