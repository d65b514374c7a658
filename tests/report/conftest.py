"""Runs of synthetic models: outputs are probabilities, so scores are log-odds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from pilotfish.records import NO_LABEL, Records, RecordsMeta, Run, from_logits
from pilotfish.records.records import string_ids

MakeRun = Callable[..., Run]


def records(
    name: str, label: np.ndarray, skill: float, seed: int, costs: Mapping[str, float], labelled: bool = True
) -> Records:
    """One model whose logits favour the label by *skill*."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(len(label), 10))
    logits[np.arange(len(label)), label] += skill
    meta = RecordsMeta(
        model=name,
        split="val",
        n_classes=10,
        costs=dict(costs),
        weights_hash="ab12" * 16,
        preprocessing={"resize": 256, "crop": 224, "interpolation": "bicubic"},
        preprocessing_hash="cd34" * 16,
        data={"spec": "folder:photos", "fingerprint": "ef56" * 16, "n": len(label)},
    )
    truth = label.astype(np.int64) if labelled else np.full(len(label), NO_LABEL)
    return Records(string_ids(np.arange(len(label))), truth, from_logits(3 * logits), meta)


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """make_run({name: (skill, costs)}, n=…, labelled=…)"""
    made = 0

    def make(models: Mapping[str, tuple[float, Mapping[str, float]]], n: int = 1500, labelled: bool = True) -> Run:
        nonlocal made
        made += 1
        run = Run(tmp_path / f"run{made}")
        label = np.random.default_rng(7).integers(0, 10, n)
        for seed, (name, (skill, costs)) in enumerate(models.items()):
            run.write(records(name, label, skill, seed, costs, labelled))
        return run

    return make


PAIR = {"small": (2.6, {"macs": 3e8}), "big": (3.2, {"macs": 3e9})}
POOL = {
    "tiny": (1.0, {"macs": 5e7}),
    "small": (2.6, {"macs": 3e8}),
    "dull": (0.0, {"macs": 2e9}),
    "big": (3.2, {"macs": 3e9}),
    "huge": (3.4, {"macs": 9e9}),
}


@pytest.fixture
def pair_run(make_run: MakeRun) -> Run:
    return make_run(PAIR)


@pytest.fixture
def pool_run(make_run: MakeRun) -> Run:
    return make_run(POOL)
