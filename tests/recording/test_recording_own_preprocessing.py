"""Three models of a user's own, each recorded at the accuracy that plain code gives, or with a note that names what was
assumed and the better choice: a timm network fine-tuned with mean and std of .5, an ONNX file with its normalisation
inside, a squeezed EfficientNet-Lite with a head of its own."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch")
pytest.importorskip("timm")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import timm
import torch

from pilotfish.data import load_data
from pilotfish.models import Preprocessing, load_model
from pilotfish.models.exits.attached import attach_exits
from pilotfish.models.exits.describe import save_network
from pilotfish.recording import RecordOptions, record_model
from pilotfish.records import Run
from pilotfish.train.backbone import find_backbone
from support.colours import CLASSES, SIDE, by_hand, linear_onnx, nearest, pictures, plain_accuracy

OPTIONS = RecordOptions(timing=False, batch_size=32, workers=1)
Chain = Callable[[Any], np.ndarray]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pictures(tmp_path_factory.mktemp("pictures"), n=96)


def inputs(folder: Path, chain: Chain) -> tuple[Any, np.ndarray]:
    files = [(path, k) for k, name in enumerate(CLASSES) for path in sorted((folder / name).iterdir())]
    batch = np.stack([chain(Image.open(path).convert("RGB")) for path, _ in files])
    return torch.from_numpy(batch), np.array([k for _, k in files])


def fine_tuned(architecture: str, folder: Path, chain: Chain, target: Path) -> float:
    """Give the network a head for the classes of *folder*, write its weights, and say how often it is right."""
    torch.manual_seed(0)
    net = timm.create_model(architecture, num_classes=len(CLASSES)).eval()
    x, labels = inputs(folder, chain)
    with torch.inference_mode():
        features = net.forward_head(net.forward_features(x), pre_logits=True).double().numpy()
        centred = features - features.mean(axis=0)
        wanted = np.eye(len(CLASSES))[labels] - 1 / len(CLASSES)
        ridge = 1e-6 * np.square(centred).sum() / centred.shape[1] * np.eye(centred.shape[1])
        weights = np.linalg.solve(centred.T @ centred + ridge, centred.T @ wanted)
    with torch.no_grad():
        net.get_classifier().weight.copy_(torch.from_numpy(weights.T))
        net.get_classifier().bias.copy_(torch.from_numpy(-features.mean(axis=0) @ weights))
    args = argparse.Namespace(model=architecture, num_classes=len(CLASSES))
    torch.save({"arch": architecture, "state_dict": net.state_dict(), "args": args}, target)
    with torch.inference_mode():
        return float((net(x).argmax(dim=1).numpy() == labels).mean())


def recorded(folder: Path, name: str, run: Path) -> tuple[float, tuple[str, ...]]:
    model = load_model(name, backend=None if name.startswith("onnx") else "torch")  # no export: it takes seconds
    found = record_model(load_data(f"folder:{folder}"), model, Run(run), name, OPTIONS)
    outputs = Run(run).read(name)
    return float((outputs.outputs.prediction == outputs.label).mean()), found.notes


def check(folder: Path, name: str, expected: float, better: str, run: Path) -> None:
    """Recorded with what is assumed, the better choice is named; recorded with that, it is as plain code has it."""
    first, notes = recorded(folder, name, run)
    assert notes[0].startswith("preprocessing assumed: ")
    assert first < expected - 0.05
    [advice] = [note for note in notes if "record with" in note]
    assert shlex.split(advice)[-1] == better
    assert recorded(folder, better, run)[0] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("form", ["timm:test_efficientnet@32?weights={}&num_classes=6", "checkpoint:{}?size=32"])
def test_a_timm_network_with_mean_and_std_of_a_half(form: str, folder: Path, tmp_path: Path) -> None:
    def chain(image: Any) -> np.ndarray:
        return by_hand(0.5, 0.5, share=0.95)(image)

    expected = fine_tuned("test_efficientnet", folder, chain, tmp_path / "tuned.pth")
    name = form.format(tmp_path / "tuned.pth")
    check(folder, name, expected, f"{name}&mean=0.5&std=0.5", tmp_path / "run")


def test_an_onnx_file_with_its_normalisation_inside(folder: Path, tmp_path: Path) -> None:
    mean, std = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
    plain = by_hand(mean, std, scale=255)
    weights, bias = nearest(plain, folder)
    path = linear_onnx(tmp_path / "net.onnx", weights, bias, ("N", 3, SIDE, SIDE), inside=(mean, std))
    expected = plain_accuracy(plain, weights, bias, folder)
    check(folder, f"onnx:{path}", expected, f"onnx:{path}?scale=0..255", tmp_path / "run")


def test_a_squeezed_lite_with_a_head_of_its_own(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "pictures", n=60, size=(64, 36))
    chain = by_hand(0.5, 0.5, squeeze=True)
    expected = fine_tuned("tf_efficientnet_lite0", folder, chain, tmp_path / "tuned.pth")
    name = f"timm:tf_efficientnet_lite0@32?weights={tmp_path}/tuned.pth&mean=0.5&std=0.5"
    check(folder, name, expected, f"{name}&crop=squeeze", tmp_path / "run")


def test_a_file_that_states_its_preprocessing_and_is_not_asked_is_named(tmp_path: Path) -> None:
    state = {"state_dict": timm.create_model("test_efficientnet", num_classes=6).state_dict()}
    for own, notes in ((Preprocessing(size=(160, 160), resize=168), 1), (Preprocessing(mean=(0.5,) * 3), 2)):
        document = {"architecture": "timm:test_efficientnet", "preprocessing": own.to_json()}
        torch.save({**document, **state}, tmp_path / "told.pth")
        found = load_model(f"timm:test_efficientnet?weights={tmp_path}/told.pth", backend="torch").notes
        assert len(found) == notes
        assert ("load it as checkpoint:" in found[0]) == (notes == 2)
        assert load_model(f"checkpoint:{tmp_path}/told.pth", backend="torch").notes == ()


def test_a_network_trained_in_assumed_preprocessing_says_so(folder: Path, tmp_path: Path) -> None:
    fine_tuned("test_efficientnet", folder, by_hand(), tmp_path / "tuned.pth")
    name = f"timm:test_efficientnet@32?weights={tmp_path}/tuned.pth&num_classes=6"
    for stated, notes in (("&mean=0&std=1", 0), ("", 1)):
        backbone = find_backbone(f"{name}{stated}&crop=1", load_data(f"folder:{folder}"))
        network = attach_exits(backbone.module, [], backbone.input_shape, backbone.classes)
        description = backbone.described("attached", backbone=backbone.name, trained=backbone.facts)
        save_network(network, description, tmp_path / "net.safetensors")
        found = load_model(f"exits:{tmp_path}/net.safetensors", backend="torch").notes
        assert len(found) == notes
        assert all("assumed of its backbone: ImageNet mean and std; if it is another" in note for note in found)


def test_what_a_training_was_told_is_not_assumed(folder: Path, tmp_path: Path) -> None:
    """timm's script keeps it in its arguments; what it was not told is the architecture's own."""
    state = timm.create_model("test_efficientnet", num_classes=6).state_dict()
    said = {"mean": [0.5, 0.4, 0.3], "std": None, "crop_pct": 0.8, "interpolation": "bilinear", "img_size": 64}
    args = argparse.Namespace(model="test_efficientnet", num_classes=6, **said)
    torch.save({"arch": "test_efficientnet", "state_dict": state, "args": args}, tmp_path / "tuned.pth")
    model = load_model(f"checkpoint:{tmp_path}/tuned.pth", backend="torch")
    chain = model.preprocessing
    assert (chain.size, chain.resize, chain.interpolation) == ((64, 64), 80, "bilinear")
    assert (chain.mean, chain.std, model.notes) == ((0.5, 0.4, 0.3), (0.229, 0.224, 0.225), ())
    stated = load_model(f"checkpoint:{tmp_path}/tuned.pth?mean=0.1", backend="torch").preprocessing
    assert (stated.mean, stated.resize) == ((0.1,) * 3, 80)
