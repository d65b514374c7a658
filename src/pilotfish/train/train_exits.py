"""``pilotfish train exits``: exits attached to a network that exists. ``pilotfish train msdnet``: a multi-scale dense
network from scratch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from pilotfish.data import Dataset
from pilotfish.errors import ModelError, UsageError
from pilotfish.models.exits.attached import Attachment, attach_exits, spread_layers
from pilotfish.models.exits.describe import Description
from pilotfish.models.exits.msdnet import MSDNet, MSDNetConfig, config_to_json
from pilotfish.records import Run
from pilotfish.train.backbone import classes_of, find_backbone, preprocessing_for
from pilotfish.train.given import checked
from pilotfish.train.loop import Tell, Trained
from pilotfish.train.recipe import Recipe, load_recipe
from pilotfish.train.training import make_job, train_network, with_records


@checked
def train_exits(
    model: str,
    data: str | Dataset,
    out: str | Path,
    *,
    layers: Sequence[str] = (),
    exits: int = 3,
    head: str = "linear",
    width: int = 128,
    arguments: Mapping[str, Any] | None = None,
    recipe: Recipe | None = None,
    held_out: str | Dataset | None = None,
    run: str | Path | Run | None = None,
    name: str | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: Tell | None = None,
) -> Trained:
    """Attach exits to *model*, train them, and record each as ``NAME#1`` … ``NAME#K``; the last is the model's own end.

    model      ``timm:NAME``, ``torchvision:NAME``, ``checkpoint:FILE``, ``exits:FILE`` (its backbone), ``small:NAME``
    data       samples with labels, or their name
    out        folder for network.safetensors, training.json and a checkpoint; a call that was killed resumes from it
    layers     names of layers, in the order they run, that exits read; else *exits* of them, spread by share of MACs.
               With 0 the plain network is trained, and not frozen whatever the recipe says
    head       ``linear``, ``norm``, ``mlp`` or ``conv``, the last two with *width* hidden units or channels
    arguments  numbers for the network's constructor; it is then built anew for *data*, with fresh weights
    recipe     how it is trained; the shipped one of this kind by default
    held_out   samples, or their name, that are never trained on, and recorded; a share of *data* by default
    run, name  where the records go, and what they are called; none are made without *run*
    seed       of weights, order and variations
    device     ``cpu``, ``cuda``, ``cuda:1``, …
    progress   called with (what is done, how much of it is, how much there is)

    UsageError for options that make no sense, ModelError for a network that cannot be cut or trained, DataError for
    data without labels, UnwritableError where *out* or *run* cannot be written: all before anything is trained.
    """
    settings = recipe or load_recipe("exits")
    if not layers and exits == 0:  # the plain network: all of it is trained, or nothing
        settings = dataclasses.replace(settings, freeze=False)
    job = make_job(data, held_out, out, settings, seed, device, progress, run, _short(model) if name is None else name)
    backbone = find_backbone(model, job.data, arguments, seed)
    if backbone.random and settings.freeze:
        raise UsageError(f"{model} has random weights, which would stay as they are; set freeze=false in the recipe")
    torch.manual_seed(seed)
    places = list(layers) or spread_layers(backbone.module, backbone.input_shape, exits)
    attachments = [Attachment(layer, head, width) for layer in places]
    network = attach_exits(backbone.module, attachments, backbone.input_shape, backbone.classes)
    exits_ = tuple(dataclasses.asdict(one) for one in attachments)
    description = backbone.described("attached", backbone=backbone.name, arguments=backbone.arguments, exits=exits_)
    identity = [description.to_json(), backbone.weights_hash]
    found = train_network(job, network, description, list(network.parts), identity, more=backbone.facts)
    return with_records(job, found)


@checked
def train_msdnet(
    config: MSDNetConfig,
    data: str | Dataset,
    out: str | Path,
    *,
    size: int | None = None,
    recipe: Recipe | None = None,
    held_out: str | Dataset | None = None,
    run: str | Path | Run | None = None,
    name: str = "msdnet",
    seed: int = 0,
    device: str = "cpu",
    progress: Tell | None = None,
) -> Trained:
    """Train the network of *config* and record its exits as ``NAME#1`` … ``NAME#K``; see :func:`train_exits`.

    config  the architecture, with as many classes and colours as *data* has, or more classes
    size    pixels of the inputs, 17 or more; the pictures' own by default

    *data*, *out* and what follows *size* as there. ModelError where *data* and *config* do not fit.
    """
    settings = dataclasses.replace(recipe or load_recipe("msdnet"), freeze=False)
    job = make_job(data, held_out, out, settings, seed, device, progress, run, name)
    samples = job.data
    chain, shape = preprocessing_for(samples, size)
    if (classes := classes_of(samples)) > config.classes or shape[0] != config.colours:
        raise ModelError(
            f"the network takes {config.colours} channels and {config.classes} classes; {samples.spec} has {shape[0]} "
            f"and {classes}"
        )
    torch.manual_seed(seed)
    network = MSDNet(config)
    description = Description(
        kind="msdnet",
        classes=config.classes,
        input_shape=shape,
        preprocessing=chain,
        class_names=samples.class_names if len(samples.class_names or ()) == config.classes else None,
        arguments={key: value for key, value in config_to_json(config).items() if key != "classes"},
    )
    return with_records(job, train_network(job, network, description, (), description.to_json()))


def _short(model: str) -> str:
    """``timm:resnet18`` for ``timm:resnet18?weights=w.pt``, the stem of a checkpoint's file."""
    kind, _, rest = model.partition("?")[0].partition(":")
    return Path(rest).stem if kind == "checkpoint" else f"{kind}:{rest}"
