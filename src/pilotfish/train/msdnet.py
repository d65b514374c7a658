"""``pilotfish train msdnet``: a multi-scale dense network from scratch."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from pilotfish.data import Dataset
from pilotfish.models import Preprocessing
from pilotfish.models.exits.describe import Description
from pilotfish.models.exits.msdnet import MSDNet, MSDNetConfig, config_to_json
from pilotfish.records import Run
from pilotfish.train.finish import Job, record_exits, train_network
from pilotfish.train.loop import Tell, Trained
from pilotfish.train.recipe import Recipe, load_recipe


def train_msdnet(
    config: MSDNetConfig,
    data: Dataset,
    out: str | Path,
    *,
    input_shape: tuple[int, ...],
    preprocessing: Preprocessing,
    recipe: Recipe | None = None,
    held_out: Dataset | None = None,
    run: str | Path | Run | None = None,
    name: str = "msdnet",
    seed: int = 0,
    device: str = "cpu",
    progress: Tell | None = None,
) -> Trained:
    """Train the network of *config* and record its exits as ``NAME#1`` … ``NAME#K``; see :func:`train_exits`."""
    torch.manual_seed(seed)
    network = MSDNet(config)
    description = Description(
        kind="msdnet",
        classes=config.classes,
        input_shape=tuple(input_shape),
        preprocessing=preprocessing,
        class_names=data.class_names if data.class_names and len(data.class_names) == config.classes else None,
        arguments={key: value for key, value in config_to_json(config).items() if key != "classes"},
    )
    settings = dataclasses.replace(recipe or load_recipe("msdnet"), freeze=False)
    job = Job(data, held_out, Path(out), settings, seed, device, progress)
    trained = train_network(job, network, description, (), description.to_json())
    if run is None:
        return trained
    return dataclasses.replace(trained, records=record_exits(job, trained, run, name))
