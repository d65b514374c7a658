"""``checkpoint:FILE``: weights that name their own architecture.

A .safetensors file carries, under the metadata key ``pilotfish``, a JSON object: ``architecture`` (a ``timm:`` or
``torchvision:`` name, or one of the small networks ``small:mlp``, ``small:convnet``), ``arguments`` (``num_classes``;
``width`` and ``side`` for the small ones), ``preprocessing`` and ``class_names``. A .pt file is a dict with the same
keys beside ``state_dict``. No code is run for either: an architecture is looked up by name.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilotfish.errors import ModelError, PilotfishError
from pilotfish.files import atomic_path
from pilotfish.models.backends.torch_backend import save_state, torch_model
from pilotfish.models.model import Model
from pilotfish.models.names.architectures import SMALL, build_small
from pilotfish.models.names.fit_weights import load_weights
from pilotfish.models.names.spec import MAX_SIZE, ModelSpec, allow_options, parse_spec
from pilotfish.models.names.stated import ASSUMED, at_size, with_stated
from pilotfish.models.names.weights_file import WeightsFile, metadata_document, read_weights
from pilotfish.models.preprocessing import RESAMPLING, Preprocessing

if TYPE_CHECKING:
    import torch

META_KEY = "pilotfish"
LIBRARIES = ("timm", "torchvision")
ARGUMENTS = ("num_classes", "width", "side")


def save_checkpoint(
    module: torch.nn.Module,
    path: Path,
    architecture: str,
    arguments: Mapping[str, int],
    preprocessing: Preprocessing,
    class_names: tuple[str, ...],
) -> None:
    """Write a .safetensors file that ``checkpoint:FILE`` can load."""
    document = {
        "architecture": architecture,
        "arguments": dict(arguments),
        "preprocessing": preprocessing.to_json(),
        "class_names": list(class_names),
    }
    with atomic_path(path) as temporary:
        save_state(module, temporary, {META_KEY: json.dumps(document)})


def load_checkpoint(spec: ModelSpec, device: str, weights: Path | None) -> Model:
    """The model in a checkpoint file. *weights* (embedded in a cascade) carry the same metadata.

    ``?num_classes=N`` where the file does not say it; by default as many as its head has.
    """
    allow_options(spec, "num_classes")
    path = weights or Path(spec.name)
    file = read_weights(path)
    document = document_of(file)
    kind = str(document["architecture"]).partition(":")[0]
    model = (
        _library_model(spec, document, device, file)
        if kind in LIBRARIES
        else _small_model(spec, document, device, file)
    )
    names = _class_names(document, model.n_classes, path)
    chain, assumed = model.preprocessing, () if document["stated"] is not None else ASSUMED
    if document.get("preprocessing"):
        chain, assumed = Preprocessing.from_json(document["preprocessing"]), ()
        chain = at_size(chain, spec.pixels) if spec.pixels else chain
    return dataclasses.replace(
        model,
        spec=spec.text,
        class_names=names or model.class_names,
        preprocessing=chain,
        assumed=assumed,
        weights=lambda target: _copy(path, target),
    )


def _class_names(document: Mapping[str, Any], classes: int | None, path: Path) -> tuple[str, ...] | None:
    names = document.get("class_names")
    if names is None or names == [] or names == ():
        return None
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ModelError(f"{path}: its class_names are {str(names)[:60]!r}; expected a list of texts")
    if classes is not None and len(names) != classes:
        raise ModelError(f"{path}: {len(names)} class_names for {classes} classes")
    try:
        "".join(names).encode()
    except UnicodeEncodeError as error:  # a lone surrogate
        raise ModelError(f"{path}: its class_names hold text that is not valid Unicode") from error
    return tuple(names)


def told_by_name(model: Model, spec: ModelSpec, source: str | WeightsFile, given: Any, own: bool) -> Model:
    """A library's *model*, whose weights its name alone chose, with what is not known of its preprocessing.

    source  weights that were taken; given: where they are these, a checkpoint: named them, and reads what the file says
    own     whether the name asks for weights of the library's own: the architecture's preprocessing is theirs, a file's
            may be any. A note says where the file states another, which ``checkpoint:FILE`` would read
    """
    if source is given:
        return model
    notes = model.notes
    if isinstance(source, WeightsFile):
        with contextlib.suppress(PilotfishError, KeyError, TypeError, ValueError):
            document = metadata_document(source.beside, META_KEY, "") or source.beside
            if Preprocessing.from_json(document["preprocessing"]) != model.preprocessing:
                said = f"{source.path} states its own preprocessing, which {spec.text} does not read"
                notes += (f"{said}: load it as checkpoint:{source.path}",)
    return dataclasses.replace(model, notes=notes, assumed=() if own else ASSUMED)


def _copy(path: Path, target: Path) -> None:
    if path.suffix != ".safetensors":
        raise ModelError(f"{path}: only .safetensors checkpoints can be embedded; save it as one")
    shutil.copyfile(path, target)


def _library_model(spec: ModelSpec, document: Mapping[str, Any], device: str, file: WeightsFile) -> Model:
    """timm and torchvision build their own architectures; nothing but names of theirs is looked up."""
    from pilotfish.models.names.timm_models import load_timm
    from pilotfish.models.names.torchvision_models import load_torchvision

    arguments = document.get("arguments")
    classes = spec.options.get("num_classes") or (arguments.get("num_classes") if isinstance(arguments, dict) else None)
    named = parse_spec(str(document["architecture"]))
    options = dict(document.get("built_with", {})) if named.kind == "timm" else {}
    options |= {} if classes is None else {"num_classes": str(classes)}
    size = spec.size or named.size or document.get("size")
    inner = dataclasses.replace(named, text=spec.text, size=size, options=options)
    model = (load_timm if named.kind == "timm" else load_torchvision)(inner, device, file)
    if (stated := document["stated"]) is not None:
        model = with_stated(dataclasses.replace(model, assumed=()), dataclasses.replace(inner, stated=stated))
    return dataclasses.replace(model, notes=(*model.notes, *document.get("notes", ())))


def _small_model(spec: ModelSpec, document: Mapping[str, Any], device: str, file: WeightsFile) -> Model:
    if not document.get("preprocessing"):
        raise ModelError(f"{file.path}: its metadata lack preprocessing; write it with save_checkpoint")
    module, shape = _build(document, file.path)
    load_weights(module, file)
    if spec.pixels not in (None, shape[1:]):
        raise ModelError(f"{spec.text}: its network takes inputs of {shape[1]} pixels only; leave the size out")
    classes = int(document["arguments"]["num_classes"])
    if spec.options.get("num_classes") not in (None, str(classes)):
        raise ModelError(f"{spec.text}: the file has {classes} classes; leave num_classes out")
    chain = Preprocessing.from_json(document["preprocessing"])
    return torch_model(spec.text, module, chain, shape, device, n_classes=classes)


def document_of(file: WeightsFile) -> dict[str, Any]:
    """What a file says of its architecture: in Pilotfish's own words, or in those of a training script."""
    path = file.path
    if path.suffix.lower() == ".safetensors":
        document = {**(metadata_document(file.beside, META_KEY, str(path)) or {}), "stated": None}
    else:
        document = {**file.beside, "notes": (), "stated": None}
        document |= {} if "architecture" in document else _of_training(file)
    if "architecture" not in document:
        raise ModelError(
            f"{path}: does not name its architecture; use timm:NAME?weights={path.name} with the model's name instead"
        )
    return document


def _of_training(file: WeightsFile) -> dict[str, Any]:
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
    if isinstance(size := said.get("img_size"), int) and 0 < size <= MAX_SIZE:
        found["size"] = size
    if {"mean", "std", "crop_pct"} <= said.keys():  # timm's script: what is not given there is the architecture's own
        found["stated"] = _stated_in_training(said)
    if kwargs := said.get("model_kwargs"):
        found["notes"] = (f"{file.path}: was trained with model_kwargs {str(kwargs)[:80]}, which are not applied",)
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


def _build(document: Mapping[str, Any], path: Path) -> tuple[Any, tuple[int, ...]]:
    kind, _, name = str(document["architecture"]).partition(":")
    if kind != "small" or name not in SMALL:
        known = ", ".join(f"small:{n}" for n in SMALL)
        raise ModelError(
            f"{path}: unknown architecture {str(document['architecture'])[:80]!r}; a checkpoint names one of {known}"
        )
    try:
        arguments = {key: int(document["arguments"][key]) for key in ARGUMENTS}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        found = str(document.get("arguments"))[:160]
        raise ModelError(f"{path}: arguments {', '.join(ARGUMENTS)} are needed, found {found}") from error
    if not all(0 < value <= 65536 for value in arguments.values()):
        raise ModelError(f"{path}: arguments out of range (1 to 65536): {arguments}")
    return build_small(name, **arguments), (1, arguments["side"], arguments["side"])
