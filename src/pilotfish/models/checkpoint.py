"""``checkpoint:FILE``: weights that name their own architecture.

A .safetensors file carries, under the metadata key ``pilotfish``, a JSON object: ``architecture`` (a ``timm:`` or
``torchvision:`` name, or one of the small networks ``small:mlp``, ``small:convnet``), ``arguments`` (``num_classes``;
``width`` and ``side`` for the small ones), ``preprocessing`` and ``class_names``. A .pt file is a dict with the same
keys beside ``state_dict``. No code is run for either: an architecture is looked up by name.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilotfish.errors import ModelError
from pilotfish.files import atomic_path
from pilotfish.models import small
from pilotfish.models.model import Model
from pilotfish.models.preprocessing import Preprocessing
from pilotfish.models.spec import ModelSpec, allow_options, parse_spec
from pilotfish.models.torch_backend import import_torch, load_state, read_state, torch_model

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
    from safetensors.torch import save_file

    document = {
        "architecture": architecture,
        "arguments": dict(arguments),
        "preprocessing": preprocessing.to_json(),
        "class_names": list(class_names),
    }
    state = {name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}
    with atomic_path(path) as temporary:
        save_file(state, temporary, metadata={META_KEY: json.dumps(document)})


def load_checkpoint(spec: ModelSpec, device: str, weights: Path | None) -> Model:
    """The model in a checkpoint file. *weights* (embedded in a cascade) carry the same metadata."""
    allow_options(spec)
    path = weights or Path(spec.name)
    document, state = _read(path)
    kind = str(document["architecture"]).partition(":")[0]
    model = (
        _library_model(spec, document, device, path)
        if kind in LIBRARIES
        else _small_model(spec, document, device, path, state)
    )
    names = document.get("class_names")
    preprocessing = document.get("preprocessing")
    return dataclasses.replace(
        model,
        spec=spec.text,
        class_names=tuple(str(name) for name in names) if names else model.class_names,
        preprocessing=Preprocessing.from_json(preprocessing) if preprocessing else model.preprocessing,
        weights=lambda target: _copy(path, target),
    )


def read_document(path: Path) -> dict[str, Any]:
    """What a checkpoint says of its architecture."""
    return _read(path)[0]


def _copy(path: Path, target: Path) -> None:
    if path.suffix != ".safetensors":
        raise ModelError(f"{path}: only .safetensors checkpoints can be embedded; save it as one")
    shutil.copyfile(path, target)


def _library_model(spec: ModelSpec, document: Mapping[str, Any], device: str, path: Path) -> Model:
    """timm and torchvision build their own architectures; nothing but names of theirs is looked up."""
    from pilotfish.models.timm_models import load_timm
    from pilotfish.models.torchvision_models import load_torchvision

    arguments = document.get("arguments")
    classes = arguments.get("num_classes") if isinstance(arguments, dict) else None
    named = parse_spec(str(document["architecture"]))
    inner = dataclasses.replace(named, text=spec.text, options={} if classes is None else {"num_classes": str(classes)})
    return (load_timm if named.kind == "timm" else load_torchvision)(inner, device, path)


def _small_model(spec: ModelSpec, document: Mapping[str, Any], device: str, path: Path, state: dict[str, Any]) -> Model:
    if not document.get("preprocessing"):
        raise ModelError(f"{path}: its metadata lack preprocessing; write it with save_checkpoint")
    module, shape = _build(document, path)
    load_state(module, state, str(path))
    classes = int(document["arguments"]["num_classes"])
    return torch_model(spec.text, module, Preprocessing.from_json(document["preprocessing"]), shape, device, classes)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    state = read_state(path)
    if path.suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(META_KEY)
        document = _parse(text, path)
    else:
        loaded = import_torch("reading weights").load(path, map_location="cpu", weights_only=True)
        document = {k: v for k, v in loaded.items() if k != "state_dict"} if "state_dict" in loaded else {}
    if "arch" in document:  # timm's own training script
        document.setdefault("architecture", f"timm:{document['arch']}")
    if "architecture" not in document:
        raise ModelError(
            f"{path}: does not name its architecture; use timm:NAME?weights={path.name} with the model's name instead"
        )
    return document, state


def _parse(text: str | None, path: Path) -> dict[str, Any]:
    try:
        document = json.loads(text) if text else {}
    except ValueError as error:
        raise ModelError(f"{path}: its {META_KEY} metadata is not valid JSON ({error})") from error
    return document if isinstance(document, dict) else {}


def _build(document: Mapping[str, Any], path: Path) -> tuple[Any, tuple[int, ...]]:
    kind, _, name = str(document["architecture"]).partition(":")
    if kind != "small" or name not in small.NETWORKS:
        known = ", ".join(f"small:{n}" for n in small.NETWORKS)
        raise ModelError(
            f"{path}: unknown architecture {document['architecture']!r}; a checkpoint names one of {known}"
        )
    try:
        arguments = {key: int(document["arguments"][key]) for key in ARGUMENTS}
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{path}: arguments {', '.join(ARGUMENTS)} are needed, found {document.get('arguments')}"
        ) from error
    if not all(0 < value <= 65536 for value in arguments.values()):
        raise ModelError(f"{path}: arguments out of range (1 to 65536): {arguments}")
    return small.build(name, **arguments), (1, arguments["side"], arguments["side"])
