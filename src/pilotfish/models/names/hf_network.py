"""From the configuration and the tensors of an ``hf:`` folder to a network.

What would load code or other files is taken out of the configuration, transformers opens no file and asks no server,
and nothing large is built before it is clear that the weights fill it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers.models.auto import modeling_auto

from pilotfish.errors import ModelError, PilotfishError, reason
from pilotfish.models.names.fit_weights import COUNTERS, held_to, load_weights
from pilotfish.models.names.hf_folder import HfFolder, offline
from pilotfish.models.names.spec import MOST_CLASSES
from pilotfish.text import examples, quantity

KNOWN: Mapping[str, Mapping[str, Any]] = {
    "classes": modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
    "boxes": modeling_auto.MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES,
    "mask": modeling_auto.MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES,
}
"""The networks of each task, by the kind of model: their names, or several."""
LEFT_OUT = re.compile(
    r"_?attn_implementation(_\w+)?|_?experts_implementation\w*|_?name_or_path|_commit_hash|auto_map|custom_pipelines"
    r"|dtype|torch_dtype|fusion_config|kernel_config|use_kernels|distributed_config|transformers_weights|use_bfloat16"
    r"|use_pretrained_backbone|return_dict|use_return_dict|output_attentions|output_hidden_states|gradient_checkpointing"
)
"""Keys of a configuration, at any depth, that say what else to load or how to run, and nothing of the network."""
BESIDE = ("id2label", "label2id", "problem_type", "transformers_version", "initializer_range")
"""Keys that change no answer."""
MOST_POSITIONS = 32
"""A side, of LeViT, which makes a table of all pairs in Python: 14 at 224 pixels."""
OTHER_TASKS = {
    "ZeroShot": "takes texts beside images",
    "Segmentation": "segments images otherwise than by a class for each pixel",
    "DepthEstimation": "estimates depth",
    "MaskedImageModeling": "was trained to fill in images and has no classifier",
    "PreTraining": "was trained to fill in images and has no classifier",
    "Model": "returns features and has no classifier",
}


class Logits(nn.Module):
    """A classifier of transformers as a module from pixels (N, C, H, W) to logits (N, classes)."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(pixel_values=pixels, return_dict=True).logits
        return logits


def network_of(found: HfFolder) -> tuple[Any, tuple[str, ...]]:
    """The network with its weights, in evaluation mode, and what to say of them."""
    build = _network_class(found)
    kind = found.config["model_type"]
    try:
        config = transformers.AutoConfig.for_model(kind, **_of_network(found))
    except Exception as error:  # of many kinds, for values that are none
        raise ModelError(f"{found.where}: its config.json describes no {kind} ({reason(error, 160)})") from error
    _check_positions(config, found)
    try:
        with offline(), held_to(found.weights):
            with torch.device("meta"):
                _check_buffers(build(config), found)
            if found.embedded:
                network = build(config)
                return network.eval(), load_weights(network, found.weights)
        with offline():
            tensors, how = dict(found.weights.sets[""]), {"dtype": torch.float32, "ignore_mismatched_sizes": True}
            network, loaded = build.from_pretrained(
                None, config=config, state_dict=tensors, output_loading_info=True, **how
            )
    except PilotfishError:
        raise
    except Exception as error:  # libraries raise errors of many kinds
        raise ModelError(
            f"{found.where}: the network of its config.json cannot be built ({reason(error, 160)})"
        ) from error
    return network.eval(), _held_against(loaded, found)


def task_of(config: Mapping[str, Any], where: Path) -> str:
    """What the network answers: the first task of ``KNOWN`` that has it, by its name, or else by its kind.

    ModelError where none has.
    """
    kind, first = _kind(config, where), _named(config)
    for task in KNOWN:
        if first in (known := _of_kind(task, kind)) or (known and not first):
            return task
    own = f"{where}: its config.json"
    known = _of_kind("classes", kind)
    if "auto_map" in config and not known:
        raise ModelError(
            f"{own} names code of its own for {(first or kind)[:60]} (auto_map), which is never run; load it in Python "
            "and name it as python:MODULE:OBJECT, or export it to ONNX"
        )
    what = next((says for task, says in OTHER_TASKS.items() if task in first), "is not one")
    expected = (
        f"expected {known[0]}"
        if known
        else "expected an image classifier of transformers (…ForImageClassification), …ForObjectDetection or "
        "…ForSemanticSegmentation"
    )
    raise ModelError(f"{own} is that of {(first or kind)[:60]}, which {what}; {expected}")


def _network_class(found: HfFolder) -> Any:
    """The class of the network, of transformers' own."""
    task = task_of(found.config, found.where)
    return getattr(transformers, _named(found.config) or _of_kind(task, _kind(found.config, found.where))[0])


def _kind(config: Mapping[str, Any], where: Path) -> str:
    kind = config.get("model_type")
    if not isinstance(kind, str) or not kind:
        raise ModelError(
            f"{where}: its config.json has no model_type; expected that of an image classifier of transformers, "
            "or timm's"
        )
    return kind


def _named(config: Mapping[str, Any]) -> str:
    named = config.get("architectures")
    return str(named[0]) if isinstance(named, list) and named else ""


def _of_kind(task: str, kind: str) -> tuple[str, ...]:
    known = KNOWN[task].get(kind, ())
    return (known,) if isinstance(known, str) else tuple(known)


def _check_buffers(network: nn.Module, found: HfFolder) -> None:
    if sum(buffer.numel() for buffer in network.buffers()) > 2**27:
        raise ModelError(f"{found.where}: its config.json asks for tables of gigabytes; name the one it was saved with")


def _check_positions(config: Any, found: HfFolder) -> None:
    """ModelError where LeViT would compare more pairs of positions, one by one, than it has been trained with."""
    if config.model_type != "levit":
        return
    try:
        along = config.image_size // config.patch_size
    except (TypeError, ZeroDivisionError) as error:
        raise ModelError(f"{found.where}: its config.json describes no levit ({reason(error, 160)})") from error
    if along > MOST_POSITIONS:
        raise ModelError(
            f"{found.where}: its config.json has image_size {config.image_size:,} and patch_size {config.patch_size}, "
            f"{along:,} positions a side; expected {MOST_POSITIONS} at most: name the size it was trained with"
        )


def _held_against(loaded: Mapping[str, Any], found: HfFolder) -> tuple[str, ...]:
    """Notes on what transformers made of the weights. ModelError for what the network lacks, or has in other shapes."""
    lacking = sorted(key for key in map(str, loaded.get("missing_keys") or ()) if not COUNTERS.search(key))
    shapes = sorted(str(one[0] if isinstance(one, tuple) else one) for one in loaded.get("mismatched_keys") or ())
    extra = sorted(map(str, loaded.get("unexpected_keys") or ()))
    if lacking:
        head = all("classif" in name or "head" in name for name in lacking)
        why = (
            "it has no classifier; use weights that were fine-tuned"
            if head
            else "its config.json is of another network"
        )
        raise ModelError(f"{found.weights.path}: lacks {quantity(len(lacking), 'tensor')} ({examples(lacking)}): {why}")
    if shapes:
        raise ModelError(
            f"{found.weights.path}: {examples(shapes)} have other shapes than config.json says; the two are not of one "
            "model, or id2label has another number of classes"
        )
    if loaded.get("error_msgs"):
        raise ModelError(f"{found.weights.path}: {reason(ValueError(loaded['error_msgs']), 160)}")
    beside = quantity(len(extra), "tensor beside the model's is", "tensors beside the model's are")
    left = f"{found.weights.path}: {beside} left out ({examples(extra)})"
    return (left,) if extra else ()


def description_of(found: HfFolder) -> dict[str, Any]:
    """What the configuration says of the network itself: with the weights it decides the answers."""
    return {key: value for key, value in _of_network(found).items() if key not in BESIDE}


def _of_network(found: HfFolder) -> dict[str, Any]:
    """The configuration without what names the network, and without a number of classes beside their names."""
    if found.config.get("quantization_config"):
        raise ModelError(f"{found.where}: its weights are quantised (quantization_config); use those it was made of")
    if found.config.get("problem_type") == "regression":
        raise ModelError(f"{found.where}: its config.json has problem_type regression: it predicts numbers, no classes")
    config = _plain(found.config, ("model_type", "architectures"))
    if (names := config.get("id2label")) is not None:
        if not isinstance(names, Mapping):
            raise ModelError(f"{found.where}: id2label is {str(names)[:60]}; expected an object of ids and names")
        config.pop("num_labels", None)
    classes = config.get("num_labels", len(config.get("id2label") or "ab"))
    least = 1 if task_of(found.config, found.where) == "boxes" else 2
    if not isinstance(classes, int) or not least <= classes <= MOST_CLASSES:
        raise ModelError(
            f"{found.where}: its config.json has {str(classes)[:40]} classes; expected {least} to {MOST_CLASSES:,}"
        )
    return config


def _plain(config: Mapping[str, Any], beside: tuple[str, ...] = ()) -> dict[str, Any]:
    """*config* without what says anything but the network."""
    kept = {key: value for key, value in config.items() if not LEFT_OUT.fullmatch(key) and key not in beside}
    return {key: _plain(value) if isinstance(value, Mapping) else value for key, value in kept.items()}
