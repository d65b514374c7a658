"""A network to attach exits to, by a model's name, and how to build it again."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pilotfish.data import Dataset
from pilotfish.errors import DataError, ModelError, UnreadableSample, UsageError
from pilotfish.models import Model, Preprocessing, load_model
from pilotfish.models.backends.torch_backend import state_hash
from pilotfish.models.exits.attached import AttachedExits
from pilotfish.models.exits.describe import Description, read_network
from pilotfish.models.names.architectures import build_backbone, checked_arguments
from pilotfish.models.names.checkpoint import document_of
from pilotfish.models.names.fit_weights import load_weights
from pilotfish.models.names.spec import ModelSpec, allow_options, parse_spec, plain_size
from pilotfish.models.names.weights_file import WeightsFile, read_weights
from pilotfish.models.preprocessing import Sample
from pilotfish.text import quantity
from pilotfish.train.samples import made

KINDS = ("timm", "torchvision", "checkpoint", "exits", "small")


@dataclass(frozen=True)
class Backbone:
    """module: the network; name, arguments: how it is built again; random: whether its weights are fresh; assumed: what
    of the preprocessing nobody stated."""

    module: nn.Module
    name: str
    arguments: Mapping[str, Any]
    classes: int
    input_shape: tuple[int, ...]
    preprocessing: Preprocessing
    class_names: tuple[str, ...] | None = None
    random: bool = False
    assumed: tuple[str, ...] = ()

    @property
    def facts(self) -> dict[str, Any]:
        """What is kept with the network that is trained on this one."""
        return {"assumed": list(self.assumed)} if self.assumed else {}

    @property
    def part(self) -> dict[str, Any]:
        """As a description keeps a saver."""
        return {"backbone": self.name, "arguments": dict(self.arguments)}

    @property
    def weights_hash(self) -> str:
        """SHA-256 of the weights."""
        return state_hash(self.module.state_dict())

    def described(self, kind: str, **more: Any) -> Description:
        """A description with this one's classes and inputs."""
        return Description(
            kind=kind,
            classes=self.classes,
            input_shape=tuple(self.input_shape),
            preprocessing=self.preprocessing,
            class_names=self.class_names,
            **more,
        )


def find_backbone(model: str, data: Dataset, arguments: Mapping[str, Any] | None = None, seed: int = 0) -> Backbone:
    """The network called *model*, with its weights: ``timm:NAME``, ``torchvision:NAME``, ``checkpoint:FILE``, or
    ``exits:FILE``, a network with attached exits whose backbone is taken without them.

    arguments  numbers for its constructor; it is then built anew, with fresh weights, for the size, the colours and the
               classes of *data*; ``small:convnet`` and ``small:mlp`` are built so alone, for the pictures' own ``side``
               unless another is given

    ModelError for a model that is no torch network.
    """
    if model.startswith("small:"):
        return _fresh(model, data, {"side": _side(_first(data)), **checked_arguments(arguments or {})}, seed)
    spec = parse_spec(model)
    if spec.kind not in KINDS:
        raise ModelError(f"{model}: exits are attached to {', '.join(f'{kind}:…' for kind in KINDS)}")
    if spec.kind == "exits":
        allow_options(spec)
        if spec.size is not None or re.search(r"#\d+$", spec.name):
            raise ModelError(f"{model}: a backbone is taken from the whole network; write exits:FILE alone")
        return _without_exits(Path(spec.name))
    if arguments and spec.kind == "checkpoint":
        raise ModelError(f"{model}: its arguments are those it was trained with; give none")
    if arguments:
        left_out = [key for key, value in spec.options.items() if (key, value) != ("weights", "random")]
        if left_out or spec.size is not None:
            raise ModelError(
                f"{model}: with arguments the network is built anew, for the data and with fresh weights; leave "
                f"{next(iter(left_out), 'the size')} out, or the arguments"
            )
        return _fresh(f"{spec.kind}:{spec.name}", data, checked_arguments(arguments), seed)
    loaded = load_model(model, backend="torch")
    module = getattr(loaded.backend, "module", None)
    if module is None or loaded.input_shape is None or loaded.n_classes is None:
        raise ModelError(f"{model}: exits are attached to torch networks that classify pictures")
    name, built = _how(spec, loaded)
    return Backbone(
        module=module,
        name=name,
        arguments=built,
        classes=loaded.n_classes,
        input_shape=loaded.input_shape,
        preprocessing=loaded.preprocessing,
        class_names=loaded.class_names,
        random=spec.options.get("weights") == "random",
        assumed=loaded.assumed,
    )


def preprocessing_for(data: Dataset, size: int | None = None) -> tuple[Preprocessing, tuple[int, ...]]:
    """The preprocessing for a network that is trained from scratch on *data*: the pictures' own size, or *size*, and
    their own mean and deviation, from up to 500 of them. Also the shape of one input."""
    first = _first(data)
    channels, side = _channels(first), size or _side(first)
    zeros, ones = (0.0,) * channels, (1.0,) * channels
    plain = Preprocessing(size=(side, side), resize=None, interpolation="bilinear", mean=zeros, std=ones)
    step = max(1, len(data) // 500)
    read = [one for i in range(0, len(data), step) if (one := made(data, plain, i)) is not None]
    if not read:
        raise DataError(f"{data.spec}: none of {len(range(0, len(data), step))} samples could be made into an input")
    pixels = torch.stack([torch.from_numpy(one) for one in read])
    mean, std = pixels.mean(dim=(0, 2, 3)), pixels.std(dim=(0, 2, 3)).clamp(min=1e-3)
    rounded = [tuple(round(float(one), 4) for one in numbers) for numbers in (mean, std)]
    return dataclasses.replace(plain, mean=rounded[0], std=rounded[1]), (channels, side, side)


def classes_of(data: Dataset) -> int:
    """How many classes *data* has; DataError without labels."""
    if data.labels is None:
        raise DataError(f"{data.spec} has no labels to train on")
    classes = len(data.class_names) if data.class_names else int(data.labels.max()) + 1
    if classes < 2:
        raise DataError(f"{data.spec} has one class; expected two or more to tell apart")
    return classes


def _without_exits(path: Path) -> Backbone:
    network, description = read_network(path)
    if not isinstance(network, AttachedExits):
        raise ModelError(f"{path} is of the kind {description.kind}; a backbone is taken from attached exits only")
    module = build_backbone(str(description.backbone), description.arguments, description.classes)
    load_weights(module, WeightsFile(path, {"": network.backbone_state()}))
    return Backbone(
        module=module.eval(),
        name=str(description.backbone),
        arguments=description.arguments,
        classes=description.classes,
        input_shape=description.input_shape,
        preprocessing=description.preprocessing,
        class_names=description.class_names,
    )


def _first(data: Dataset) -> Sample:
    """The first sample that can be read."""
    for i in range(len(data)):
        try:
            return data.read(i)
        except UnreadableSample:
            continue
    raise DataError(f"none of the {quantity(len(data), 'sample')} of {data.spec} could be read")


def _fresh(name: str, data: Dataset, arguments: dict[str, Any], seed: int) -> Backbone:
    if "num_classes" in arguments:
        raise UsageError("num_classes is that of the data; leave the argument out")
    size = arguments.get("img_size", arguments.get("side"))
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= 4096):
        raise UsageError(f"img_size and side are pixels, a whole number from 1 to 4096; found {size!r}")
    chain, shape = preprocessing_for(data, size)
    if name.startswith("small:") and shape[0] != 1:
        raise ModelError(f"{name} takes grey pictures; {data.spec} has {shape[0]} channels: take a timm: network")
    classes = classes_of(data)
    torch.manual_seed(seed)
    module = build_backbone(name, arguments, classes)
    return Backbone(module, name, arguments, classes, shape, chain, data.class_names, random=True)


def _how(spec: ModelSpec, loaded: Model) -> tuple[str, dict[str, Any]]:
    """(backbone, arguments) that build a loaded model's network again."""
    given: dict[str, Any] = {}
    if spec.kind == "checkpoint":
        document = document_of(read_weights(Path(spec.name)))
        given = {k: v for k, v in dict(document.get("arguments") or {}).items() if k != "num_classes"}
        if str(document["architecture"]).startswith("small:"):
            return str(document["architecture"]), checked_arguments(given)
        spec = parse_spec(str(document["architecture"]))
    native = getattr(getattr(loaded.backend, "module", None), "pretrained_cfg", {})
    _, height, width = loaded.input_shape or (0, 0, 0)
    if native.get("fixed_input_size") and (height, width) != tuple(native.get("input_size", ()))[1:]:
        given["img_size"] = plain_size((height, width))
    return f"{spec.kind}:{spec.name}", checked_arguments(given)


def _channels(sample: Sample) -> int:
    mode = getattr(sample, "mode", None)
    if mode is not None:
        return 1 if mode in ("L", "1", "I", "F") else 3
    shape: tuple[int, ...] = getattr(sample, "shape", ())
    if len(shape) not in (2, 3):
        raise DataError(f"samples of shape {tuple(shape)} are no pictures; expected (H, W) or (H, W, 3)")
    return 3 if len(shape) == 3 and shape[2] == 3 else 1


def _side(sample: Any) -> int:
    return int(min(sample.size)) if hasattr(sample, "mode") else int(min(sample.shape[:2]))
