"""The training loop of networks with exits: resumable, and the same from the same seed however often it was stopped."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pilotfish.data import Dataset
from pilotfish.data.subset import hold_out
from pilotfish.errors import ModelError
from pilotfish.files import atomic_path, sha256_json
from pilotfish.models.backends.torch_backend import state_hash
from pilotfish.models.exits.describe import Description
from pilotfish.models.exits.network import ExitNetwork
from pilotfish.records import Run
from pilotfish.train.augment import mixed, varied
from pilotfish.train.losses import exit_losses, exit_weights
from pilotfish.train.recipe import Recipe
from pilotfish.train.samples import Samples

Tell = Callable[[str, int, int], None]
EVALUATION_BATCH = 256
CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class Job:
    """What is trained on what, and where it goes.

    held_out   samples of their own, or None for a share of *data*
    run, name  where the exits' records go, and what they are called; None for no records
    """

    data: Dataset
    held_out: Dataset | None
    out: Path
    recipe: Recipe
    seed: int
    device: str
    tell: Tell | None = None
    run: Run | None = None
    name: str = ""

    def parts(self) -> tuple[Dataset, Dataset]:
        """(training samples, held-out samples)."""
        if self.held_out is not None:
            return self.data, self.held_out
        return hold_out(self.data, self.recipe.holdout, self.seed)


@dataclass(frozen=True)
class Epoch:
    """losses: mean training loss per exit; accuracy: per exit on the held-out samples, at evaluation's transform."""

    epoch: int
    learning_rate: float
    losses: tuple[float, ...]
    accuracy: tuple[float, ...]


@dataclass(frozen=True)
class Trained:
    """The outcome of a training.

    file      the network, ``exits:FILE``
    history   epoch by epoch
    resumed   the epoch it went on from; 0 from the beginning
    records   what recording the exits came to
    grid      of several trainings, of which this is the best, the held-out accuracy of each exit by their folders
    """

    file: Path
    history: tuple[Epoch, ...]
    resumed: int = 0
    records: tuple[Any, ...] = ()
    grid: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The document of ``pilotfish train --json``."""
        return {
            "network": str(self.file),
            "resumed": self.resumed,
            "accuracy": list(self.accuracy),
            "epochs": [dataclasses.asdict(epoch) for epoch in self.history],
            "records": [record.to_json() for record in self.records],
            **({"grid": {folder: list(accuracy) for folder, accuracy in self.grid.items()}} if self.grid else {}),
        }

    @property
    def accuracy(self) -> tuple[float, ...]:
        """Held-out accuracy of each exit at the end."""
        return self.history[-1].accuracy


def fit(
    network: ExitNetwork,
    job: Job,
    description: Description,
    training: Samples,
    held_out: Samples,
    identity: Any,
    trunk: Sequence[nn.Module],
) -> tuple[tuple[Epoch, ...], int]:
    """Train *network* in place; returns the history and the epoch that it went on from.

    description  of the network: what makes inputs of the pictures, and how many classes they have
    identity     what else makes it this training (data, architecture): a checkpoint is kept after every epoch, and gone
                 on from when it is of this very training
    trunk        modules that stay as they are and in evaluation mode, where the recipe freezes them

    Each epoch draws from a generator of its own, so a training that was killed ends as one that was not (on the CPU).
    """
    target, recipe, checkpoint = torch.device(job.device), job.recipe, job.out / CHECKPOINT
    network.to(target)
    frozen = list(trunk) if recipe.freeze else []
    for module in frozen:
        module.requires_grad_(False)
    learned = [p for p in network.parameters() if p.requires_grad]
    if not learned:
        raise ModelError("nothing of the network is left to train: the backbone is frozen and there are no heads")
    optimiser = _optimiser(learned, recipe)
    mark = sha256_json([recipe.to_json(), job.seed, identity, len(training)])
    history = _resume(checkpoint, mark, network, optimiser)
    begun = len(history)
    for epoch in range(begun, recipe.epochs):
        network.train()
        for module in frozen:
            module.eval()
        losses, rate = _one_epoch(network, job, description, training, optimiser, epoch)
        found = tuple(accuracy(network, held_out, target)) if len(held_out) else ()
        history = (*history, Epoch(epoch + 1, rate, losses, found))
        _keep(checkpoint, mark, network, optimiser, history)
    network.eval()
    return history, begun


def _one_epoch(
    network: ExitNetwork,
    job: Job,
    description: Description,
    training: Samples,
    optimiser: torch.optim.Optimizer,
    epoch: int,
) -> tuple[tuple[float, ...], float]:
    """(mean loss per exit, last learning rate)."""
    recipe, target = job.recipe, torch.device(job.device)
    generator = torch.Generator().manual_seed(1_000_003 * job.seed + epoch)
    torch.manual_seed(1_000_003 * job.seed + epoch)  # dropout's own draws
    batches = max(1, len(training) // recipe.batch_size)
    weights, sums = exit_weights(network.exits, recipe), torch.zeros(network.exits)
    order = torch.randperm(len(training), generator=generator)[: batches * recipe.batch_size]
    for i, (inputs, labels) in enumerate(training.batches(order, recipe.batch_size)):
        rate = learning_rate(recipe, epoch + i / batches)
        for group in optimiser.param_groups:
            group["lr"] = rate
        inputs = varied(inputs, recipe, description.preprocessing, generator)
        inputs, labels = mixed(inputs, labels, description.classes, recipe, generator)
        inputs, labels = inputs.to(target), labels.to(target)
        with torch.autocast(target.type, torch.bfloat16, enabled=recipe.amp):
            losses = exit_losses(network(inputs), labels, recipe)
        optimiser.zero_grad()
        total = torch.stack([w * loss for w, loss in zip(weights, losses, strict=True)]).sum()
        torch.autograd.backward(total)
        optimiser.step()
        sums += torch.stack([loss.detach().float().cpu() for loss in losses])
        if job.tell is not None:
            job.tell(f"epoch {epoch + 1} of {recipe.epochs}", i + 1, batches)
    if not (torch.isfinite(sums).all() and all(torch.isfinite(p).all() for p in network.parameters())):
        raise ModelError(
            f"loss or weights are not finite in epoch {epoch + 1}, which was not kept; lower learning_rate (found "
            f"{recipe.learning_rate:g}), or look for inputs and weights that are not numbers"
        )
    return tuple((sums / batches).tolist()), rate


def accuracy(network: ExitNetwork, samples: Samples, device: torch.device) -> list[float]:
    """Share of right answers per exit, in evaluation mode."""
    was = network.training
    network.eval()
    right = torch.zeros(network.exits)
    with torch.inference_mode():
        for inputs, labels in samples.batches(torch.arange(len(samples)), EVALUATION_BATCH):
            for k, logits in enumerate(network.outputs(inputs.to(device))):
                right[k] += (logits.argmax(1) == labels.to(device)).sum().cpu()
    network.train(was)
    return [float(r) / max(1, len(samples)) for r in right]


def learning_rate(recipe: Recipe, epoch: float) -> float:
    """The rate at a fraction of an epoch from 0. At most half of a training is spent on warming up."""
    warm_up = min(recipe.warm_up_epochs, recipe.epochs / 2)
    if epoch < warm_up:
        return recipe.learning_rate * (0.01 + 0.99 * epoch / warm_up)
    share = epoch / recipe.epochs
    if recipe.schedule == "cosine":
        begun = warm_up / recipe.epochs
        left = (share - begun) / max(1e-9, 1 - begun)
        return recipe.learning_rate * (0.001 + 0.999 * 0.5 * (1 + math.cos(math.pi * left)))
    if recipe.schedule == "steps":
        return float(recipe.learning_rate * 0.1 ** sum(share >= step for step in recipe.steps))
    return recipe.learning_rate


def _optimiser(parameters: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
    rate, decay = recipe.learning_rate, recipe.weight_decay
    if recipe.optimiser == "adamw":
        return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay)
    return torch.optim.SGD(parameters, lr=rate, momentum=recipe.momentum, weight_decay=decay)


def _keep(
    path: Path, mark: str, network: nn.Module, optimiser: torch.optim.Optimizer, history: Sequence[Epoch]
) -> None:
    document: dict[str, Any] = {
        "mark": mark,
        "network": network.state_dict(),
        "optimiser": optimiser.state_dict(),
        "history": [[e.epoch, e.learning_rate, list(e.losses), list(e.accuracy)] for e in history],
    }
    document["digest"] = _digest(document)
    with atomic_path(path) as temporary:
        torch.save(document, temporary)


def _digest(document: Mapping[str, Any]) -> str:
    """Of weights, optimiser and history, so that what a disk or a hand changed is not resumed."""
    state = document["optimiser"]["state"]
    moments = {
        f"{i}.{key}": torch.as_tensor(value)
        for i, each in state.items()
        for key, value in each.items()
        if value is not None
    }
    return sha256_json(
        [
            state_hash(document["network"]),
            state_hash(moments),
            document["optimiser"]["param_groups"],
            document["history"],
        ]
    )


def _resume(path: Path, mark: str, network: nn.Module, optimiser: torch.optim.Optimizer) -> tuple[Epoch, ...]:
    """The epochs that *path* holds of this training, their weights put into *network*; none where it is of another.

    ModelError for a damaged file: an hour's work is not begun anew unasked.
    """
    if not path.is_file():
        return ()
    try:
        document = torch.load(path, map_location="cpu", weights_only=True)
        if document["mark"] != mark:
            raise ModelError(
                f"{path} is of another training (data, recipe, architecture or seed differ); resume with the command "
                "that began it, or name another folder"
            )
        if document["digest"] != _digest(document):
            raise ValueError("its contents are not those that were written")
        network.load_state_dict(document["network"])
        optimiser.load_state_dict(document["optimiser"])
        return tuple(Epoch(int(n), float(r), tuple(ls), tuple(a)) for n, r, ls, a in document["history"])
    except ModelError:
        raise
    except Exception as error:  # torch raises many kinds for a file that is damaged or not its own
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}".rstrip(": ")
        raise ModelError(
            f"{path}: not a checkpoint that can be resumed ({said}); name another folder with --out, or delete it"
        ) from error
