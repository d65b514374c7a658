"""A run of imported predictions, and a folder with two numpy models over small pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pilotfish.plan import tune
from pilotfish.recording import RecordOptions, record
from pilotfish.records import Run, import_file

N, CLASSES = 400, 5
MODELS = """
import numpy as np
from pilotfish.models import Preprocessing

rng = np.random.default_rng(0)
W = rng.standard_normal((48, 5)).astype(np.float32) * 0.4
V = W + rng.standard_normal((48, 5)).astype(np.float32) * 0.25

def base(batch):
    return batch.reshape(len(batch), -1) @ W

def saver(batch):
    return batch.reshape(len(batch), -1) @ V

base.preprocessing = saver.preprocessing = Preprocessing(size=(4, 4), resize=4, mean=(0.5,) * 3, std=(0.25,) * 3)
base.weights_hash, saver.weights_hash = "b" * 64, "s" * 64
"""
PAIR = "python:cli_pair:saver,python:cli_pair:base"


def predictions(file: Path, seed: int, skill: float) -> Path:
    """Probabilities of a model that is surest of the samples it is right about, with the truth."""
    label = np.random.default_rng(0).integers(0, CLASSES, N)
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal((N, CLASSES))
    logits[np.arange(N), label] += skill + rng.standard_normal(N)
    np.savez(file, probs=np.exp(logits) / np.exp(logits).sum(1, keepdims=True), label=label)
    return file


@pytest.fixture(scope="session")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``small.npz``, ``big.npz``, and both in the run ``run``. Read, not written."""
    folder = tmp_path_factory.mktemp("imported")
    for name, seed, skill, macs in (("small", 1, 2.0, 1e8), ("big", 2, 4.0, 1e9)):
        Run(folder / "run").write(
            import_file(predictions(folder / f"{name}.npz", seed, skill), name, costs={"macs": macs})
        )
    tune(Run(folder / "run"), ("small", "big"), max_drop=0.02).save(folder / "imported-cascade")
    return folder


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``cli_pair.py`` (two models), ``data.npz``, ``photos``, ``run`` and ``cascade``. Not written."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "cli_pair.py").write_text(MODELS)
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (200, 8, 8, 3), dtype=np.uint8)
    np.savez(folder / "data.npz", x=images, label=rng.integers(0, CLASSES, 200), class_names=list("abcde"))
    (folder / "photos").mkdir()
    for i, pixels in enumerate(images[:6]):
        Image.fromarray(pixels).save(folder / "photos" / f"{i}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        options = RecordOptions(timing=False, batch_size=16)
        record(f"arrays:{folder}/data.npz", PAIR.split(","), folder / "run", options=options)
    tune(Run(folder / "run"), PAIR.split(","), max_drop=0.05, holdout=0, allow_bad_base=True).save(folder / "cascade")
    return folder
