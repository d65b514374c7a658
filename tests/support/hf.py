"""Tiny image classifiers of transformers in folders, with random weights that tell pictures apart."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers as tf
from PIL import Image

tf.utils.logging.disable_progress_bar()
tf.utils.logging.set_verbosity_error()

NAMES = ("cat", "dog", "fox")
SQUARE = {"height": 32, "width": 32}


def labels(names: tuple[str, ...] = NAMES) -> dict[str, Any]:
    return {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}


SMALL = {"num_attention_heads": 2, "hidden_size": 16, "intermediate_size": 32, "image_size": 32, "patch_size": 8}


def _vit() -> Any:
    return tf.ViTForImageClassification(tf.ViTConfig(num_hidden_layers=1, **SMALL, **labels()))


def _convnext() -> Any:
    return tf.ConvNextForImageClassification(
        tf.ConvNextConfig(hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], **labels())
    )


def _resnet() -> Any:
    small = {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "layer_type": "basic"}
    return tf.ResNetForImageClassification(tf.ResNetConfig(**small, **labels()))


def _mobilenet() -> Any:
    config = tf.MobileNetV1Config(depth_multiplier=0.25, image_size=32, **labels())
    return tf.MobileNetV1ForImageClassification(config)


def _efficientnet() -> Any:
    small = {"width_coefficient": 0.25, "depth_coefficient": 0.2, "hidden_dim": 320, "image_size": 32}
    return tf.EfficientNetForImageClassification(tf.EfficientNetConfig(**small, **labels()))


def _beit() -> Any:
    return tf.BeitForImageClassification(tf.BeitConfig(num_hidden_layers=1, **SMALL, **labels()))


def _swin() -> Any:
    small = {"image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4}
    return tf.SwinForImageClassification(tf.SwinConfig(**small, **labels()))


MODELS: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "vit": (_vit, lambda: tf.ViTImageProcessor(size=SQUARE)),
    "convnext": (_convnext, lambda: tf.ConvNextImageProcessor(size={"shortest_edge": 32}, crop_pct=0.875)),
    "convnext-384": (_convnext, lambda: tf.ConvNextImageProcessor(size={"shortest_edge": 384})),
    "resnet": (
        _resnet,
        lambda: tf.ViTImageProcessor(
            size={"shortest_edge": 39}, do_center_crop=True, crop_size=SQUARE, resample=3, image_mean=[0.4, 0.5, 0.6]
        ),
    ),
    "mobilenet": (_mobilenet, lambda: tf.MobileNetV1ImageProcessor(size={"shortest_edge": 37}, crop_size=SQUARE)),
    "mobilevit": (_resnet, lambda: tf.MobileViTImageProcessor(size={"shortest_edge": 36}, crop_size=SQUARE)),
    "efficientnet": (
        _efficientnet,
        lambda: tf.EfficientNetImageProcessor(size=SQUARE, rescale_offset=True, rescale_factor=1 / 127.5, resample=2),
    ),
    "beit": (
        _beit,
        lambda: tf.BeitImageProcessor(size={"height": 40, "width": 36}, do_center_crop=True, crop_size=SQUARE),
    ),
    "swin": (_swin, lambda: tf.ViTImageProcessor(size=SQUARE, resample=3, do_normalize=False)),
    "levit-like": (_resnet, lambda: tf.LevitImageProcessor(size={"shortest_edge": 32}, crop_size=SQUARE)),
    "crop-larger": (
        _resnet,
        lambda: tf.BeitImageProcessor(size={"height": 20, "width": 24}, do_center_crop=True, crop_size=SQUARE),
    ),
    "no-rescale": (
        _resnet,
        lambda: tf.ViTImageProcessor(size=SQUARE, do_rescale=False, image_mean=[127.0] * 3, image_std=[60.0] * 3),
    ),
}
"""By name: a network and an image processor."""
AS_THEY_ARE: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "longest-edge": (
        _resnet,
        lambda: tf.ViTImageProcessor(
            size={"shortest_edge": 40, "longest_edge": 48}, do_center_crop=True, crop_size=SQUARE
        ),
    ),
    "perceiver": (_resnet, lambda: tf.PerceiverImageProcessor(size=SQUARE, crop_size={"height": 28, "width": 28})),
    "lanczos": (_resnet, lambda: tf.ViTImageProcessorPil(size={"shortest_edge": 39}, resample=1)),
}
"""Processors that no preprocessing of ours says; the last two shapes differ from image to image."""


def save(folder: Path, name: str, seed: int = 0) -> Path:
    """Write the model *name* as transformers does it."""
    build, processor = {**MODELS, **AS_THEY_ARE}[name]
    torch.manual_seed(seed)
    network = build().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 1.5 / float(np.sqrt(parameter[0].numel())))
    _settle(network)
    head = [module for module in network.modules() if isinstance(module, torch.nn.Linear)][-1]
    head.weight.data *= 0.2  # rounding grows over twenty random layers
    network.save_pretrained(folder)
    processor().save_pretrained(folder)
    return folder


def _settle(network: Any) -> None:
    """Means and variances of batch normalisation as on noise, so that signals reach the end."""
    norms = [module.train() for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for module in norms:
        module.momentum = 1.0
        torch.nn.init.ones_(module.weight)
    if norms:
        with torch.no_grad():
            network(torch.randn(8, 3, 32, 32))
    network.eval()


def edit(folder: Path, file: str, **changes: Any) -> Path:
    """Change a JSON document of *folder*; None takes a key out."""
    document = json.loads((folder / file).read_text())
    document |= changes
    (folder / file).write_text(json.dumps({key: value for key, value in document.items() if value is not None}))
    return folder


def pictures(folder: Path, n: int = 6) -> Path:
    """Noise on colours, of several shapes, in folders of the classes."""
    rng = np.random.default_rng(0)
    for i in range(n):
        height, width = ((50, 61), (33, 90), (75, 38))[i // 2 % 3]
        pixels = rng.normal(rng.uniform(0, 255, 3), 50, (height, width, 3)).clip(0, 255).astype(np.uint8)
        path = folder / NAMES[i % 3] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return folder


def answers(folder: Path, paths: list[Path]) -> np.ndarray:
    """float64 (N, classes): what transformers' own pipeline says of the images."""
    classify = tf.pipeline("image-classification", model=str(folder), device="cpu")
    found = [{one["label"]: one["score"] for one in classify(str(path), top_k=99)} for path in paths]
    names = [classify.model.config.id2label[i] for i in range(len(found[0]))]
    return np.array([[one[name] for name in names] for one in found])
