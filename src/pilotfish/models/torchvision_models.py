"""``torchvision:NAME[@SIZE]``."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

from pilotfish.errors import MissingExtraError, ModelError, nearest
from pilotfish.models.model import Model
from pilotfish.models.preprocessing import Preprocessing
from pilotfish.models.spec import ModelSpec, allow_options, parse_count
from pilotfish.models.torch_backend import load_state, read_state, torch_model


def classifiers() -> list[str]:
    """Names of torchvision's classification models."""
    from torchvision import models

    return list(models.list_models(module=models))


def load_torchvision(spec: ModelSpec, device: str, weights: Path | None) -> Model:
    """A torchvision classifier. ``?weights=IMAGENET1K_V1``, a file, or ``random``; the best of torchvision's else."""
    try:
        from torchvision import models
    except ImportError as error:
        raise MissingExtraError("torchvision", "torch", f"loading {spec.text}") from error
    allow_options(spec, "weights", "num_classes")
    if spec.name not in (names := classifiers()):
        raise ModelError(f"torchvision has no classifier {spec.name!r}; {nearest(spec.name, names)}")
    known = models.get_model_weights(spec.name)
    source = str(weights) if weights is not None else spec.options.get("weights", "DEFAULT")
    entry = known[source] if source in known.__members__ else known["DEFAULT"]
    own = source in known.__members__
    options = {"num_classes": parse_count(spec, "num_classes", least=2)} if "num_classes" in spec.options else {}
    try:
        with contextlib.redirect_stdout(sys.stderr):  # the downloader talks, and stdout is for answers
            module = models.get_model(spec.name, weights=entry if own else None, **options)
    except Exception as error:  # download errors of many kinds
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"the weights of {spec.text} cannot be had ({reason}); "
            "use ?weights=FILE for a local file or ?weights=random"
        ) from error
    if not own and source != "random":
        load_state(module, read_state(Path(source)), source)
    preprocessing = _preprocessing(entry.transforms(), spec.size)
    names_ = tuple(entry.meta["categories"])
    classes = options.get("num_classes", len(names_))
    shape = (3, *(preprocessing.size or (224, 224)))
    return torch_model(spec.text, module, preprocessing, shape, device, classes, names_ if not options else None)


def _preprocessing(transforms: Any, size: int | None) -> Preprocessing:
    crop, resize = int(transforms.crop_size[0]), int(transforms.resize_size[0])
    return Preprocessing(
        size=(size or crop, size or crop),
        resize=round((size or crop) * resize / crop),
        interpolation=transforms.interpolation.value,
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
    )
