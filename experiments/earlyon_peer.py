"""Beside earlyon: one backbone, the same data, epochs and accuracy budget.

    pip install earlyon
    python experiments/earlyon_peer.py

Both get the same trained ResNet-34 (narrow), frozen, exits with one hidden layer of 128 after its three inner stages,
and the same batches for the same epochs, each trained by its own trainer. Each chooses thresholds on val by its own
method for the same drop, and test judges. Multiply-adds are counted alike for both, heads included. Images per second:
medians of rounds in which the two take turns, on preprocessed samples for earlyon; Pilotfish's figures include
preprocessing. earlyon's batches leave at an exit only when all of their samples may.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import fashion_mnist, options, run_of, say
from judge import Budget, Cascade, macs, spread
from judge import cascade as cascade_of
from zoo import HEADS, STAGES, train

import pilotfish
from pilotfish.data.subset import Subset
from pilotfish.records import Run
from pilotfish.train.augment import varied
from pilotfish.train.backbone import find_backbone
from pilotfish.train.samples import Held, read_samples

try:
    from earlyon.core.thresholds import calibrate_thresholds
    from earlyon.models import custom_ee
    from earlyon.training.two_stage_trainer import stage2_train_exits
except ImportError:
    raise SystemExit("earlyon is not installed: pip install earlyon") from None

CROSSED = "earlyon's heads, Pilotfish's thresholds"
BACKBONE, OURS = "resnet34", "resnet34-mlp-exits"
DROPS = (0.005, 0.01)
SINGLES, ROUNDS, BATCH = 500, 5, 32


class Batches:
    """The training samples, varied as ours are, in batches of the recipe's size; a fresh order at each pass."""

    def __init__(self, samples: Held, chain: Any, seed: int) -> None:
        self.samples, self.chain, self.generator = samples, chain, torch.Generator().manual_seed(seed)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        order = torch.randperm(len(self.samples), generator=self.generator)
        for rows in order.split(HEADS.batch_size):
            inputs = varied(self.samples.inputs[rows], HEADS, self.chain, self.generator)
            yield inputs, self.samples.labels[rows]


def plain(samples: Held) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Held-out samples in batches."""
    return list(zip(samples.inputs.split(256), samples.labels.split(256), strict=True))


def main() -> None:
    """Train both, choose, judge, time."""
    given, rows = options(__doc__).parse_args(), []
    parts = fashion_mnist(given.data)
    for seed in given.seeds:
        ours = train(OURS, given.work, parts, seed)
        found = find_backbone(f"exits:{train(BACKBONE, given.work, parts, seed).file}", parts.train)
        training, val, test = (read_samples(d, found.preprocessing, 10) for d in (parts.train, parts.val, parts.test))
        peer = _peer(
            given.work / f"seed{seed}" / "earlyon.pt", found.module, Batches(training, found.preprocessing, seed)
        )
        run = run_of(given.work, seed)
        names = [f"{OURS}#{k}" for k in range(1, 5)]
        own = cascade_of(run, names)
        costs = own.test.through
        logits = _answers(peer, test)
        theirs = _recorded(peer, {"val": val, "test": test}, given.work / f"seed{seed}" / "earlyon-run", run, names)
        for drop in DROPS:
            calibrate_thresholds(peer, plain(val), target_accuracy_drop=drop)
            by = _routed(peer, logits)
            right = torch.stack([z.argmax(1) for z in logits]).numpy()[by, np.arange(len(by))] == test.labels.numpy()
            base = float((logits[-1].argmax(1) == test.labels).float().mean())
            budget = Budget("max_drop", drop)
            crossed = theirs.judged(theirs.path("sweep", budget), budget)
            assert crossed is not None
            equal = _cost_at(own, float(right.mean()))
            tuned = pilotfish.tune(run, names, max_drop=drop, split="val", holdout=0)
            folder = tuned.save(given.work / f"seed{seed}" / f"earlyon-{drop:g}")
            pilotfish.tune_runtime(folder, Subset(parts.val, np.arange(512)), seconds=0.3)
            cascade = pilotfish.Cascade.load(folder)
            answers = cascade.predict(parts.test)
            mine = np.array([a.prediction for a in answers]) == test.labels.numpy()
            stage = np.array([a.stage for a in answers])
            rows.append(
                {
                    "seed": seed,
                    "budget": drop,
                    "base": base,
                    "heads": {"earlyon": [float((z.argmax(1) == test.labels).float().mean()) for z in logits]},
                    "accuracy": {"earlyon": float(right.mean()), CROSSED: crossed[0], "pilotfish": float(mine.mean())},
                    "cost": {
                        "earlyon": float(costs[by].mean() / macs(run, names[-1])),
                        CROSSED: crossed[2] / macs(run, names[-1]),
                        "pilotfish": float(costs[stage].mean() / macs(run, names[-1])),
                    },
                    "ours_at_their_accuracy": equal / macs(run, names[-1]),
                    "images_per_second": _timed(peer, found.module, cascade, parts.test, test),
                }
            )
            say(json.dumps(rows[-1]))
        say(f"seed {seed}: our heads {ours.accuracy}")
    _table(rows)
    if given.out:
        given.out.write_text(json.dumps(rows, indent=1))


def _peer(path: Any, module: Any, batches: Batches) -> Any:
    """earlyon's network, its heads trained by its own trainer unless they are kept."""
    peer = custom_ee(module, list(STAGES), 10, input_shape=(1, 1, 28, 28))
    if path.is_file():
        peer.load_state_dict(torch.load(path, weights_only=True))
    else:
        stage2_train_exits(peer, batches, epochs=HEADS.epochs)
        torch.save(peer.state_dict(), path)
    return peer.eval()


def _answers(peer: Any, samples: Held) -> list[torch.Tensor]:
    """Logits of every exit, one tensor (N, C) each."""
    with torch.inference_mode():
        return [torch.cat(z) for z in zip(*(peer(x, mode="training") for x, _ in plain(samples)), strict=True)]


def _cost_at(cascade: Cascade, accuracy: float) -> float:
    """Cost on test of our policies, chosen on val for one drop after the other, where they reach *accuracy* on test."""
    points = []
    for drop in np.linspace(-0.002, 0.02, 45):
        budget = Budget("max_drop", float(drop))
        if (found := cascade.judged(cascade.path("sweep", budget), budget)) is not None:
            points.append((found[0], found[2]))
    reached, costs = np.array(sorted(points)).T
    return float(np.interp(accuracy, reached, costs))


def _recorded(peer: Any, parts: dict[str, Held], folder: Path, ours: Run, names: list[str]) -> Cascade:
    """earlyon's exits as records, at the costs of ours: the heads are of one size."""
    own = [f"earlyon#{k}" for k in range(1, len(names) + 1)]
    for split, samples in parts.items():
        for name, like, logits in zip(own, names, _answers(peer, samples), strict=True):
            file = folder / "logits.npz"
            file.parent.mkdir(parents=True, exist_ok=True)
            np.savez(file, logits=logits.numpy(), label=samples.labels.numpy())
            costs = ours.read(like, "test").meta.costs
            pilotfish.import_predictions(file, folder, name, split=split, costs=costs)
    return cascade_of(Run(folder), own)


def _routed(peer: Any, logits: list[torch.Tensor]) -> np.ndarray:
    """The exit that answers each sample under earlyon's calibrated policy."""
    config, by = peer.config, np.full(len(logits[0]), len(logits) - 1)
    for k in range(len(logits) - 2, -1, -1):
        top = torch.softmax(logits[k] / config.temperatures[config.exit_points[k].name], 1).amax(1).numpy()
        if config.enabled_exits[k]:
            by[top >= config.confidence_thresholds[k]] = k
    return by


def _timed(peer: Any, module: Any, cascade: Any, data: Any, test: Held) -> dict[str, float]:
    """Median images per second of each way over rounds in turn."""
    few = Subset(data, np.arange(SINGLES))
    alone = [Subset(data, np.array([i])) for i in range(SINGLES)]
    inputs = test.inputs

    def singles() -> None:
        for i in range(SINGLES):
            peer(inputs[i : i + 1], mode="inference")

    def backbone() -> None:
        with torch.inference_mode():
            for i in range(SINGLES):
                module(inputs[i : i + 1])

    ways: dict[str, tuple[Callable[[], Any], int]] = {
        "earlyon, one at a time": (singles, SINGLES),
        "backbone in torch, one at a time": (backbone, SINGLES),
        "pilotfish, one at a time": (lambda: [cascade.predict(one) for one in alone], SINGLES),
        f"earlyon, batches of {BATCH}": (
            lambda: [peer.forward_inference_batched(x) for x in inputs[:5000].split(BATCH)],
            5000,
        ),
        "pilotfish, stream": (lambda: cascade.predict(data), len(data)),
    }
    cascade.predict(few)
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for way, (run, n) in ways.items():
            begun = time.perf_counter()
            run()
            taken[way].append(n / (time.perf_counter() - begun))
    return {way: statistics.median(values) for way, values in taken.items()}


def _table(rows: list[dict[str, Any]]) -> None:
    for drop in DROPS:
        mine = [r for r in rows if r["budget"] == drop]
        say(f"\ndrop of at most {drop:.1%} asked on val; backbone {spread([r['base'] for r in mine])} % on test")
        for way in mine[0]["accuracy"]:
            drops = spread([r["base"] - r["accuracy"][way] for r in mine])
            cost = spread([r["cost"][way] for r in mine], digits=1)
            say(f"{way:40} drop on test {drops} points, {cost} % of the backbone's multiply-adds")
        say(f"Pilotfish at earlyon's accuracy: {spread([r['ours_at_their_accuracy'] for r in mine], digits=1)} %")
        for way in mine[0]["images_per_second"]:
            each = [r["images_per_second"][way] for r in mine]
            say(f"{way:36}{statistics.median(each):10.0f} images/s ({min(each):.0f} … {max(each):.0f})")


if __name__ == "__main__":
    main()
