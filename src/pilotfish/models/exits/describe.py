"""What a network with exits is, as data: enough to build it again and put its weights in."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pilotfish.errors import ModelError, PilotfishError
from pilotfish.models.preprocessing import Preprocessing

if TYPE_CHECKING:
    from torch import nn

    from pilotfish.models.exits.network import ExitNetwork

LARGEST_INPUT = 2**26  # numbers in one sample
KINDS = ("attached", "msdnet", "esn", "router")
FORBIDDEN = (
    "pretrained",
    "weights",
    "checkpoint",
    "cache",
    "scriptable",
    "exportable",
)  # what could load or change code


@dataclass(frozen=True)
class Description:
    """kind: one of KINDS.

    backbone    of attached exits and of an exit sequence's base: ``timm:NAME``, ``torchvision:NAME`` or ``small:NAME``
    arguments   numbers for the constructor; of an exit sequence and a router, for the backbone's
    exits       of attached exits: ``after``, ``head``, ``width`` of each; of an exit sequence: ``after``
    saver       of an exit sequence and a router: its ``backbone`` and ``arguments``
    joint       of an exit sequence: ``dim``, ``layers``, ``attention_heads``; of a router: its ``width``, where it
                evaluates the saver's features; else *backbone* is its encoder
    trained     how: method, epochs, seed, final accuracy per exit; for reading only
    """

    kind: str
    classes: int
    input_shape: tuple[int, ...]
    preprocessing: Preprocessing
    class_names: tuple[str, ...] | None = None
    backbone: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    exits: tuple[Mapping[str, Any], ...] = ()
    trained: Mapping[str, Any] = field(default_factory=dict)
    saver: Mapping[str, Any] | None = None
    joint: Mapping[str, Any] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many exits the network has."""
        if self.kind == "router":
            return 1
        if self.kind == "msdnet":
            return int(self.arguments["blocks"])
        return len(self.exits) + (2 if self.kind == "esn" else 1)

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            **dataclasses.asdict(self),
            "preprocessing": self.preprocessing.to_json(),
            "input_shape": list(self.input_shape),
            "class_names": None if self.class_names is None else list(self.class_names),
            "exits": [dict(one) for one in self.exits],
        }

    def structure(self) -> dict[str, Any]:
        """What, with the weights, makes the network's answers: all but names, preprocessing and history."""
        left_out = ("preprocessing", "class_names", "trained")
        return {key: value for key, value in self.to_json().items() if key not in left_out}

    @classmethod
    def from_json(cls, document: Any, where: str) -> Description:
        """The inverse of :meth:`to_json`; ModelError for anything else."""
        try:
            names = document.get("class_names")
            found = cls(
                kind=str(document["kind"]),
                classes=_whole(document["classes"], 2, 100_000),
                input_shape=tuple(_whole(n, 1, 4096) for n in document["input_shape"]),
                preprocessing=Preprocessing.from_json(document["preprocessing"]),
                class_names=None if names is None else tuple(str(name) for name in names),
                backbone=None if document.get("backbone") is None else str(document["backbone"]),
                arguments=checked_arguments(document.get("arguments", {})),
                exits=tuple(dict(one) for one in document.get("exits", ())),
                trained=dict(document.get("trained", {})),
                saver=_part(document.get("saver")),
                joint=checked_arguments(document.get("joint", {})),
            )
            if (found.kind in ("esn", "router")) != (found.saver is not None):
                raise ValueError(f"{'a saver is missing' if found.saver is None else 'nothing has a saver'}")
            if found.kind not in KINDS:
                raise ValueError(f"kind is {found.kind!r}, expected one of {', '.join(KINDS)}")
            if found.class_names is not None and (isinstance(names, str) or len(found.class_names) != found.classes):
                raise ValueError(f"{len(found.class_names)} class names for {found.classes} classes")
            if math.prod(found.input_shape) > LARGEST_INPUT:
                raise ValueError(f"inputs of shape {found.input_shape} are out of range")
            if found.kind == "msdnet":
                _whole(found.arguments["blocks"], 1, 100)
            if found.kind == "router" and found.backbone is None:
                _whole(found.joint["width"], 1, 100_000)
            return found
        except PilotfishError as error:
            raise ModelError(f"{where}: {error}") from error
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise ModelError(f"{where}: does not describe a network with exits ({error!r})") from error


def build(description: Description, weights: str | None = None) -> ExitNetwork:
    """The network, with fresh weights; *weights* for the pretrained ones of a backbone's library."""
    if description.kind == "msdnet":
        from pilotfish.models.exits.msdnet import MSDNet, MSDNetConfig

        try:
            values = dict(description.arguments)
            factors = tuple(int(f) for f in values.pop("factors", (1, 2, 4)))
            return MSDNet(MSDNetConfig(factors=factors, **{**values, "classes": description.classes}))
        except TypeError as error:
            raise ModelError(f"an MSDNet cannot be built: {error}") from error
    if description.kind == "router":
        return _router(description)
    from pilotfish.models.exits.attached import Attachment, attach_exits

    backbone = build_backbone(str(description.backbone), description.arguments, description.classes, weights)
    shape, classes = description.input_shape, description.classes
    try:
        exits = [Attachment(**one) for one in description.exits]
        if description.kind == "attached":
            return attach_exits(backbone, exits, shape, classes)
        from pilotfish.models.exits.esn import Bus, join_exits

        return join_exits(_saver(description), backbone, exits, shape, Bus(**description.joint), classes)
    except TypeError as error:
        raise ModelError(f"exits cannot be attached: {str(error)[:160]}") from error


def _saver(description: Description) -> nn.Module:
    part = description.saver or {}
    return build_backbone(str(part.get("backbone")), part.get("arguments", {}), description.classes)


def _router(description: Description) -> ExitNetwork:
    from pilotfish.models.exits.router import PriorRouter, evaluator

    if description.backbone is not None:
        return PriorRouter(_saver(description), build_backbone(description.backbone, description.arguments, 2))
    return evaluator(_saver(description), description.input_shape, int(description.joint["width"]))


def build_backbone(name: str, arguments: Mapping[str, Any], classes: int, weights: str | None = None) -> nn.Module:
    """A network by its library's name, with fresh weights or (*weights* ``pretrained``) the library's own."""
    library, _, own = name.partition(":")
    options = {**arguments, "num_classes": classes}
    try:
        if library == "timm":
            from pilotfish.models.names.timm_models import import_timm

            timm = import_timm(f"building {name}")
            if not timm.is_model(own):  # create_model also takes addresses of hubs and folders
                raise ModelError(f"timm knows no model {own[:80]!r}")
            found: nn.Module = timm.create_model(own, pretrained=weights == "pretrained", **options)
            return found
        if library == "torchvision":
            from torchvision import models

            from pilotfish.models.names.torchvision_models import classifiers

            if own not in classifiers():
                raise ModelError(f"torchvision has no classifier {own[:80]!r}")
            found = models.get_model(own, weights="DEFAULT" if weights == "pretrained" else None, **options)
            return found
        if library == "small":
            from pilotfish.models.names import small

            if own not in small.NETWORKS:
                expected = " or ".join(f"small:{one}" for one in small.NETWORKS)
                raise ModelError(f"no small network {own!r}; expected {expected}")
            return small.build(own, **{"width": 16, "side": 8, **options})
    except PilotfishError:
        raise
    except Exception as error:  # libraries raise errors of many kinds
        said = " ".join(str(error).split())[:200]
        raise ModelError(f"{name} cannot be built ({type(error).__name__}: {said})") from error
    raise ModelError(f"unknown backbone {name!r}; expected timm:NAME, torchvision:NAME or small:NAME")


def checked_arguments(arguments: Any) -> dict[str, Any]:
    """Arguments that are names and numbers, and nothing that would load a file; ModelError otherwise."""
    if not isinstance(arguments, Mapping):
        raise ModelError(f"arguments are {str(arguments)[:60]!r}; expected an object of numbers")
    for key, value in arguments.items():
        plain = isinstance(value, int | float | bool) or (
            isinstance(value, list | tuple) and all(isinstance(v, int | float) for v in value)
        )
        named = isinstance(value, str) and re.fullmatch(r"\w{1,40}", value) is not None
        if not re.fullmatch(r"[a-z_]\w{0,40}", str(key)) or str(key).startswith(FORBIDDEN) or not (plain or named):
            raise ModelError(f"argument {str(key)[:40]!r} = {str(value)[:60]!r} is not allowed; expected numbers")
    return dict(arguments)


def _part(document: Any) -> dict[str, Any] | None:
    """A saver's backbone and arguments."""
    if document is None:
        return None
    return {"backbone": str(document["backbone"]), "arguments": checked_arguments(document.get("arguments", {}))}


def _whole(value: Any, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{value!r} is no whole number from {low} to {high}")
    return value
