"""What every training has in common: what is checked before it begins, and not after an hour of it; data in, network
trained, file and report out, exits recorded."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pilotfish.data import Dataset, open_data
from pilotfish.data.subset import Subset
from pilotfish.errors import ModelError, PilotfishError, UsageError, reason
from pilotfish.files import unwritable, write_json
from pilotfish.models.exits.describe import Description, save_network
from pilotfish.models.exits.network import ExitNetwork
from pilotfish.recording import RecordOptions, record
from pilotfish.recording.class_names import numbers_in
from pilotfish.recording.labels import ModelClasses, match_labels
from pilotfish.records import Run
from pilotfish.train.loop import CHECKPOINT, Job, Tell, Trained, fit
from pilotfish.train.recipe import Recipe
from pilotfish.train.samples import read_samples

FILE, HISTORY, PLOT = "network.safetensors", "training.json", "training.png"
LARGEST_SEED = 2**31 - 1


def make_job(
    data: str | Dataset,
    held_out: str | Dataset | None,
    out: str | Path,
    recipe: Recipe,
    seed: int,
    device: str,
    tell: Tell | None,
    run: str | Path | Run | None,
    name: str,
) -> Job:
    """A job whose data are open and whose places were looked at: UsageError or UnwritableError before any work, also
    where the held-out samples are those to train on."""
    check_settings(seed, device)
    records = None if run is None else run if isinstance(run, Run) else Run(Path(run))
    check_out(Path(out))
    if records is not None:
        check_records(records, name, Path(out))
    training, kept_out = open_data(data), None if held_out is None else open_data(held_out)
    if kept_out is not None and kept_out.fingerprint == training.fingerprint:
        raise UsageError(
            f"{kept_out.spec} is what is trained on, so it can judge nothing; name other samples, or none for a share"
        )
    return Job(training, kept_out, Path(out), recipe, seed, device, tell, records, name)


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
    if job.recipe.loss == "saver_weighted" and description.kind != "esn":
        raise UsageError("the loss saver_weighted is of exit sequences (train esn); take sum, distill or self_distill")
    check_network(network, description, job.data.spec)
    training, held_out = (in_class_order(part, description) for part in job.parts())
    samples = [read_samples(part, description.preprocessing, description.classes) for part in (training, held_out)]
    mark = [identity, training.fingerprint, held_out.fingerprint]
    history, resumed = fit(network, job, description, samples[0], samples[1], mark, trunk)
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


def in_class_order(data: Dataset, description: Description) -> Dataset:
    """*data* with its labels as classes of the network, matched as recording matches them; *data* itself where they are
    that already. DataError where its class names and the network's agree in part only."""
    names = data.class_names
    if data.labels is None or names is None:
        return data
    if description.class_names is None and numbers_in(names) is None:
        return data  # the network has no names, and its classes are those of the data
    model = ModelClasses(f"the {description.kind} network", description.classes, description.class_names)
    labels = match_labels(data, model).labels
    return data if np.array_equal(labels, data.labels) else Subset(data, relabelled=labels)


def with_records(job: Job, trained: Trained, options: RecordOptions | None = None) -> Trained:
    """*trained*, every exit recorded on the held-out samples as NAME#1 … NAME#K where the job has a run."""
    if job.run is None:
        return trained
    settings = options or RecordOptions(device=job.device)
    found = record(
        job.parts()[1], f"exits:{trained.file}", job.run, alias=job.name, options=settings, progress=job.tell
    )
    return dataclasses.replace(trained, records=tuple(found))


def check_settings(seed: int, device: str) -> None:
    """UsageError for a seed or a device that there is not."""
    if not 0 <= seed <= LARGEST_SEED:
        raise UsageError(f"a seed is a whole number from 0 to {LARGEST_SEED}, found {seed}")
    try:
        torch.empty(1, device=torch.device(device)).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(
            f"the device {device!r} cannot be used here ({reason(error, 120)}); expected cpu, or cuda with a GPU"
        ) from error


def check_out(out: Path) -> None:
    """UnwritableError where nothing can be written, UsageError where a network would be lost: one that lies there
    without the checkpoint of its training."""
    _try_to_write(out)
    if os.path.lexists(out / CHECKPOINT) and not (out / CHECKPOINT).is_file():
        raise UsageError(f"{out / CHECKPOINT} is no file; name another folder with --out")
    there = [name for name in (FILE, HISTORY, PLOT) if os.path.lexists(out / name)]
    if there and not (out / CHECKPOINT).is_file():
        raise UsageError(f"{out} holds {' and '.join(there)} of another training; name another folder with --out")
    for name in there:
        if not (out / name).is_file():
            raise UsageError(f"{out / name} is no file; name another folder with --out")


def _try_to_write(folder: Path) -> None:
    """UnwritableError where no file can be written into *folder*; what is made for the trial is gone afterwards."""
    made = [one for one in (folder, *folder.parents) if not os.path.lexists(one)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        for one in made:
            one.rmdir()
    except OSError as error:
        raise unwritable(folder, error) from error


def check_records(run: Run, name: str, out: Path) -> None:
    """UsageError where records of that name exist already and cannot be of this training."""
    if run.path.exists() and not run.path.is_dir():
        raise UsageError(f"{run.path} is a file; expected a folder of records")
    _try_to_write(run.path)
    files = [run.file(one) for one in (name, f"{name}#1")]
    if (out / CHECKPOINT).is_file() or any(out.glob(f"dim*-layers*/{CHECKPOINT}")):  # of this training, or of a grid
        return
    if there := [path for path in files if os.path.lexists(path)]:
        raise UsageError(f"{there[0]} exists: records of another network; name these ones with --as, or another --run")


def check_network(network: ExitNetwork, description: Description, data: str) -> None:
    """ModelError for a network that could not be read back, or that does not take the inputs made of *data*."""
    Description.from_json(description.to_json(), f"a network for {data}")
    was = network.training
    network.eval()
    try:
        with torch.inference_mode():
            network(torch.zeros(2, *description.input_shape))
    except PilotfishError:
        raise
    except Exception as error:  # layers raise errors of many kinds
        shape = "x".join(map(str, description.input_shape))
        larger = "--size" if description.kind == "msdnet" else "--argument img_size=N, where it has one,"
        advice = f"give {larger} for larger ones, or another network"
        raise ModelError(
            f"the network does not take inputs of {shape}, as they are made of {data} ({reason(error, 120)}); {advice}"
        ) from error
    finally:
        network.train(was)
