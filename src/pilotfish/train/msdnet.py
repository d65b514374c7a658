"""``pilotfish train msdnet``: a multi-scale dense network from scratch."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from pilotfish.data import Dataset
from pilotfish.errors import ModelError
from pilotfish.models.exits.describe import Description
from pilotfish.models.exits.msdnet import MSDNet, MSDNetConfig, config_to_json
from pilotfish.records import Run
from pilotfish.train.backbone import classes_of, preprocessing_for
from pilotfish.train.finish import make_job, train_network, with_records
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
