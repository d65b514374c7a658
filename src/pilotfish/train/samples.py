"""Samples as a network takes them: in memory where they fit, else read while the network computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from pilotfish.data import Dataset
from pilotfish.errors import DataError, UnreadableSample
from pilotfish.machine import cpu_count
from pilotfish.models import Preprocessing
from pilotfish.text import quantity

LARGEST = 4 * 2**30  # bytes of inputs that are held in memory
CHUNK = 256
AHEAD = 2  # batches that are read while one is computed

Batch = tuple[torch.Tensor, torch.Tensor]


class Samples(Protocol):
    """N labelled samples, preprocessed as in evaluation."""

    def __len__(self) -> int: ...

    def batches(self, order: torch.Tensor, size: int) -> Iterator[Batch]:
        """(inputs float32 (n, …), labels int64 (n,)) of *size* samples each, in the order of the rows *order*; the last
        batch may be smaller."""
        ...


@dataclass(frozen=True)
class Held:
    """Samples in memory. inputs: float32 (N, …); labels: int64 (N,)."""

    inputs: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, order: torch.Tensor, size: int) -> Iterator[Batch]:
        """See :class:`Samples`."""
        for rows in order.split(size):  # type: ignore[no-untyped-call]
            yield self.inputs[rows], self.labels[rows]


@dataclass(frozen=True)
class Streamed:
    """Samples that are read anew in every epoch, in threads, ahead of the network. One that cannot be read is replaced
    by the next one that can.

    rows: of *data*, those that have a label; labels: int64 (N,)
    """

    data: Dataset
    preprocessing: Preprocessing
    rows: np.ndarray[Any, np.dtype[np.intp]]
    labels: torch.Tensor
    shape: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def batches(self, order: torch.Tensor, size: int) -> Iterator[Batch]:
        """See :class:`Samples`."""
        with ThreadPoolExecutor(cpu_count()) as pool:
            waiting: deque[list[Future[tuple[Any, int]]]] = deque()
            for rows in order.split(size):  # type: ignore[no-untyped-call]
                waiting.append([pool.submit(self._read, row) for row in rows.tolist()])
                if len(waiting) > AHEAD:
                    yield self._joined(waiting.popleft())
            while waiting:
                yield self._joined(waiting.popleft())

    def _read(self, row: int) -> tuple[Any, int]:
        """(input, row that it is of)."""
        for i in range(row, row + len(self.rows)):
            k = i % len(self.rows)
            found = made(self.data, self.preprocessing, int(self.rows[k]))
            if found is not None and found.shape == self.shape:
                return found, k
        raise DataError(f"none of the {quantity(len(self.rows), 'sample')} of {self.data.spec} could be read")

    def _joined(self, futures: list[Future[tuple[Any, int]]]) -> Batch:
        found = [future.result() for future in futures]
        return torch.from_numpy(np.stack([one for one, _ in found])), self.labels[[k for _, k in found]]


def read_samples(data: Dataset, preprocessing: Preprocessing, classes: int, largest: int = LARGEST) -> Samples:
    """Every labelled sample of *data* that can be read, in memory up to *largest* bytes. DataError without labels."""
    if data.labels is None:
        raise DataError(f"{data.spec} has no labels to train on")
    labels = np.asarray(data.labels)
    rows = np.flatnonzero(labels >= 0)
    if labels.max(initial=-1) >= classes:
        raise DataError(f"{data.spec} has label {labels.max()}, the network knows the classes 0 to {classes - 1}")
    if not len(rows):
        raise DataError(f"{data.spec} has no labels to train on")
    first = next((one for row in rows if (one := made(data, preprocessing, int(row))) is not None), None)
    if first is None:
        raise DataError(f"none of the {quantity(len(rows), 'sample')} of {data.spec} could be read")
    known = torch.from_numpy(labels[rows].astype(np.int64))
    if first.nbytes * len(rows) > largest:
        return Streamed(data, preprocessing, rows, known, first.shape)
    inputs = np.empty((len(rows), *first.shape), np.float32)
    good = np.ones(len(rows), bool)

    def fill(start: int) -> None:
        for i in range(start, min(start + CHUNK, len(rows))):
            one = made(data, preprocessing, int(rows[i]))
            good[i] = one is not None and one.shape == first.shape
            if good[i]:
                inputs[i] = one

    with ThreadPoolExecutor(cpu_count()) as pool:
        list(pool.map(fill, range(0, len(rows), CHUNK)))
    kept = inputs if good.all() else inputs[good]
    return Held(torch.from_numpy(kept), known if good.all() else known[torch.from_numpy(good)])


def made(data: Dataset, preprocessing: Preprocessing, row: int) -> Any:
    """Sample *row* of *data* as an input float32 (…); None where it cannot be read, or made into one."""
    try:
        return preprocessing(data.read(row))
    except (UnreadableSample, ValueError):
        return None
