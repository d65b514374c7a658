"""Pictures of a few classes, and networks that know them only in the preprocessing that they were made for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pilotfish.models import Preprocessing

CLASSES = ("ant", "bee", "cat", "dog", "eel", "fox")
SIDE = 32


def pictures(folder: Path, n: int = 240, size: tuple[int, int] = (40, 40), seed: int = 0, noise: float = 10.0) -> Path:
    """A folder per class. What tells the classes apart is the colour and the brightness of the left and the right edge,
    in pictures of *size* (width, height)."""
    rng = np.random.default_rng(seed)
    width, height = size
    edge = width // 8
    for i in range(n):
        k = i % len(CLASSES)
        colour = np.roll([60.0, 0.0, -60.0], k % 2 * 2) + 80 + 50 * (k // 2)
        pixels = np.full((height, width, 3), 128.0)
        pixels[:, :edge], pixels[:, -edge:] = colour, colour
        pixels += rng.normal(0, noise, 3) + rng.normal(0, 20, pixels.shape)
        path = folder / CLASSES[k] / f"{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    return folder


def nearest(chain: Callable[[Any], np.ndarray], folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """(weights (inputs, classes), bias (classes,)) of the class whose mean input is nearest to a flattened input."""
    means = []
    for name in CLASSES:
        shown = [chain(Image.open(path).convert("RGB")) for path in sorted((folder / name).iterdir())]
        means.append(np.mean(shown, axis=0, dtype=np.float64).ravel())
    found = np.stack(means)
    return (2 * found.T).astype(np.float32), (-(found**2).sum(axis=1)).astype(np.float32)


def plain_accuracy(chain: Callable[[Any], np.ndarray], weights: np.ndarray, bias: np.ndarray, folder: Path) -> float:
    """How often a loop over the files is right."""
    right = []
    for k, name in enumerate(CLASSES):
        for path in sorted((folder / name).iterdir()):
            logits = chain(Image.open(path).convert("RGB")).ravel() @ weights + bias
            right.append(int(logits.argmax()) == k)
    return sum(right) / len(right)


def linear_onnx(
    path: Path,
    weights: np.ndarray,
    bias: np.ndarray,
    shape: tuple[Any, ...],
    dtype: str = "FLOAT",
    inside: tuple[Any, Any] | None = None,
    **metadata: str,
) -> Path:
    """An ONNX file of one layer on inputs of *shape*, the batch first. inside: a mean and a std that the file itself
    takes off and divides by, per channel."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("Cast", ["x"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["floats", "mean"], ["less"]),
        helper.make_node("Div", ["less", "std"], ["normal"]),
        helper.make_node("Flatten", ["normal"], ["flat"]),
        helper.make_node("Gemm", ["flat", "W", "b"], ["logits"]),
    ]
    mean, std = (np.reshape(part, (-1, 1, 1) if np.ndim(part) else ()).astype(np.float32) for part in inside or (0, 1))
    arrays = {"W": weights, "b": bias, "mean": mean, "std": std}
    stored = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", getattr(TensorProto, dtype), list(shape))],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [shape[0], len(bias)])],
        stored,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    if metadata:
        helper.set_model_props(model, metadata)
    onnx.save(model, path)
    return path


def by_hand(
    mean: Any = 0.0,
    std: Any = 1.0,
    scale: float = 1.0,
    offset: float = 0.0,
    bgr: bool = False,
    squeeze: bool = False,
    last: bool = False,
    share: float = 0.875,
) -> Callable[[Any], np.ndarray]:
    """Preprocessing as a user's script has it, with pixels from *offset* to *offset* + *scale*."""
    side = SIDE

    def chain(image: Image.Image) -> np.ndarray:
        crop = Preprocessing(size=(side, side), resize=None if squeeze else int(side / share))
        x = np.asarray(crop.pixels(image), np.float64) / 255 * scale + offset
        x = (x[..., ::-1] if bgr else x) - np.asarray(mean)
        x = x / np.asarray(std)
        return (x if last else x.transpose(2, 0, 1)).astype(np.float32)

    return chain
