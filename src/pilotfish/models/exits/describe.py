"""What a network with exits is, as data: enough to build it again; and the .safetensors file that holds it beside the
weights."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pilotfish.documents import Within, as_document, read_as
from pilotfish.errors import ModelError, PilotfishError, reason
from pilotfish.files import atomic_path
from pilotfish.models.backends.torch_backend import save_state
from pilotfish.models.names.architectures import build_backbone, checked_arguments
from pilotfish.models.names.fit_weights import held_to, load_weights
from pilotfish.models.names.weights_file import metadata_document, read_weights
from pilotfish.models.preprocessing import Preprocessing

if TYPE_CHECKING:
    from torch import nn

    from pilotfish.models.exits.network import ExitNetwork

META_KEY = "pilotfish.exits"
LARGEST_DOCUMENT = 2**20
LARGEST_INPUT = 2**26  # numbers in one sample


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
    classes: Annotated[int, Within(2, 100_000)]
    input_shape: tuple[Annotated[int, Within(1, 4096)], ...]
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
        return KINDS[self.kind].count(self)

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        document: dict[str, Any] = as_document(self)
        return document

    def structure(self) -> dict[str, Any]:
        """What, with the weights, makes the network's answers: all but names, preprocessing and history."""
        left_out = ("preprocessing", "class_names", "trained")
        return {key: value for key, value in self.to_json().items() if key not in left_out}

    @classmethod
    def from_json(cls, document: Any, where: str) -> Description:
        """The inverse of :meth:`to_json`; ModelError for anything else."""
        return read_as(cls, document, f"{where}: does not describe a network with exits", ModelError)

    def validate(self) -> None:
        """ValueError or ModelError for what describes no network."""
        if self.kind not in KINDS:
            raise ValueError(f"kind is {self.kind[:60]!r}, expected one of {', '.join(KINDS)}")
        if KINDS[self.kind].has_saver != (self.saver is not None):
            raise ValueError("a saver is missing" if self.saver is None else f"{self.kind} takes no saver")
        if self.saver is not None and not isinstance(self.saver.get("backbone"), str):
            raise ValueError("the saver has no backbone")
        if self.class_names is not None and len(self.class_names) != self.classes:
            raise ValueError(f"{len(self.class_names)} class names for {self.classes} classes")
        if math.prod(self.input_shape) > LARGEST_INPUT:
            raise ValueError(f"inputs of shape {self.input_shape} are out of range")
        for arguments in (self.arguments, self.joint, (self.saver or {}).get("arguments", {})):
            checked_arguments(arguments)
        KINDS[self.kind].count(self)  # refuses numbers that make no sense


@dataclass(frozen=True)
class Kind:
    """A kind of network with exits.

    count      how many exits one has that is so described; ValueError where its numbers make no sense
    build      the network, with fresh weights
    has_saver  whether it holds a saver
    """

    count: Callable[[Description], int]
    build: Callable[[Description], ExitNetwork]
    has_saver: bool = False


def build(description: Description) -> ExitNetwork:
    """The network, with fresh weights. ModelError for arguments that it does not take."""
    try:
        return KINDS[description.kind].build(description)
    except TypeError as error:
        raise ModelError(f"{description.kind}: cannot be built as described ({str(error)[:160]})") from error


def _attached(description: Description) -> ExitNetwork:
    from pilotfish.models.exits.attached import Attachment, attach_exits

    exits = [Attachment(**one) for one in description.exits]
    return attach_exits(_backbone(description), exits, description.input_shape, description.classes)


def _msdnet(description: Description) -> ExitNetwork:
    from pilotfish.models.exits.msdnet import MSDNet, MSDNetConfig

    values = dict(description.arguments)
    factors = tuple(int(f) for f in values.pop("factors", (1, 2, 4)))
    return MSDNet(MSDNetConfig(factors=factors, **{**values, "classes": description.classes}))


def _esn(description: Description) -> ExitNetwork:
    from pilotfish.models.exits.attached import Attachment
    from pilotfish.models.exits.esn import Bus, join_exits

    exits, bus = [Attachment(**one) for one in description.exits], Bus(**description.joint)
    shape, classes = description.input_shape, description.classes
    return join_exits(_saver(description), _backbone(description), exits, shape, bus, classes)


def _router(description: Description) -> ExitNetwork:
    from pilotfish.models.exits.router import PriorRouter, evaluator

    if description.backbone is not None:
        return PriorRouter(_saver(description), _backbone(dataclasses.replace(description, classes=2)))
    return evaluator(_saver(description), description.input_shape, int(description.joint["width"]))


def _backbone(description: Description) -> nn.Module:
    return build_backbone(str(description.backbone), description.arguments, description.classes)


def _saver(description: Description) -> nn.Module:
    part = description.saver or {}
    return build_backbone(str(part.get("backbone")), part.get("arguments", {}), description.classes)


def _router_exits(description: Description) -> int:
    if description.backbone is None:
        _whole(description.joint, "width", 100_000)
    return 1


KINDS: Mapping[str, Kind] = {
    "attached": Kind(lambda one: len(one.exits) + 1, _attached),
    "msdnet": Kind(lambda one: _whole(one.arguments, "blocks", 100), _msdnet),
    "esn": Kind(lambda one: len(one.exits) + 2, _esn, has_saver=True),
    "router": Kind(_router_exits, _router, has_saver=True),
}
"""The kinds by name."""


def _whole(arguments: Mapping[str, Any], key: str, most: int) -> int:
    found = arguments.get(key)
    if type(found) is not int or not 1 <= found <= most:
        raise ValueError(f"{key} is {str(found)[:60]!r}, expected a whole number from 1 to {most:,}")
    return found


def save_network(network: ExitNetwork, description: Description, path: Path) -> None:
    """Write weights and description, atomically."""
    with atomic_path(path) as temporary:
        save_state(network, temporary, {META_KEY: json.dumps(description.to_json())})


def read_network(path: Path) -> tuple[ExitNetwork, Description]:
    """The network in *path*, in evaluation mode. ModelError for anything else; no code of the file's is run."""
    if path.suffix != ".safetensors":
        inside = path / "network.safetensors"
        advice = f"; name {inside}" if inside.is_file() else ""
        raise ModelError(f"{path}: networks with exits are kept as .safetensors{advice}")
    description, file = read_description(path), read_weights(path)
    try:
        with held_to(file):
            network = build(description)
    except PilotfishError as error:
        raise error if str(path) in str(error) else ModelError(f"{path}: {error}") from error
    except Exception as error:  # what was edited by hand makes layers raise errors of many kinds
        raise ModelError(f"{path}: the network that it describes cannot be built ({reason(error, 120)})") from error
    load_weights(network, file)
    return network.eval(), description


def read_description(path: Path) -> Description:
    """What the network in *path* is, without its weights."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise ModelError(f"{path}: no such file")
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{path}: not a readable safetensors file ({error})") from error
    if META_KEY not in metadata or len(metadata[META_KEY]) > LARGEST_DOCUMENT:
        raise ModelError(f"{path}: says nothing of exits; expected a file that `pilotfish train` wrote")
    return Description.from_json(metadata_document(metadata, META_KEY, str(path)), str(path))
