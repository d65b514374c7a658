"""``pilotfish train esn``: the exit sequence network of a saver and a base (TinySaver, sections 3.4, 6.3, 6.4)."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from pilotfish.data import Dataset
from pilotfish.errors import ModelError, UsageError
from pilotfish.models.exits.attached import Attachment, spread_layers
from pilotfish.models.exits.esn import Bus, join_exits
from pilotfish.records import Run
from pilotfish.train.backbone import Backbone, find_backbone
from pilotfish.train.given import checked
from pilotfish.train.loop import Tell, Trained
from pilotfish.train.recipe import Recipe, load_recipe
from pilotfish.train.training import check_out, make_job, train_network, with_records


@checked
def train_esn(
    saver: str,
    base: str,
    data: str | Dataset,
    out: str | Path,
    *,
    layers: Sequence[str] = (),
    exits: int = 3,
    dims: Sequence[int] = (32,),
    attention: Sequence[int] = (1,),
    attention_heads: int = 8,
    recipe: Recipe | None = None,
    held_out: str | Dataset | None = None,
    run: str | Path | Run | None = None,
    name: str = "esn",
    seed: int = 0,
    device: str = "cpu",
    progress: Tell | None = None,
) -> Trained:
    """Train the exits between *saver* (exit 1) and *base* (the last exit); both stay as they are.

    saver, base      trained models, by name as in :func:`train_exits`, with the same classes and inputs
    layers           of the base, that exits read; else *exits* of them, spread by share of MACs
    attention_heads  of each attention layer; they divide every dimension
    dims, attention  dimensions of the tokens and numbers of attention layers. With several, each pair of them is
                     trained (the paper: 8, 32, 128, 512 and 0 to 3), and the one is kept whose exits between have the
                     best mean accuracy on the held-out samples; the others' folders stay inside *out*

    Thresholds come afterwards from ``tune --method dyce``, as in the paper, or any other method. The rest as in
    :func:`train_exits`. ModelError for a saver and a base whose classes or inputs differ.
    """
    settings = recipe or load_recipe("esn")
    if settings.loss != "saver_weighted" or not settings.freeze:
        raise UsageError('an exit sequence is trained with loss = "saver_weighted" and freeze = true (Eq. 11)')
    whole = make_job(data, held_out, out, settings, seed, device, progress, run, name)
    first, second = find_pair(saver, base, whole.data)
    places = list(layers) or spread_layers(second.module, second.input_shape, exits)
    attachments = [Attachment(layer) for layer in places]
    identity = [first.weights_hash, second.weights_hash]
    grid = [Bus(dim, n, attention_heads) for dim, n in itertools.product(dims, attention)]
    folders = (
        {bus: Path(out) / f"dim{bus.dim}-layers{bus.layers}" for bus in grid} if grid[1:] else {grid[0]: whole.out}
    )
    for folder in folders.values():
        check_out(folder)
    found = []
    for bus in grid:
        torch.manual_seed(seed)
        network = join_exits(first.module, second.module, attachments, second.input_shape, bus, second.classes)
        description = second.described(
            "esn",
            backbone=second.name,
            arguments=second.arguments,
            exits=tuple({"after": layer} for layer in places),
            saver=first.part,
            joint=dataclasses.asdict(bus),
        )
        job, mark = dataclasses.replace(whole, out=folders[bus]), [description.to_json(), identity]
        found.append((job, train_network(job, network, description, network.frozen(), mark, more=second.facts)))
    job, best = max(found, key=lambda one: between(one[1].accuracy))
    if grid[1:]:
        best = dataclasses.replace(best, grid={one.file.parent.name: one.accuracy for _, one in found})
    return with_records(job, best)


def between(accuracy: Sequence[float]) -> float:
    """What a grid compares: the mean accuracy of the exits between saver and base."""
    return float(np.mean(accuracy[1:-1]))


def find_pair(saver: str, base: str, data: Dataset) -> tuple[Backbone, Backbone]:
    """Both by name. ModelError where they differ in classes or preprocessing: they are to be one network, with one
    input."""
    found = find_backbone(saver, data), find_backbone(base, data)
    first, second = found
    for name, one in zip((saver, base), found, strict=True):
        if one.random:
            raise ModelError(f"{name} has random weights; saver and base stay as they are, so they must be trained")
    if first.classes != second.classes:
        raise ModelError(f"{saver} knows {first.classes} classes and {base} {second.classes}; they must be the same")
    if first.preprocessing != second.preprocessing or first.input_shape != second.input_shape:
        differ = [
            f"{field.name} {ours} and {theirs}"
            for field in dataclasses.fields(first.preprocessing)
            if (ours := getattr(first.preprocessing, field.name))
            != (theirs := getattr(second.preprocessing, field.name))
        ] or [f"shapes {first.input_shape} and {second.input_shape}"]
        raise ModelError(
            f"{saver} and {base} take other inputs ({'; '.join(differ)}); as one network they need the same: name both "
            "with the same @SIZE and the same ?crop=, ?mean= and ?std="
        )
    return found
