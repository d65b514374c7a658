"""Heads that turn features into logits, from linear to small.

linear  pooling, a linear layer
norm    pooling, a layer norm, a linear layer
mlp     pooling, a hidden layer of *width* with ReLU, a linear layer
conv    3x3 convolution to *width* channels with batch norm and ReLU, pooling, a linear layer; for feature maps

Feature maps (N, C, H, W), or (N, H, W, C) of networks that keep channels last, are averaged over their places. Tokens
(N, T, C) give their class token where there is one, else their mean.
"""

from __future__ import annotations

import torch
from torch import nn

from pilotfish.errors import ModelError, nearest

HEADS = ("linear", "norm", "mlp", "conv")
CHANNELS_LAST = ("torchvision.models.swin_transformer",)  # timm's say so themselves
LAYOUTS = ("maps", "maps_last", "token", "tokens", "flat")


class Pool(nn.Module):
    """Features to one vector (N, C) per sample. layout: one of LAYOUTS."""

    def __init__(self, layout: str) -> None:
        super().__init__()
        self.layout = layout

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(N, C)."""
        if self.layout == "maps":
            return features.mean(dim=(2, 3))
        if self.layout == "maps_last":
            return features.mean(dim=(1, 2))
        if self.layout == "token":
            return features[:, 0]
        return features.mean(dim=1) if self.layout == "tokens" else features

    def extra_repr(self) -> str:
        """The layout."""
        return self.layout


def laid_out(features: torch.Tensor, backbone: nn.Module) -> tuple[str, int]:
    """(layout of *features*, their number of channels), by their axes and by what the backbone says of itself."""
    if features.ndim == 4:
        last = getattr(backbone, "output_fmt", "NCHW") == "NHWC" or type(backbone).__module__.startswith(CHANNELS_LAST)
        return ("maps_last", features.shape[3]) if last else ("maps", features.shape[1])
    if features.ndim == 3:
        known = (getattr(backbone, name, None) for name in ("cls_token", "class_token"))  # timm's and torchvision's
        return ("token" if any(token is not None for token in known) else "tokens"), features.shape[2]
    if features.ndim == 2:
        return "flat", features.shape[1]
    raise ModelError(f"features of shape {tuple(features.shape)} cannot be pooled; expected 2 to 4 axes")


def make_head(kind: str, layout: str, channels: int, classes: int, width: int = 128) -> nn.Module:
    """A head of *kind* for features of so many channels."""
    if kind == "linear":
        return nn.Sequential(Pool(layout), nn.Linear(channels, classes))
    if kind == "norm":
        return nn.Sequential(Pool(layout), nn.LayerNorm(channels), nn.Linear(channels, classes))
    if kind == "mlp":
        return nn.Sequential(Pool(layout), nn.Linear(channels, width), nn.ReLU(), nn.Linear(width, classes))
    if kind == "conv":
        if layout != "maps":
            raise ModelError(f"a conv head needs feature maps (N, C, H, W), found {layout}; use linear, norm or mlp")
        first = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        return nn.Sequential(first, nn.BatchNorm2d(width), nn.ReLU(), Pool(layout), nn.Linear(width, classes))
    raise ModelError(f"unknown head {kind!r}; {nearest(kind, HEADS)}")
