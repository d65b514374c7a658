"""The whole job on scikit-learn's digits, offline, with a small and a large network trained on the spot."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pilotfish.data import Dataset, load_data
from pilotfish.errors import DataError
from pilotfish.flow.build import BuildResult, Tell, build
from pilotfish.models import Preprocessing
from pilotfish.models.backends.torch_backend import import_torch
from pilotfish.models.names.architectures import build_small
from pilotfish.models.names.checkpoint import save_checkpoint
from pilotfish.recording import RecordOptions

if TYPE_CHECKING:
    from torch import nn

MAX_DROP = 0.005
SIDE, CLASSES = 8, 10
PREPROCESSING = Preprocessing(size=(SIDE, SIDE), resize=None, interpolation="bilinear", mean=(0.3,), std=(0.35,))


@dataclass(frozen=True)
class Recipe:
    """How one network is built and trained. width: hidden units of the mlp, first channels of the convnet."""

    name: str
    architecture: str
    width: int
    epochs: int
    learning_rate: float


SMALL = Recipe("small", "mlp", width=64, epochs=80, learning_rate=1e-2)
LARGE = Recipe("large", "convnet", width=64, epochs=12, learning_rate=2e-3)
RECIPES = (SMALL, LARGE)


def demo(out: str | Path, progress: Tell | None = None) -> BuildResult:
    """Train two networks on half of the digits, then build a cascade on the other half for half a point of drop.

    Everything goes into the folder *out*: ``models/``, ``run/``, ``cascade/`` and ``report.html``.
    """
    folder = Path(out)
    tell = progress or (lambda *_: None)
    files = train_demo_models(load_data("digits:train"), folder / "models", RECIPES, tell)
    result = build(
        "digits:val",
        {path.stem: f"checkpoint:{path}" for path in files},
        folder / "cascade",
        max_drop=MAX_DROP,
        run=folder / "run",
        embed=True,
        options=RecordOptions(overwrite=True),
        progress=tell,
    )
    page = folder / "report.html"
    result.report.replace(page)
    return dataclasses.replace(result, report=page)


def train_demo_models(
    data: Dataset, folder: Path, recipes: Sequence[Recipe], tell: Callable[[str, int, int], None]
) -> list[Path]:
    """Train each recipe on *data*; writes ``NAME.safetensors`` into *folder* and returns the files."""
    inputs = np.stack([PREPROCESSING(data.read(i)) for i in range(len(data))])
    if data.labels is None:
        raise DataError(f"{data.spec} has no labels to train on")
    labels = data.labels
    files = []
    for recipe in recipes:
        module = _train(recipe, inputs, labels, tell)
        path = folder / f"{recipe.name}.safetensors"
        save_checkpoint(
            module,
            path,
            f"small:{recipe.architecture}",
            {"num_classes": CLASSES, "width": recipe.width, "side": SIDE},
            PREPROCESSING,
            tuple(str(digit) for digit in range(CLASSES)),
        )
        files.append(path)
    return files


def _train(
    recipe: Recipe, inputs: NDArray[np.float32], labels: NDArray[np.int64], tell: Callable[[str, int, int], None]
) -> nn.Module:
    torch = import_torch("the demonstration")
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = build_small(recipe.architecture, CLASSES, recipe.width, SIDE)
    x, y = torch.from_numpy(inputs), torch.from_numpy(labels)
    optimiser = torch.optim.AdamW(module.parameters(), lr=recipe.learning_rate, weight_decay=0.01)
    steps = recipe.epochs * -(-len(x) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.learning_rate, total_steps=steps)
    module.train()
    for epoch in range(recipe.epochs):
        for rows in torch.randperm(len(x), generator=generator).split(64):
            dy, dx = torch.randint(-1, 2, (2,), generator=generator).tolist()  # moved by up to a pixel
            loss = torch.nn.functional.cross_entropy(module(torch.roll(x[rows], (dy, dx), dims=(2, 3))), y[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        tell(f"training the {recipe.name} network", epoch + 1, recipe.epochs)
    return module.eval()
