"""``hf:DIR_OR_NAME[@SIZE]``: transformers' image classifiers, detectors and segmentation, and timm's classifiers.

``hf_folder`` reads the folder, ``hf_network`` builds the network and ``hf_processor`` reads the preprocessing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pilotfish.errors import ModelError, nearest, needs, reason
from pilotfish.files import sha256_json
from pilotfish.models.backends.torch_backend import import_torch, save_state, torch_model
from pilotfish.models.model import Model
from pilotfish.models.names.architectures import checked_arguments
from pilotfish.models.names.fit_weights import load_from
from pilotfish.models.names.hf_folder import META_KEY, PROCESSOR, HfFolder, read_config, read_folder
from pilotfish.models.names.spec import ModelSpec, allow_options
from pilotfish.models.names.stated import at_size

PLACEHOLDER = re.compile(r"LABEL_\d+")
HALF = ("float16", "bfloat16")
OF_TIMM = ("mean", "std", "input_size", "fixed_input_size", "crop_pct", "crop_mode", "interpolation", "num_classes")
"""Keys of timm's pretrained_cfg that say how an image becomes an input; others name files and servers."""


def load_hf(spec: ModelSpec, device: str, weights: Path | None) -> Model:
    """The network in a folder as ``save_pretrained`` writes it, or in Hugging Face's cache under its name.

    weights  a folder, or a file of ``--embed``, that is read instead

    Its image processor's configuration is the preprocessing, and its id2label the classes. ModelError for another
    kind of network, for weights that are no safetensors, and for what needs code of its own.
    """
    allow_options(spec)
    purpose = f"loading {spec.text}"
    import_torch(purpose)
    with needs("transformers", "hf", purpose):
        import transformers  # noqa: F401
    found = read_folder(spec, weights)
    if "pretrained_cfg" in found.config:
        return _timm(spec, device, found)
    from pilotfish.models.names.hf_network import Logits, description_of, network_of, task_of
    from pilotfish.models.names.hf_processor import preprocessing_of, processor_of

    with _quiet():
        network, notes = network_of(found)
        if found.processor is None:
            raise ModelError(
                f"{found.where}: holds no {PROCESSOR}, so nothing says how an image becomes an input; write it with "
                "AutoImageProcessor's save_pretrained"
            )
        channels = int(getattr(network.config, "num_channels", 3))
        task = task_of(found.config, found.where)
        processor = processor_of(found.processor, found.config, found.where, task)
        if task != "classes":
            return _dense(spec, device, found, network, processor, task, notes)
        chain, more = preprocessing_of(processor, channels, found.where)
    if spec.pixels is not None and spec.pixels != chain.size:
        if chain.kind == "processor":
            raise ModelError(f"{spec.text}: its image processor runs as it is, at its own size; leave the size out")
        chain = at_size(chain, spec.pixels)
    shape = (channels, *chain.size) if chain.size is not None else None
    model = torch_model(
        spec.text,
        Logits(network),
        chain,
        shape or (channels, 224, 224),
        device,
        n_classes=network.config.num_labels,
        class_names=_labels(found, network.config.num_labels),
        notes=(*_told(found, spec), *notes, *more),
    )
    if spec.pixels is not None:
        _try_size(model, spec)
    return _of_folder(dataclasses.replace(model, input_shape=shape), network, found, description_of(found))


def task_of_folder(spec: ModelSpec) -> str | None:
    """What the network in a folder answers; None where that is none of ours, which its loading says."""
    config, where = read_config(spec)
    if "pretrained_cfg" in config:
        return None
    import_torch(f"loading {spec.text}")
    with needs("transformers", "hf", f"loading {spec.text}"):
        from pilotfish.models.names.hf_network import task_of
    return task_of(config, where)


def _dense(
    spec: ModelSpec, device: str, found: HfFolder, network: Any, processor: Any, task: str, notes: tuple[str, ...]
) -> Model:
    """A detector, or a network for segmentation."""
    from pilotfish.models.names.hf_dense import dense_model, processor_text
    from pilotfish.models.names.hf_network import description_of

    model = dense_model(spec, found, network, processor, task, device)
    names = _labels(found, network.config.num_labels)
    model = dataclasses.replace(model, class_names=names, notes=(*_told(found, spec), *notes, *model.notes))
    return _of_folder(model, network, found, {**description_of(found), "processor": processor_text(processor)})


def _timm(spec: ModelSpec, device: str, folder: HfFolder) -> Model:
    """A model as timm pushes it to the Hub: ``architecture``, ``pretrained_cfg`` and ``model_args`` in config.json."""
    from pilotfish.models.names.timm_models import BUILT_WITH, import_timm, timm_model

    timm = import_timm(f"loading {spec.text}")
    said, where = folder.config, folder.where
    name, cfg = str(said.get("architecture", "")), said["pretrained_cfg"]
    if not timm.is_model(name):
        raise ModelError(f"{where}: timm has no model {name[:80]!r}; {nearest(name, timm.list_models())}")
    if not isinstance(cfg, Mapping):
        raise ModelError(f"{where}: pretrained_cfg is {str(cfg)[:60]!r}; expected an object of timm's")
    asked = said.get("model_args") or {}
    args = checked_arguments({k: v for k, v in asked.items() if v is not None} if isinstance(asked, Mapping) else asked)
    args |= {key: said[key] for key in BUILT_WITH if isinstance(said.get(key), BUILT_WITH[key])}
    overlay = {key: tuple(v) if isinstance(v := cfg[key], list) else v for key in OF_TIMM if key in cfg}
    classes = said.get("num_classes", cfg.get("num_classes"))
    names = said.get("label_names", cfg.get("label_names"))

    def build(n: int | None) -> Any:
        try:
            options = {**args, "num_classes": n or 1000, "pretrained_cfg_overlay": overlay}
            return timm.create_model(name, pretrained=False, **options)
        except ModelError:  # too many weights
            raise
        except Exception as error:  # for arguments that are none
            raise ModelError(f"{where}: timm cannot build its {name} ({reason(error)})") from error

    module, notes = load_from(folder.weights, build, classes if isinstance(classes, int) else None)
    try:
        model = timm_model(timm, module, spec, device, notes)
        model.preprocessing.validate()
    except (ValueError, TypeError, KeyError, ArithmeticError) as error:
        raise ModelError(f"{where}: its pretrained_cfg cannot be carried out ({reason(error, 160)})") from error
    if names is not None:
        if (
            not isinstance(names, list)
            or len(names) != module.num_classes
            or not all(isinstance(n, str) for n in names)
        ):
            raise ModelError(f"{where}: label_names is {str(names)[:60]}; expected {module.num_classes} names")
        model = dataclasses.replace(model, class_names=tuple(names), class_ids=None)
    return _of_folder(model, module, folder, {"architecture": name, **args})


def _of_folder(model: Model, network: Any, found: HfFolder, described: Mapping[str, Any]) -> Model:
    """*model* with what *described* its network in its identity, for the same weights answer otherwise in another; and
    with its configurations beside the weights that are embedded."""
    metadata = {META_KEY: json.dumps(found.metadata)}
    return dataclasses.replace(
        model,
        weights_hash=sha256_json({"weights": model.weights_hash, "network": described}),
        weights=lambda target: save_state(network, target, metadata),
    )


def _told(found: HfFolder, spec: ModelSpec) -> Iterator[str]:
    """What is left out of the configuration or done otherwise than transformers would, a line each."""
    config, where = found.config, found.where
    for name, document in (("config.json", config), (PROCESSOR, found.processor or {})):
        if document.get("auto_map"):
            yield f"{where}: its {name} names code of its own (auto_map), which is never run; transformers' is"
    half = config.get("dtype", config.get("torch_dtype"))
    if half in HALF:
        yield f"{where}: its weights are {half}, and it is computed in float32 but for ?dtype={half}"
    if config.get("problem_type") == "multi_label_classification" and spec.task != "labels":
        taken = "the largest alone is taken as the class"
        yield f"{where}: was trained for many labels per image (problem_type); {taken}: ?task=labels takes all of them"


def _labels(found: HfFolder, n: int) -> tuple[str, ...] | None:
    """id2label in the order of its ids; None for placeholders. ModelError where it is not of *n* classes."""
    said = found.config.get("id2label")
    if said is None:
        return None
    ids = {str(key): value for key, value in said.items()} if isinstance(said, Mapping) else {}
    names = [ids.get(str(i)) for i in range(n)]
    if len(ids) != n or not all(isinstance(name, str) for name in names):
        raise ModelError(f"{found.where}: id2label is {str(said)[:60]}; expected a name for each id from 0 to {n - 1}")
    if all(PLACEHOLDER.fullmatch(str(name)) for name in names):
        return None
    return tuple(map(str, names))


def _try_size(model: Model, spec: ModelSpec) -> None:
    try:
        model.run(np.zeros((1, *(model.input_shape or ())), np.float32))
    except ModelError as error:
        raise ModelError(f"{spec.text}: takes no other size ({reason(error, 120)}); leave the size out") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Inside, transformers draws no bars and says nothing on stderr: what matters is a note or an error."""
    from transformers.utils import logging as own

    bars, level = own.is_progress_bar_enabled(), own.get_verbosity()
    own.disable_progress_bar()
    own.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        own.set_verbosity(level)
        if bars:
            own.enable_progress_bar()
