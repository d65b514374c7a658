"""``torchvision:NAME[@SIZE]``."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from pathlib import Path
from typing import Any

from pilotfish.errors import MissingExtraError, ModelError, nearest
from pilotfish.models.backends.torch_backend import torch_model
from pilotfish.models.model import Model
from pilotfish.models.names.fit_weights import load_from
from pilotfish.models.names.spec import MOST_CLASSES, ModelSpec, allow_options, parse_count
from pilotfish.models.names.stated import ASSUMED
from pilotfish.models.names.weights_file import WeightsFile, read_weights
from pilotfish.models.preprocessing import Preprocessing


def classifiers() -> list[str]:
    """Names of torchvision's classification models."""
    from torchvision import models

    return list(models.list_models(module=models))


def load_torchvision(spec: ModelSpec, device: str, weights: Path | WeightsFile | None) -> Model:
    """A torchvision classifier. ``?weights=IMAGENET1K_V1``, a file, or ``random``; the best of torchvision's else.
    With a file, as many classes as its head has unless ``?num_classes=N`` is given."""
    try:
        from torchvision import models
    except ImportError as error:
        raise MissingExtraError("torchvision", "torch", f"loading {spec.text}") from error
    from pilotfish.models.names.checkpoint import unread_note

    allow_options(spec, "weights", "num_classes")
    if spec.name not in (names := classifiers()):
        raise ModelError(f"torchvision has no classifier {spec.name!r}; {nearest(spec.name, names)}")
    known = models.get_model_weights(spec.name)
    source = weights or spec.options.get("weights", "DEFAULT")
    own = isinstance(source, str) and source in known.__members__
    entry = known[str(source)] if own else known["DEFAULT"]
    classes = parse_count(spec, "num_classes", least=2, most=MOST_CLASSES) if "num_classes" in spec.options else None
    notes: tuple[str, ...] = ()
    told = False
    if own or source == "random":
        module = _create(models, spec, entry if own else None, classes)
        found: int | None = None
    else:
        file = source if isinstance(source, WeightsFile) else read_weights(Path(source))
        told = source is not file  # by its name alone; a checkpoint: has read what the file says
        module, notes = load_from(file, lambda n: _create(models, spec, None, n), classes)
        found = _outputs(module)
    preprocessing = _preprocessing(entry.transforms(), spec.pixels)
    names_ = tuple(entry.meta["categories"])
    found = found or classes or len(names_)
    shape = (3, *(preprocessing.size or (224, 224)))
    shown = names_ if classes is None and found == len(names_) else None
    notes += unread_note(file, preprocessing, spec.text) if told else ()
    model = torch_model(spec.text, module, preprocessing, shape, device, found, shown, notes=notes)
    # the name's preprocessing is that of its own weights; a file's may be any
    named = own or spec.options.get("weights", "random") == "random"
    return model if named else dataclasses.replace(model, assumed=ASSUMED)


def _create(models: Any, spec: ModelSpec, entry: Any, classes: int | None) -> Any:
    try:
        with contextlib.redirect_stdout(sys.stderr):  # the downloader talks, and stdout is for answers
            return models.get_model(spec.name, weights=entry, **({} if classes is None else {"num_classes": classes}))
    except ModelError:  # too many weights
        raise
    except Exception as error:  # download errors of many kinds
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"the weights of {spec.text} cannot be had ({reason}); "
            "use ?weights=FILE for a local file or ?weights=random"
        ) from error


def _outputs(module: Any) -> int | None:
    """How many classes a network answers: the outputs of its last layer with weights."""
    last = [m for m in module.modules() if hasattr(m, "out_features") or hasattr(m, "out_channels")]
    return int(getattr(last[-1], "out_features", None) or last[-1].out_channels) if last else None


def _preprocessing(transforms: Any, pixels: tuple[int, int] | None) -> Preprocessing:
    crop, resize = int(transforms.crop_size[0]), int(transforms.resize_size[0])
    size = pixels or (crop, crop)
    return Preprocessing(
        size=size,
        resize=round(min(size) * resize / crop),
        interpolation=transforms.interpolation.value,
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
    )
