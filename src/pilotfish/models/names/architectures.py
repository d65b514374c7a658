"""Networks by name, with fresh weights: timm's, torchvision's, and two small ones for small images, which the
demonstration and the tests train in seconds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pilotfish.errors import ModelError, PilotfishError, reason

if TYPE_CHECKING:
    from torch import nn

SMALL = ("mlp", "convnet")
MOST_WEIGHTS = 2**27  # of a small network
FORBIDDEN = ("pretrained", "weights", "checkpoint", "cache", "scriptable", "exportable")
"""How names of arguments begin that could load or change code."""


def build_small(name: str, num_classes: int, width: int, side: int) -> nn.Module:
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


def build_backbone(name: str, arguments: Mapping[str, Any], classes: int) -> nn.Module:
    """A network by its library's name, with fresh weights."""
    library, _, own = name.partition(":")
    options = {**arguments, "num_classes": classes}
    try:
        if library == "timm":
            from pilotfish.models.names.timm_models import import_timm

            timm = import_timm(f"building {name}")
            if not timm.is_model(own):  # create_model also takes addresses of hubs and folders
                raise ModelError(f"timm knows no model {own[:80]!r}")
            found: nn.Module = timm.create_model(own, pretrained=False, **options)
            return found
        if library == "torchvision":
            from torchvision import models

            from pilotfish.models.names.torchvision_models import classifiers

            if own not in classifiers():
                raise ModelError(f"torchvision has no classifier {own[:80]!r}")
            found = models.get_model(own, weights=None, **options)
            return found
        if library == "small":
            if own not in SMALL:
                raise ModelError(f"no small network {own!r}; expected {' or '.join(f'small:{one}' for one in SMALL)}")
            return build_small(own, **{"width": 16, "side": 8, **options})
    except PilotfishError:
        raise
    except Exception as error:  # libraries raise errors of many kinds
        raise ModelError(f"{name} cannot be built ({type(error).__name__}: {reason(error)})") from error
    raise ModelError(f"unknown backbone {name!r}; expected timm:NAME, torchvision:NAME or small:NAME")


def checked_arguments(arguments: Any) -> dict[str, Any]:
    """Arguments that are names and numbers, and nothing that would load a file; ModelError otherwise."""
    if not isinstance(arguments, Mapping):
        raise ModelError(f"arguments are {str(arguments)[:60]!r}; expected an object of numbers")
    for key, value in arguments.items():
        plain = isinstance(value, int | float | bool) or (
            isinstance(value, list | tuple) and all(isinstance(v, int | float) for v in value)
        )
        named = isinstance(value, str) and re.fullmatch(r"\w{1,40}", value) is not None
        if not re.fullmatch(r"[a-z_]\w{0,40}", str(key)) or str(key).startswith(FORBIDDEN) or not (plain or named):
            raise ModelError(f"argument {str(key)[:40]!r} = {str(value)[:60]!r} is not allowed; expected numbers")
    return dict(arguments)
