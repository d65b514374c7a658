"""What the experiments share: Fashion-MNIST in three parts, networks trained once and kept, and records of them.

Everything is kept in a work folder (``--work``), so that a second run, or another script, begins where the first ended.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

import pilotfish
from pilotfish.cli.output import progress_bars
from pilotfish.data import Dataset, load_data
from pilotfish.data.subset import Subset
from pilotfish.errors import ModelError
from pilotfish.files import read_json
from pilotfish.models.exits.msdnet import MSDNetConfig
from pilotfish.recording import RecordOptions, record
from pilotfish.records import Run
from pilotfish.train import Recipe, Trained, train_exits, train_msdnet
from pilotfish.train.loop import Epoch

FOLDERS = ("/usr/share/datasets/fashion-mnist", "FashionMNIST/raw", "~/FashionMNIST/raw")
TRAIN, CALIBRATE = 20_000, 10_000
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Parts:
    """train: 20,000 pictures that networks learn from; val: 10,000 others, to choose and to calibrate on; test: the
    10,000 of the test set, to judge on."""

    train: Dataset
    val: Dataset
    test: Dataset


def options(doc: str | None) -> argparse.ArgumentParser:
    """What every script takes."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("experiments/work"), help="trained networks and records")
    parser.add_argument("--data", type=Path, help="folder of Fashion-MNIST's four files; found where Debian keeps it")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--out", type=Path, help="write the figures to this .json file as well")
    return parser


def fashion_mnist(folder: Path | None) -> Parts:
    """Fashion-MNIST (Xiao et al., 2017): Debian's package ``dataset-fashion-mnist``, or torchvision's download."""
    places = (
        [folder] if folder else [Path(p).expanduser() for p in (os.environ.get("FASHION_MNIST", ""), *FOLDERS) if p]
    )
    for place in places:
        for end in ("-ubyte.gz", "-ubyte"):
            if (place / f"train-images-idx3{end}").is_file():
                train = load_data(f"idx:{place / f'train-images-idx3{end}'}")
                order = np.random.default_rng(0).permutation(len(train))
                return Parts(
                    Subset(train, np.sort(order[:TRAIN])),
                    Subset(train, np.sort(order[TRAIN : TRAIN + CALIBRATE])),
                    load_data(f"idx:{place / f't10k-images-idx3{end}'}"),
                )
    raise SystemExit(
        "Fashion-MNIST is not here. Debian and Ubuntu: apt install dataset-fashion-mnist. Elsewhere: "
        "python -c \"import torchvision; torchvision.datasets.FashionMNIST('.', download=True)\""
    )


def run_of(work: Path, seed: int) -> Run:
    """The records of one seed's networks, splits ``val`` and ``test``."""
    return Run(work / f"seed{seed}" / "run")


def network(
    work: Path,
    parts: Parts,
    name: str,
    seed: int,
    model: str,
    recipe: Recipe,
    layers: Sequence[str] = (),
    arguments: Mapping[str, Any] | None = None,
    head: str = "linear",
) -> Trained:
    """A network with exits after *layers* (none: the plain network), trained if it is not there, and recorded."""

    def train(out: Path, **common: Any) -> Trained:
        more: dict[str, Any] = {"layers": layers, "exits": 0, "head": head, "arguments": arguments}
        return train_exits(model, parts.train, out, **more, **common)

    return _once(train, work, parts, name, seed, recipe, {"exits": list(layers)})


def multi_scale(work: Path, parts: Parts, name: str, seed: int, config: MSDNetConfig, recipe: Recipe) -> Trained:
    """The same for an MSDNet."""

    def train(out: Path, **common: Any) -> Trained:
        return train_msdnet(config, parts.train, out, **common)

    return _once(train, work, parts, name, seed, recipe, {})


def _once(
    train: Callable[..., Trained],
    work: Path,
    parts: Parts,
    name: str,
    seed: int,
    recipe: Recipe,
    more: Mapping[str, Any],
) -> Trained:
    folder = work / f"seed{seed}" / name
    found = kept(folder, recipe, parts.train, more)
    if found is None:
        with progress_bars() as progress:
            found = train(folder, recipe=recipe, held_out=parts.val, seed=seed, progress=progress)
    recorded(work, parts, seed, f"exits:{found.file}", name)
    return found


def kept(folder: Path, recipe: Recipe, data: Dataset, more: Mapping[str, Any]) -> Trained | None:
    """A network that was trained by this very recipe on this data before, with exits after the same layers."""
    file = folder / "network.safetensors"
    if not file.is_file():
        return None
    document = read_json(folder / "training.json", ModelError)
    found = {**document["trained"]["recipe"], "data": document["trained"]["data"]}
    found |= {"exits": [one["after"] for one in document["description"]["exits"]]} if more else {}
    asked = {**recipe.to_json(), "data": data.spec, **more}
    if differ := {key for key, value in found.items() if asked.get(key) != value}:
        raise SystemExit(f"{folder} was trained with another {', '.join(sorted(differ))}; delete it")
    return Trained(file, tuple(Epoch(**epoch) for epoch in document["epochs"]))


def recorded(work: Path, parts: Parts, seed: int, model: str, name: str) -> None:
    """Records of *model* on both held-out parts."""
    for split, data in (("val", parts.val), ("test", parts.test)):
        record(data, model, run_of(work, seed), alias=name, options=RecordOptions(split=split, timing=False))


def say(text: str) -> None:
    """To the terminal."""
    Console(highlight=False, soft_wrap=True).print(text, markup=False)


__all__ = ["Parts", "fashion_mnist", "multi_scale", "network", "options", "pilotfish", "recorded", "run_of", "say"]
