"""Samples in memory, as a network takes them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from pilotfish.data import Dataset
from pilotfish.errors import DataError, UnreadableSample
from pilotfish.models import Preprocessing
from pilotfish.models.machine import cpu_count

LARGEST = 8 * 2**30  # bytes of inputs that are held in memory
CHUNK = 256


@dataclass(frozen=True)
class Samples:
    """inputs: float32 (N, …), preprocessed as in evaluation; labels: int64 (N,)."""

    inputs: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)


def read_samples(data: Dataset, preprocessing: Preprocessing, classes: int) -> Samples:
    """Every labelled sample of *data* that can be read. DataError without labels, or when memory will not do."""
    if data.labels is None:
        raise DataError(f"{data.spec} has no labels to train on")
    labels = np.asarray(data.labels)
    rows = np.flatnonzero(labels >= 0)
    if labels.max(initial=-1) >= classes:
        raise DataError(f"{data.spec} has label {labels.max()}, the network knows the classes 0 to {classes - 1}")
    if not len(rows):
        raise DataError(f"{data.spec} has no labels to train on")
    first = preprocessing(data.read(int(rows[0])))
    if (size := first.nbytes * len(rows)) > LARGEST:
        raise DataError(
            f"the inputs of {data.spec} take {size / 2**30:.0f} GiB; training holds them in memory, "
            f"{LARGEST / 2**30:.0f} GiB at most: train on a part, or at fewer pixels"
        )
    inputs = np.empty((len(rows), *first.shape), np.float32)
    good = np.ones(len(rows), bool)

    def fill(start: int) -> None:
        for i in range(start, min(start + CHUNK, len(rows))):
            try:
                inputs[i] = preprocessing(data.read(int(rows[i])))
            except (UnreadableSample, ValueError):  # a sample of another shape
                good[i] = False

    with ThreadPoolExecutor(cpu_count()) as pool:
        list(pool.map(fill, range(0, len(rows), CHUNK)))
    if not good.any():
        raise DataError(f"none of the {len(rows)} samples of {data.spec} could be read")
    kept = inputs if good.all() else inputs[good]
    return Samples(torch.from_numpy(kept), torch.from_numpy(labels[rows[good]].astype(np.int64)))
