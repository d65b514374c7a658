"""What is found out before a training begins, and not after an hour of it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import torch

from pilotfish.errors import ModelError, PilotfishError, UsageError
from pilotfish.files import unwritable
from pilotfish.models.exits.describe import Description
from pilotfish.models.exits.network import ExitNetwork
from pilotfish.records import Run

CHECKPOINT, FILE, HISTORY, PLOT = "checkpoint.pt", "network.safetensors", "training.json", "training.png"
LARGEST_SEED = 2**31 - 1


def check_settings(seed: int, device: str) -> None:
    """UsageError for a seed or a device that there is not."""
    if not 0 <= seed <= LARGEST_SEED:
        raise UsageError(f"a seed is a whole number from 0 to {LARGEST_SEED}, found {seed}")
    try:
        torch.empty(1, device=torch.device(device)).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        said = " ".join(str(error).split())[:120]
        raise UsageError(
            f"the device {device!r} cannot be used here ({said}); expected cpu, or cuda with a GPU"
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
        said = " ".join(str(error).split())[:120]
        shape = "x".join(map(str, description.input_shape))
        larger = "--size" if description.kind == "msdnet" else "--argument img_size=N, where it has one,"
        advice = f"give {larger} for larger ones, or another network"
        raise ModelError(
            f"the network does not take inputs of {shape}, as they are made of {data} ({said}); {advice}"
        ) from error
    finally:
        network.train(was)
