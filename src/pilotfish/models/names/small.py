"""Two small networks for small images: the demonstration and the tests train them in seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilotfish.errors import ModelError

if TYPE_CHECKING:
    from torch import nn

NETWORKS = ("mlp", "convnet")
MOST_WEIGHTS = 2**27


def build(name: str, num_classes: int, width: int, side: int) -> nn.Module:
    """``mlp``: one hidden layer on side x side grey pixels. ``convnet``: four 3x3 convolutions, a pooling, a head.

    width  hidden units, or channels of the first convolution

    ModelError for a network that is not small: the numbers may come from a file.
    """
    from torch import nn

    weights = side * side * width if name == "mlp" else 63 * width * width
    if not all(n > 0 for n in (num_classes, width, side)) or weights + 2 * width * num_classes > MOST_WEIGHTS:
        raise ModelError(f"small:{name} of width {width} for {side}x{side} pixels is out of range")
    if name == "mlp":
        return nn.Sequential(nn.Flatten(), nn.Linear(side * side, width), nn.ReLU(), nn.Linear(width, num_classes))
    layers: list[nn.Module] = []
    channels = 1
    for out in (width, width, 2 * width, 2 * width):
        layers += [nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
        channels = out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))
