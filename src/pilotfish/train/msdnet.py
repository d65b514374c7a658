"""``pilotfish train msdnet``: a multi-scale dense network from scratch."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from pilotfish.data import Dataset, open_data
from pilotfish.errors import ModelError
from pilotfish.models.exits.describe import Description
from pilotfish.models.exits.msdnet import MSDNet, MSDNetConfig, config_to_json
from pilotfish.records import Run
from pilotfish.train.backbone import classes_of, preprocessing_for
from pilotfish.train.finish import Job, record_exits, train_network
from pilotfish.train.loop import Tell, Trained
from pilotfish.train.recipe import Recipe, load_recipe


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

    size  pixels of the inputs; the pictures' own otherwise
    """
    samples = open_data(data)
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
    settings = dataclasses.replace(recipe or load_recipe("msdnet"), freeze=False)
    job = Job(samples, None if held_out is None else open_data(held_out), Path(out), settings, seed, device, progress)
    trained = train_network(job, network, description, (), description.to_json())
    if run is None:
        return trained
    return dataclasses.replace(trained, records=record_exits(job, trained, run, name))
