"""``checkpoint:FILE``: weights that name their own architecture.

A .safetensors file carries, under the metadata key ``pilotfish``, a JSON object: ``architecture`` (a ``timm:`` or
``torchvision:`` name, or one of the small networks ``small:mlp``, ``small:convnet``), ``arguments`` (``num_classes``;
``width`` and ``side`` for the small ones), ``preprocessing`` and ``class_names``. A .pt file is a dict with the same
keys beside ``state_dict``. No code is run for either: an architecture is looked up by name. The network is built for
inputs of the size that the preprocessing makes.
"""

from __future__ import annotations

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
from pilotfish.models.names.spec import ModelSpec, Size, allow_options, parse_spec, plain_size
from pilotfish.models.names.stated import ASSUMED, at_size, with_stated
from pilotfish.models.names.training_scripts import of_training
from pilotfish.models.names.weights_file import WeightsFile, metadata_document, read_weights
from pilotfish.models.preprocessing import Preprocessing

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

    ``?num_classes=N`` where the file does not say it; by default as many as its head has. A size other than the one it
    was trained at is noted.
    """
    allow_options(spec, "num_classes")
    path = weights or Path(spec.name)
    file = read_weights(path)
    document = document_of(file)
    own = Preprocessing.from_json(document["preprocessing"]) if document.get("preprocessing") else None
    kind = str(document["architecture"]).partition(":")[0]
    model = (
        _library_model(spec, document, own, device, file)
        if kind in LIBRARIES
        else _small_model(spec, document, own, device, file)
    )
    names = _class_names(document, model.n_classes, path)
    chain, assumed = model.preprocessing, () if document["stated"] is not None else ASSUMED
    if own is not None:
        chain, assumed = at_size(own, spec.pixels) if spec.pixels else own, ()
        _refuse_other_inputs(chain, model, path)
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


def _refuse_other_inputs(chain: Preprocessing, model: Model, path: Path) -> None:
    """ModelError where a file's preprocessing makes other images than its network takes."""
    takes, size = model.input_shape, chain.size
    if chain.kind != "image" or takes is None or size is None:
        return
    makes = (chain.channels, *size) if chain.layout == "nchw" else (*size, chain.channels)
    if makes != takes:
        raise ModelError(
            f"{path}: its preprocessing makes inputs of shape {makes} and its network takes {takes}; write the file "
            "again with the preprocessing of its validation"
        )


def _library_model(
    spec: ModelSpec, document: Mapping[str, Any], own: Preprocessing | None, device: str, file: WeightsFile
) -> Model:
    """timm and torchvision build their own architectures; nothing but names of theirs is looked up."""
    from pilotfish.models.names.timm_models import load_timm
    from pilotfish.models.names.torchvision_models import load_torchvision

    arguments = document.get("arguments")
    classes = spec.options.get("num_classes") or (arguments.get("num_classes") if isinstance(arguments, dict) else None)
    named = parse_spec(str(document["architecture"]))
    if named.options:
        raise ModelError(
            f"{file.path}: its architecture {named.text[:80]!r} has options, and a file states them under "
            f"preprocessing and arguments; write the name alone, {named.kind}:{named.name[:80]}"
        )
    trained = _trained_at(spec, named, own, file.path) or document.get("size")
    options = dict(document.get("built_with", {})) if named.kind == "timm" else {}
    options |= {} if classes is None else {"num_classes": str(classes)}
    inner = dataclasses.replace(named, text=spec.text, size=spec.size or trained, options=options)
    model = (load_timm if named.kind == "timm" else load_torchvision)(inner, device, file)
    if (stated := document["stated"]) is not None:
        model = with_stated(dataclasses.replace(model, assumed=()), dataclasses.replace(inner, stated=stated))
    notes = (*model.notes, *document.get("notes", ()))
    if trained is not None and spec.size not in (None, trained):
        said = f"its file says that it was trained at {_shown(trained)} pixels, and it is run at {_shown(spec.size)}"
        notes += (f"{spec.text}: {said}; leave the size out, or write ?size={_shown(trained)}, for its own",)
    return dataclasses.replace(model, notes=notes)


def _trained_at(spec: ModelSpec, named: ModelSpec, own: Preprocessing | None, path: Path) -> Size | None:
    """The size that a file's architecture or preprocessing names; ModelError where they differ and *spec* has none."""
    sizes = [one for one in (named.size, None if own is None or own.size is None else plain_size(own.size)) if one]
    if len(set(sizes)) > 1 and spec.size is None:
        raise ModelError(
            f"{path}: its architecture {named.text[:80]!r} and its preprocessing ({_shown(sizes[1])} pixels) name two "
            f"sizes; say which, as checkpoint:{path}?size={_shown(sizes[0])}, or write the file again"
        )
    return sizes[-1] if sizes else None


def _shown(size: Size | None) -> str:
    return str(size) if size is None or isinstance(size, int) else f"{size[0]}x{size[1]}"


def _small_model(
    spec: ModelSpec, document: Mapping[str, Any], own: Preprocessing | None, device: str, file: WeightsFile
) -> Model:
    if own is None:
        raise ModelError(f"{file.path}: its metadata lack preprocessing; write it with save_checkpoint")
    module, shape = _build(document, file.path)
    load_weights(module, file)
    if spec.pixels not in (None, shape[1:]):
        raise ModelError(f"{spec.text}: its network takes inputs of {shape[1]} pixels only; leave the size out")
    classes = int(document["arguments"]["num_classes"])
    if spec.options.get("num_classes") not in (None, str(classes)):
        raise ModelError(f"{spec.text}: the file has {classes} classes; leave num_classes out")
    return torch_model(spec.text, module, own, shape, device, n_classes=classes)


def document_of(file: WeightsFile) -> dict[str, Any]:
    """What a file says of its architecture: in Pilotfish's own words, or in those of a training script."""
    path = file.path
    if path.suffix.lower() == ".safetensors":
        document = {**(metadata_document(file.beside, META_KEY, str(path)) or {}), "stated": None}
    else:
        document = {**file.beside, "notes": (), "stated": None}
        document |= {} if "architecture" in document else of_training(file)
    if "architecture" not in document:
        raise ModelError(
            f"{path}: does not name its architecture; use timm:NAME?weights={path.name} with the model's name instead"
        )
    return document


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
