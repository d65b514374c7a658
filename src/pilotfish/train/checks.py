"""What is found out before a training begins, and not after an hour of it."""

from __future__ import annotations

from pathlib import Path

import torch

from pilotfish.errors import ModelError, PilotfishError, UsageError
from pilotfish.files import atomic_path
from pilotfish.models.exits.describe import Description
from pilotfish.models.exits.network import ExitNetwork
from pilotfish.records import Run

CHECKPOINT, FILE, HISTORY = "checkpoint.pt", "network.safetensors", "training.json"
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
    trial = out / ".trial"
    with atomic_path(trial) as temporary:
        temporary.write_bytes(b"")
    trial.unlink(missing_ok=True)
    there = [name for name in (FILE, HISTORY) if (out / name).exists()]
    if there and not (out / CHECKPOINT).is_file():
        raise UsageError(f"{out} holds {' and '.join(there)} of another training; name another folder with --out")


def check_records(run: Run, name: str, out: Path) -> None:
    """UsageError where records of that name exist already and cannot be of this training."""
    if run.path.exists() and not run.path.is_dir():
        raise UsageError(f"{run.path} is a file; expected a folder of records")
    files = [run.file(one) for one in (name, f"{name}#1", f"{name}#100")]
    if (out / CHECKPOINT).is_file() or any(out.glob(f"*/{CHECKPOINT}")):  # of this training, or of a grid
        return
    if there := [path for path in files if path.is_file()]:
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
        raise ModelError(
            f"the network does not take inputs of {shape}, as they are made of {data} ({said}); give --size or "
            "--argument for larger ones, or another network"
        ) from error
    finally:
        network.train(was)
