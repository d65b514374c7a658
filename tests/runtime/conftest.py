"""A pair of numpy models over small pictures, recorded and tuned: a real cascade without torch."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from pilotfish.data import Dataset, load_data
from pilotfish.plan import Tuning, tune
from pilotfish.recording import RecordOptions, record
from pilotfish.records import Run
from support.pair_module import CLASSES, MODULE

NAME = "recorded_pair"
STAGES = (f"python:{NAME}:saver", f"python:{NAME}:base")


@dataclass(frozen=True)
class Pair:
    """A recorded pair. images: uint8 (N, 8, 8, 3), the samples of *data*."""

    folder: Path
    images: np.ndarray
    data: Dataset
    run: Run
    module: ModuleType
    stages: tuple[str, str]
    tuning: Tuning

    @property
    def allowed(self) -> tuple[str, ...]:
        """Its code, as ``allow_python`` takes it."""
        return tuple(f"{self.module.__name__}:{name}" for name in ("saver", "base", "third"))

    @property
    def cascade(self) -> Path:
        """A cascade folder, written again at every call."""
        return self.tuning.save(self.folder / "cascade")


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray, Tuning]:
    """A folder with the pair's module, its samples and their run; the images; the tuning. Copied by :func:`pair`."""
    folder = tmp_path_factory.mktemp("recorded")
    (folder / f"{NAME}.py").write_text(MODULE)
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (300, 8, 8, 3), dtype=np.uint8)
    options = RecordOptions(timing=False, batch_size=16, workers=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.delitem(sys.modules, NAME, raising=False)
        first = Run(folder / "first")
        record(arrays(folder / "unlabelled.npz", images), STAGES[1], first, options=options)
        answers = first.read(STAGES[1]).outputs.prediction
        labels = np.where(rng.random(300) < 0.85, answers, rng.integers(0, 5, 300))  # the base is right 9 times in 10
        record(arrays(folder / "data.npz", images, labels), STAGES, folder / "run", options=options)
    return folder, images, tune(Run(folder / "run"), STAGES, max_drop=0.02, holdout=0)


@pytest.fixture
def pair(recorded: tuple[Path, np.ndarray, Tuning], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    folder, images, tuning = recorded
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop(NAME, None)
    module = importlib.import_module(NAME)  # a new one every time, for tests that change it
    yield Pair(
        tmp_path, images, load_data(f"arrays:{tmp_path}/data.npz"), Run(tmp_path / "run"), module, STAGES, tuning
    )
    sys.modules.pop(NAME, None)


def arrays(path: Path, images: np.ndarray, labels: np.ndarray | None = None) -> Dataset:
    np.savez(path, x=images, class_names=np.array(CLASSES), **({} if labels is None else {"label": labels}))
    return load_data(f"arrays:{path}")


@pytest.fixture
def photos(pair: Pair) -> list[Path]:
    """The first twenty samples as PNG files."""
    folder = pair.folder / "photos"
    folder.mkdir()
    for i, pixels in enumerate(pair.images[:20]):
        Image.fromarray(pixels).save(folder / f"{i:02d}.png")
    return sorted(folder.iterdir())
