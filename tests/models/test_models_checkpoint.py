"""``checkpoint:FILE``: weights that name their own architecture, and files that would run code."""

from __future__ import annotations

import argparse
import functools
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file  # noqa: E402

from pilotfish.errors import PilotfishError  # noqa: E402
from pilotfish.models import Preprocessing, load_model  # noqa: E402
from pilotfish.models.names.architectures import SMALL, build_small  # noqa: E402
from pilotfish.models.names.checkpoint import save_checkpoint  # noqa: E402

load_torch = functools.partial(load_model, backend="torch")

CHAIN = Preprocessing(size=(8, 8), resize=None, interpolation="bilinear", mean=(0.3,), std=(0.35,))
ARGUMENTS = {"num_classes": 3, "width": 4, "side": 8}
NAMES = ("cat", "dog", "eel")
BATCH = np.random.default_rng(0).standard_normal((5, 1, 8, 8), dtype=np.float32)


def module_of(architecture: str) -> Any:
    torch.manual_seed(0)
    module = build_small(architecture, **ARGUMENTS)
    for parameter in module.buffers():
        if parameter.is_floating_point():
            parameter += 0.5
    return module.eval()


def document(**changes: Any) -> dict[str, Any]:
    whole = {"architecture": "small:mlp", "arguments": ARGUMENTS, "preprocessing": CHAIN.to_json()}
    return {**whole, "class_names": list(NAMES), **changes}


def written(path: Path, **changes: Any) -> Path:
    metadata = {"pilotfish": json.dumps(document(**changes))}
    save_file(module_of("mlp").state_dict(), path, metadata=metadata)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(PilotfishError) as caught:
        load_torch(f"checkpoint:{path}")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("architecture", SMALL)
def test_a_checkpoint_gives_the_same_network_back(architecture: str, tmp_path: Path) -> None:
    module, path = module_of(architecture), tmp_path / "a b.safetensors"
    save_checkpoint(module, path, f"small:{architecture}", ARGUMENTS, CHAIN, NAMES)
    model = load_torch(f"checkpoint:{path}")
    with torch.inference_mode():
        assert np.array_equal(model.run(BATCH), module(torch.from_numpy(BATCH)).numpy())
    assert (model.preprocessing, model.class_names, model.n_classes) == (CHAIN, NAMES, 3)
    assert model.input_shape == (1, 8, 8)
    assert model.count().costs["params"] == sum(p.numel() for p in module.parameters())


def test_embedded_weights_are_the_file_itself(tmp_path: Path) -> None:
    path = written(tmp_path / "w.safetensors")
    model = load_torch(f"checkpoint:{path}")
    assert model.weights is not None
    model.weights(tmp_path / "copy.safetensors")
    again = load_torch("checkpoint:/nowhere/w.safetensors", weights=tmp_path / "copy.safetensors")
    assert again.weights_hash == model.weights_hash
    assert again.preprocessing == model.preprocessing


def test_a_pt_file_carries_the_same_keys_and_is_not_embedded(tmp_path: Path) -> None:
    torch.save({**document(), "state_dict": module_of("mlp").state_dict()}, tmp_path / "w.pt")
    model = load_torch(f"checkpoint:{tmp_path}/w.pt")
    assert model.weights_hash == load_torch(f"checkpoint:{written(tmp_path / 'w.safetensors')}").weights_hash
    assert model.weights is not None
    with pytest.raises(PilotfishError, match=r"only \.safetensors checkpoints can be embedded"):
        model.weights(tmp_path / "copy.safetensors")


def test_a_timm_training_checkpoint_names_a_timm_model(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    module = timm.create_model("test_vit", num_classes=5)
    torch.save({"arch": "test_vit", "state_dict": module.state_dict()}, tmp_path / "plain.pth")
    assert load_torch(f"checkpoint:{tmp_path}/plain.pth").n_classes == 5
    state = {"arch": "test_vit", "arguments": {"num_classes": 5}, "state_dict": module.state_dict()}
    torch.save(state, tmp_path / "told.pth")
    assert load_torch(f"checkpoint:{tmp_path}/told.pth").n_classes == 5


def test_what_a_training_script_writes_is_read(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    state = timm.create_model("test_vit", num_classes=5).state_dict()
    args = argparse.Namespace(model="test_vit", num_classes=5, gp="token", output=Path("/out"))
    for content in (
        {"epoch": 1, "arch": "test_vit", "state_dict": state, "version": 2, "args": args},
        {"model": state, "args": args, "scaler": {}},  # as DeiT's script has it
        {"arch": "test_vit", "state_dict": {f"module.{k}": v for k, v in state.items()}, "best_acc1": 0.5},
    ):
        torch.save(content, tmp_path / "w.pth.tar")
        model = load_torch(f"checkpoint:{tmp_path}/w.pth.tar")
        assert model.n_classes == 5
        assert model.backend.module.state_dict().keys() == state.keys()
        assert load_torch(f"checkpoint:{tmp_path}/w.pth.tar?num_classes=5").weights_hash == model.weights_hash
    assert model.backend.module.global_pool == "token"
    torch.save({"arch": "test_vit", "state_dict": state, "args": {"num_classes": 0}}, tmp_path / "w.pth")
    assert "was trained as a headless network (num_classes=0)" in refusal(tmp_path / "w.pth")
    torch.save({"arch": "test_vit", "state_dict": state, "args": {"model_kwargs": {"a": 1}}}, tmp_path / "w.pth")
    assert "model_kwargs {'a': 1}, which are not applied" in load_torch(f"checkpoint:{tmp_path}/w.pth").notes[0]


def test_an_architecture_that_torchvision_alone_knows_is_torchvisions(tmp_path: Path) -> None:
    models = pytest.importorskip("torchvision").models
    state = models.squeezenet1_1(num_classes=4).state_dict()
    torch.save({"arch": "squeezenet1_1", "state_dict": state}, tmp_path / "w.pth")
    assert load_torch(f"checkpoint:{tmp_path}/w.pth").n_classes == 4


def sized(path: Path, architecture: str, side: int | None, state: Any, **args: Any) -> Path:
    """A file of a *state* whose preprocessing makes inputs of *side* pixels, or that a training with *args* wrote."""
    if args:
        torch.save({"arch": architecture.partition(":")[2], "state_dict": state, "args": args}, path)
        return path
    chain = Preprocessing(size=(side, side), resize=side + 9).to_json() if side else None
    torch.save({"architecture": architecture, "preprocessing": chain, "state_dict": state}, path)
    return path


@pytest.mark.parametrize(
    ("architecture", "side", "args"),
    [
        ("timm:{}", 96, {}),
        ("timm:{}@96", 96, {}),
        ("timm:{}@96", None, {}),
        ("timm:{}", None, {"img_size": 96}),
        ("timm:{}", None, {"input_size": [3, 96, 96], "img_size": None}),
    ],
)
@pytest.mark.parametrize("network", ["test_efficientnet", "test_vit"])
def test_a_network_is_built_for_the_size_that_its_file_names(
    network: str, architecture: str, side: int | None, args: dict[str, Any], tmp_path: Path
) -> None:
    timm = pytest.importorskip("timm")
    fixed = {"img_size": 96} if network == "test_vit" else {}
    module = timm.create_model(network, num_classes=5, **fixed).eval()
    path = sized(tmp_path / "w.pth", architecture.format(network), side, module.state_dict(), **args)
    model = load_torch(f"checkpoint:{path}")
    assert (model.input_shape, model.preprocessing.size) == ((3, 96, 96), (96, 96))
    assert not any("trained at" in note for note in model.notes)
    x = np.random.default_rng(0).standard_normal((2, 3, 96, 96)).astype(np.float32)
    with torch.inference_mode():
        np.testing.assert_array_equal(model.run(x), module(torch.from_numpy(x)).numpy())
    for size in ("@128", "?size=128"):
        if fixed:
            with pytest.raises(PilotfishError, match=r"the weights are of another input size, write \?size=96$"):
                load_torch(f"checkpoint:{path}{size}")
            continue
        other = load_torch(f"checkpoint:{path}{size}")
        assert (other.input_shape, other.preprocessing.size) == ((3, 128, 128), (128, 128))
        assert other.notes[0] == (
            f"checkpoint:{path}{size}: its file says that it was trained at 96 pixels, and it is run at 128; leave the "
            "size out, or write ?size=96, for its own"
        )


@pytest.mark.parametrize(
    ("architecture", "own", "said"),
    [
        (
            "timm:test_efficientnet@96",
            {},
            "and its preprocessing (128 pixels) name two sizes; say which, as checkpoint:",
        ),
        ("timm:test_efficientnet?mean=0.5", {}, "has options, and a file states them under preprocessing"),
        (
            "timm:test_efficientnet",
            {"mean": (0.5,), "std": (0.5,)},
            "(1, 128, 128) and its network takes (3, 128, 128)",
        ),
        ("timm:test_efficientnet", {"layout": "nhwc"}, "(128, 128, 3) and its network takes (3, 128, 128)"),
    ],
)
def test_files_that_contradict_themselves_are_refused(
    architecture: str, own: dict[str, Any], said: str, tmp_path: Path
) -> None:
    timm = pytest.importorskip("timm")
    state = timm.create_model("test_efficientnet", num_classes=5).state_dict()
    chain = Preprocessing(size=(128, 128), **own).to_json()
    torch.save({"architecture": architecture, "preprocessing": chain, "state_dict": state}, tmp_path / "w.pth")
    assert said in refusal(tmp_path / "w.pth")
    if "@" in architecture:
        chosen = load_torch(f"checkpoint:{tmp_path}/w.pth?size=96")
        assert (chosen.input_shape, chosen.preprocessing.size) == ((3, 96, 96), (96, 96))


def test_a_small_network_and_its_preprocessing_have_one_size(tmp_path: Path) -> None:
    other = {**CHAIN.to_json(), "size": [16, 16]}
    assert "makes inputs of shape (1, 16, 16)" in refusal(written(tmp_path / "w.safetensors", preprocessing=other))


def test_what_torchvision_s_script_writes_is_read(tmp_path: Path) -> None:
    models = pytest.importorskip("torchvision").models
    state = models.squeezenet1_1(num_classes=4).state_dict()
    said = {"model": "squeezenet1_1", "val_crop_size": 96, "val_resize_size": 110, "interpolation": "bicubic"}
    torch.save({"model": state, "args": argparse.Namespace(**said)}, tmp_path / "w.pth")
    model = load_torch(f"checkpoint:{tmp_path}/w.pth")
    assert (model.preprocessing.size, model.preprocessing.resize) == ((96, 96), 110)
    assert (model.preprocessing.interpolation, model.notes) == ("bicubic", ())


class Payload:
    """Unpickling it writes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.target, "ran")


@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.bin", "w.ckpt", "w.tar", "w.safetensors", "w.pkl"])
@pytest.mark.parametrize("how", ["torch", "old torch", "pickle"])
def test_a_pickle_is_refused_and_not_run(name: str, how: str, tmp_path: Path) -> None:
    path, target = tmp_path / name, tmp_path / "payload ran"
    content = {"architecture": "small:mlp", "state_dict": Payload(target)}
    if how == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "torch")
    refusal(path)
    with pytest.raises(PilotfishError):
        load_torch(f"timm:test_vit?weights={path}")
    assert not target.exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"architecture": "python:os:system"}, "unknown architecture 'python:os:system'; a checkpoint names one of"),
        ({"architecture": "small:transformer"}, "unknown architecture 'small:transformer'"),
        ({"architecture": ["small:mlp"]}, "unknown architecture"),
        ({"architecture": "timm:no_such_model", "arguments": [1]}, "timm has no model"),
        ({"arguments": {"num_classes": 3}}, "arguments num_classes, width, side are needed"),
        ({"arguments": None}, "arguments num_classes, width, side are needed"),
        ({"arguments": {**ARGUMENTS, "width": 10**12}}, "arguments out of range (1 to 65536)"),
        ({"arguments": {**ARGUMENTS, "width": -1}}, "arguments out of range"),
        ({"arguments": {**ARGUMENTS, "width": "wide"}}, "are needed"),
        ({"arguments": {**ARGUMENTS, "num_classes": 4}}, "3.bias has shape (3,), the model's has (4,)"),
        ({"preprocessing": {"interpolation": "magic"}}, "preprocessing"),
        ({"preprocessing": None}, "lack preprocessing"),
    ],
)
def test_metadata_that_make_no_model(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    assert said in refusal(written(tmp_path / "w.safetensors", **changes))


def test_files_without_an_architecture_say_how_to_name_one(tmp_path: Path) -> None:
    save_file(module_of("mlp").state_dict(), tmp_path / "w.safetensors")
    assert "does not name its architecture; use timm:NAME?weights=w.safetensors" in refusal(tmp_path / "w.safetensors")
    torch.save(module_of("mlp").state_dict(), tmp_path / "w.pt")
    assert "does not name its architecture" in refusal(tmp_path / "w.pt")
    save_file(module_of("mlp").state_dict(), tmp_path / "w.safetensors", metadata={"pilotfish": "{"})
    assert "is not valid JSON" in refusal(tmp_path / "w.safetensors")
    assert "no such weights file" in refusal(tmp_path / "absent.safetensors")
