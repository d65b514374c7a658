"""Two small networks for small images: the demonstration and the tests train them in seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

NETWORKS = ("mlp", "convnet")


def build(name: str, num_classes: int, width: int, side: int) -> nn.Module:
    """``mlp``: one hidden layer on side x side grey pixels. ``convnet``: four 3x3 convolutions, a pooling, a head.

    width  hidden units, or channels of the first convolution
    """
    from torch import nn

    if name == "mlp":
        return nn.Sequential(nn.Flatten(), nn.Linear(side * side, width), nn.ReLU(), nn.Linear(width, num_classes))
    layers: list[nn.Module] = []
    channels = 1
    for out in (width, width, 2 * width, 2 * width):
        layers += [nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
        channels = out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))
