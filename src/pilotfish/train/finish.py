"""What every training has in common: data in, network trained, file and report out, exits recorded."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pilotfish.data import Dataset
from pilotfish.data.subset import hold_out
from pilotfish.files import write_json
from pilotfish.models.exits.describe import Description
from pilotfish.models.exits.file import save_network
from pilotfish.models.exits.network import ExitNetwork
from pilotfish.recording import RecordOptions, RecordResult, record
from pilotfish.records import Run
from pilotfish.train.loop import Tell, Trained, fit
from pilotfish.train.recipe import Recipe
from pilotfish.train.samples import read_samples

FILE, CHECKPOINT, HISTORY = "network.safetensors", "checkpoint.pt", "training.json"


@dataclasses.dataclass(frozen=True)
class Job:
    """What is trained on what. held_out: samples of their own, or None for a share of *data*."""

    data: Dataset
    held_out: Dataset | None
    out: Path
    recipe: Recipe
    seed: int
    device: str
    tell: Tell | None = None

    def parts(self) -> tuple[Dataset, Dataset]:
        """(training samples, held-out samples)."""
        if self.held_out is not None:
            return self.data, self.held_out
        return hold_out(self.data, self.recipe.holdout, self.seed)


def train_network(
    job: Job,
    network: ExitNetwork,
    description: Description,
    trunk: Sequence[nn.Module],
    identity: Any,
    kept: ExitNetwork | None = None,
    more: Mapping[str, Any] | None = None,
) -> Trained:
    """Train, and write network, history and checkpoint into the job's folder.

    trunk     what a recipe that freezes leaves as it is
    identity  what else makes it this training
    kept      the network that *description* describes, where it is a part of the one that is trained
    more      further facts for the file and the history
    """
    training, held_out = job.parts()
    chain, classes = description.preprocessing, description.classes
    history, resumed = fit(
        network,
        read_samples(training, chain, classes),
        read_samples(held_out, chain, classes),
        job.recipe,
        job.out / CHECKPOINT,
        chain=chain,
        classes=classes,
        seed=job.seed,
        device=job.device,
        identity=[identity, training.fingerprint, held_out.fingerprint],
        trunk=trunk,
        tell=job.tell,
    )
    network.to("cpu")
    facts = {
        "recipe": job.recipe.to_json(),
        "seed": job.seed,
        "data": training.spec,
        "samples": len(training),
        "held_out": len(held_out),
        "accuracy": list(history[-1].accuracy),
        "torch": torch.__version__,
        **(more or {}),
    }
    save_network(kept or network, dataclasses.replace(description, trained=facts), job.out / FILE)
    epochs = [dataclasses.asdict(epoch) for epoch in history]
    write_json(job.out / HISTORY, {"trained": facts, "description": description.to_json(), "epochs": epochs})
    return Trained(job.out / FILE, history, resumed)


def record_exits(
    job: Job, trained: Trained, run: str | Path | Run, name: str, options: RecordOptions | None = None
) -> tuple[RecordResult, ...]:
    """Record every exit on the held-out samples as NAME#1 … NAME#K."""
    settings = options or RecordOptions(device=job.device)
    return tuple(record(job.parts()[1], f"exits:{trained.file}", run, alias=name, options=settings, progress=job.tell))
