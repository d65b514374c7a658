"""``torchvision:NAME[@SIZE]``."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

from pilotfish.errors import ModelError, nearest, needs, reason
from pilotfish.models.backends.torch_backend import torch_model
from pilotfish.models.model import Model
from pilotfish.models.names.fit_weights import asked_weights, load_from
from pilotfish.models.names.spec import ModelSpec, allow_options, asked_classes
from pilotfish.models.names.weights_file import WeightsFile
from pilotfish.models.preprocessing import Preprocessing

TASKS = {"detection": "boxes", "segmentation": "mask"}
"""What the models of torchvision's modules answer."""
AUXILIARY = ("fcn_", "deeplabv3_")
"""Networks for segmentation with a second head."""


def classifiers() -> list[str]:
    """Names of torchvision's classification models."""
    return _names_of("")


def all_names() -> list[str]:
    """Names of torchvision's models for classification, detection and segmentation."""
    return [name for module in ("", *TASKS) for name in _names_of(module)]


def task_of_name(spec: ModelSpec) -> str | None:
    """What a detector or a network for segmentation answers; None for other names."""
    return next((task for module, task in TASKS.items() if spec.name in _names_of(module)), None)


def _names_of(module: str) -> list[str]:
    with needs("torchvision", "torch", "listing models"):
        from torchvision import models
    return list(models.list_models(module=getattr(models, module) if module else models))


def load_torchvision(spec: ModelSpec, device: str, weights: Path | WeightsFile | None) -> Model:
    """A torchvision model. ``?weights=IMAGENET1K_V1``, a file, or ``random``; the best of torchvision's else.
    With a file, as many classes as its head has unless ``?num_classes=N`` is given."""
    with needs("torchvision", "torch", f"loading {spec.text}"):
        from torchvision import models
    from pilotfish.models.names.checkpoint import told_by_name

    if (task := task_of_name(spec)) is not None:
        from pilotfish.models.names.torchvision_dense import load_dense

        return load_dense(spec, device, weights, task, lambda entry, n: _create(models, spec, entry, n))
    allow_options(spec, "weights", "num_classes")
    if spec.name not in classifiers():
        raise ModelError(f"torchvision has no model {spec.name!r} here; {nearest(spec.name, all_names())}")
    known = models.get_model_weights(spec.name).__members__
    source, classes = asked_weights(spec, weights, "DEFAULT", (*known, "random")), asked_classes(spec)
    entry = known[source] if isinstance(source, str) and source in known else known["DEFAULT"]
    labels: tuple[str, ...] = tuple(entry.meta["categories"])
    notes: tuple[str, ...] = ()
    if isinstance(source, WeightsFile):
        module, notes = load_from(source, lambda n: _create(models, spec, None, n), classes)
        found = _outputs(module) or classes or len(labels)
    else:
        module = _create(models, spec, entry if source in known else None, classes)
        found = classes or len(labels)
    preprocessing = _preprocessing(entry.transforms(), spec.pixels)
    shape = (3, *(preprocessing.size or (224, 224)))
    shown = labels if classes is None and found == len(labels) else None
    model = torch_model(
        spec.text, module, preprocessing, shape, device, n_classes=found, class_names=shown, notes=notes
    )
    return told_by_name(model, spec, source, weights, spec.options.get("weights", "DEFAULT") in (*known, "random"))


def _create(models: Any, spec: ModelSpec, entry: Any, classes: int | None) -> Any:
    options: dict[str, Any] = {} if classes is None else {"num_classes": classes}
    if spec.pixels is not None and (sized := _sized(spec)) is not None:
        option, size = sized
        if entry is not None and tuple(entry.meta["min_size"]) != spec.pixels:
            own = "x".join(map(str, entry.meta["min_size"]))
            raise ModelError(f"{spec.text}: its weights take inputs of {own} pixels only; leave the size out")
        options[option] = size
    if spec.name not in classifiers():
        options["weights_backbone"] = None  # else they would be downloaded
    if entry is None and spec.name.startswith(AUXILIARY):
        options["aux_loss"] = True  # as the library's own weights have it
    try:
        with contextlib.redirect_stdout(sys.stderr):  # the downloader talks, and stdout is for answers
            return models.get_model(spec.name, weights=entry, **options)
    except ModelError:  # too many weights
        raise
    except Exception as error:  # download errors of many kinds
        raise ModelError(
            f"the weights of {spec.text} cannot be had ({reason(error)}); "
            "use ?weights=FILE for a local file or ?weights=random"
            if entry is not None
            else f"torchvision cannot build {spec.text}: {reason(error)}"
        ) from error


def _sized(spec: ModelSpec) -> tuple[str, Any] | None:
    """(argument, size) of the networks that are built for one size; None for the others."""
    assert spec.pixels is not None
    if spec.name.startswith("maxvit"):
        return "input_size", spec.pixels
    if not spec.name.startswith("vit"):
        return None
    if not isinstance(spec.size, int):
        raise ModelError(f"{spec.text}: takes squares; write one number as size")
    return "image_size", spec.size


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
