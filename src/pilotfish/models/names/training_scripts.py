"""What timm's and torchvision's training scripts write beside weights: the architecture, and the preprocessing of their
validation."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from pilotfish.errors import ModelError
from pilotfish.models.names.spec import MAX_SIZE, Size, plain_size
from pilotfish.models.names.weights_file import WeightsFile
from pilotfish.models.preprocessing import IMAGENET_MEAN, IMAGENET_STD, RESAMPLING


def of_training(file: WeightsFile) -> dict[str, Any]:
    """The architecture as timm's and torchvision's training scripts write it: ``arch``, and the ``args`` beside it."""
    args = file.beside.get("args")
    said = dict(vars(args)) if isinstance(args, argparse.Namespace) else args if isinstance(args, dict) else {}
    arch = next((a for a in (file.beside.get("arch"), said.get("model"), said.get("arch")) if isinstance(a, str)), None)
    if arch is None:
        return {}
    found: dict[str, Any] = {"architecture": f"{_library_of(arch, file)}:{arch}", "notes": ()}
    if said.get("num_classes") == 0:
        raise ModelError(
            f"{file.path}: was trained as a headless network (num_classes=0): it returns features, not "
            "classes; use weights that were saved with a classifier"
        )
    built = {key: said[key] for key in ("in_chans", "global_pool") if said.get(key)}
    if said.get("gp"):
        built["global_pool"] = said["gp"]
    found["built_with"] = {key: str(value) for key, value in built.items()}
    if (size := _size_in_training(said)) is not None:
        found["size"] = size
    if {"mean", "std", "crop_pct"} <= said.keys():  # timm's script: what is not given there is the architecture's own
        found["stated"] = _stated_in_training(said)
    elif isinstance(said.get("val_crop_size"), int) and isinstance(said.get("val_resize_size"), int):
        found["stated"] = _stated_in_torchvision(said)
    if kwargs := said.get("model_kwargs"):
        found["notes"] = (f"{file.path}: was trained with model_kwargs {str(kwargs)[:80]}, which are not applied",)
    return found


def _size_in_training(said: Mapping[str, Any]) -> Size | None:
    """The size that a training was told: timm's ``input_size`` (C, H, W) before its ``img_size``, torchvision's
    ``val_crop_size``."""
    whole = said.get("input_size")
    told = [list(whole)[1:]] if isinstance(whole, list | tuple) and len(whole) == 3 else []
    for height, width in (*told, *([said.get(key)] * 2 for key in ("img_size", "val_crop_size"))):
        if (
            isinstance(height, int)
            and isinstance(width, int)
            and 0 < min(height, width) <= max(height, width) <= MAX_SIZE
        ):
            return plain_size((height, width))
    return None


def _stated_in_torchvision(said: Mapping[str, Any]) -> dict[str, str]:
    """What torchvision's script does in its validation: it normalises as for ImageNet, whatever it is told."""
    crop, resize = int(said["val_crop_size"]), int(said["val_resize_size"])
    mean, std = (":".join(map(str, numbers)) for numbers in (IMAGENET_MEAN, IMAGENET_STD))
    found = {"mean": mean, "std": std}
    if 0 < crop <= resize:
        found["crop"] = str(crop / (resize + 0.5))  # rounded down again to the resize that is meant
    if said.get("interpolation") in RESAMPLING:
        found["interpolation"] = str(said["interpolation"])
    return found


def _stated_in_training(said: Mapping[str, Any]) -> dict[str, str]:
    """What timm's script was told of the preprocessing of its validation, as options of a model's name."""
    found = {}
    for key in ("mean", "std"):
        if isinstance(value := said[key], list | tuple) and value:
            found[key] = ":".join(str(one) for one in value)
    if isinstance(share := said["crop_pct"], float | int):
        found["crop"] = str(share)
    if said.get("interpolation") in RESAMPLING:
        found["interpolation"] = str(said["interpolation"])
    return found


def _library_of(arch: str, file: WeightsFile) -> str:
    """timm, but for the names that torchvision alone knows."""
    from pilotfish.models.names.timm_models import import_timm

    if import_timm(f"loading {file.path}").is_model(arch):
        return "timm"
    try:
        from pilotfish.models.names.torchvision_models import classifiers

        return "torchvision" if arch in classifiers() else "timm"
    except ImportError:
        return "timm"
