"""``pilotfish train exits``: exits attached to a network that exists."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from pilotfish.data import Dataset
from pilotfish.errors import UsageError
from pilotfish.models.backends.torch_backend import state_hash
from pilotfish.models.exits.attached import Attachment, attach_exits, spread_layers
from pilotfish.models.exits.describe import Description
from pilotfish.records import Run
from pilotfish.train.backbone import find_backbone
from pilotfish.train.finish import make_job, train_network, with_records
from pilotfish.train.loop import Tell, Trained
from pilotfish.train.recipe import Recipe, load_recipe


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

    data       samples with labels, or their name
    model      see :func:`pilotfish.train.backbone.find_backbone`, also for *arguments*
    layers     after which exits read; else *exits* of them, spread by share of MACs. With 0 the plain network is
               trained, and not frozen whatever the recipe says
    head       a kind of ``models.exits.heads.HEADS``, with *width* hidden units or channels
    held_out   samples that are never trained on, and recorded; a share of *data* otherwise
    run, name  where the records go, and what they are called; none are made without

    Writes network.safetensors, training.json and a checkpoint into *out*; a call that was killed goes on from there.
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
    description = Description(
        kind="attached",
        classes=backbone.classes,
        input_shape=tuple(backbone.input_shape),
        preprocessing=backbone.preprocessing,
        class_names=backbone.class_names,
        backbone=backbone.name,
        arguments=backbone.arguments,
        exits=tuple(dataclasses.asdict(one) for one in attachments),
    )
    identity = [description.to_json(), state_hash(backbone.module.state_dict())]
    return with_records(
        job, train_network(job, network, description, list(network.parts), identity, more=backbone.facts)
    )


def _short(model: str) -> str:
    """``timm:resnet18`` for ``timm:resnet18?weights=w.pt``, the stem of a checkpoint's file."""
    kind, _, rest = model.partition("?")[0].partition(":")
    return Path(rest).stem if kind == "checkpoint" else f"{kind}:{rest}"
