"""Where stages get their inputs from: decoded in threads as they are needed, or prepared beforehand."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import UnreadableSample, UsageError
from pilotfish.models import Preprocessing
from pilotfish.models.preprocessing import Sample

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Supplied:
    """inputs float32 (n, …) of the samples *rows*; errors by sample for those that could not be prepared."""

    rows: list[int]
    inputs: F32
    errors: dict[int, str]


class Supply(Protocol):
    """The inputs of N samples for every stage."""

    def __len__(self) -> int: ...

    def first(self, batch_size: int) -> Iterator[Supplied]:
        """Batches for the first stage, in order."""
        ...

    def keep(self, stage: int, rows: Sequence[int]) -> None:
        """These samples will be asked for at *stage*; all others of their batch are done with."""
        ...

    def later(self, stage: int, rows: Sequence[int]) -> Supplied:
        """Inputs of kept samples for *stage*."""
        ...


class TensorSupply:
    """Tensors made beforehand: one array (N, …) per stage. For timing the models alone."""

    def __init__(self, tensors: Sequence[F32]) -> None:
        self.tensors = tensors

    def __len__(self) -> int:
        return len(self.tensors[0])

    def first(self, batch_size: int) -> Iterator[Supplied]:
        """Slices of the first array."""
        for start in range(0, len(self), batch_size):
            part = self.tensors[0][start : start + batch_size]
            yield Supplied(list(range(start, start + len(part))), part, {})

    def keep(self, stage: int, rows: Sequence[int]) -> None:
        """Nothing to do."""

    def later(self, stage: int, rows: Sequence[int]) -> Supplied:
        """Survivors gathered once."""
        return Supplied(list(rows), self.tensors[stage][list(rows)], {})


class DecodingSupply:
    """Samples read and preprocessed in threads, ahead of the models.

    A sample is decoded once. It is held only while a later stage may want it: that stage's tensor is made for
    survivors alone, while the models work on.
    """

    def __init__(
        self,
        read: Callable[[int], Sample],
        n: int,
        preprocessing: Sequence[Preprocessing],
        workers: int,
        ahead: int = 3,
    ) -> None:
        self.read, self.n, self.preprocessing, self.ahead = read, n, preprocessing, ahead
        self.pool = ThreadPoolExecutor(max(1, workers), thread_name_prefix="pilotfish-decode")
        self.held: dict[int, Sample] = {}
        self.coming: dict[int, Future[F32]] = {}
        self.batch: list[int] = []

    def __len__(self) -> int:
        return self.n

    def __enter__(self) -> DecodingSupply:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown(wait=True, cancel_futures=True)

    def first(self, batch_size: int) -> Iterator[Supplied]:
        """Batches for the first stage; a few are in preparation at any time."""
        pending: deque[list[tuple[int, Future[tuple[Sample, F32]]]]] = deque()
        starts = iter(range(0, self.n, batch_size))

        def submit() -> None:
            start = next(starts, None)
            if start is not None:
                rows = range(start, min(start + batch_size, self.n))
                pending.append([(row, self.pool.submit(self._open, row)) for row in rows])

        for _ in range(max(self.ahead, -(-8 // batch_size))):
            submit()
        while pending:
            yield self._collect(pending.popleft())
            submit()

    def keep(self, stage: int, rows: Sequence[int]) -> None:
        """Begin the survivors' tensors for *stage*, and let go of every other sample of the batch at hand."""
        kept = set(rows)
        for row in self.batch:
            if row not in kept:
                self.held.pop(row, None)
        self.batch = []
        for row in rows:
            self.coming[row] = self.pool.submit(self.preprocessing[stage], self.held[row])

    def later(self, stage: int, rows: Sequence[int]) -> Supplied:
        """Wait for the survivors' tensors."""
        last = stage == len(self.preprocessing) - 1
        kept: list[int] = []
        inputs: list[F32] = []
        errors: dict[int, str] = {}
        for row in rows:
            try:
                inputs.append(self.coming.pop(row).result())
                kept.append(row)
            except UnreadableSample as error:
                errors[row] = str(error)
                self.held.pop(row, None)
            if last:
                self.held.pop(row, None)
        self.batch = kept
        return Supplied(kept, _stack(inputs), errors)

    def _open(self, row: int) -> tuple[Sample, F32]:
        sample = self.read(row)
        return sample, self.preprocessing[0](sample)

    def _collect(self, batch: list[tuple[int, Future[tuple[Sample, F32]]]]) -> Supplied:
        kept: list[int] = []
        inputs: list[F32] = []
        errors: dict[int, str] = {}
        for row, future in batch:
            try:
                sample, tensor = future.result()
            except UnreadableSample as error:
                errors[row] = str(error)
                continue
            if len(self.preprocessing) > 1:
                self.held[row] = sample
            kept.append(row)
            inputs.append(tensor)
        self.batch = kept
        return Supplied(kept, _stack(inputs), errors)


def _stack(inputs: list[F32]) -> F32:
    shapes = {x.shape for x in inputs}
    if len(shapes) > 1:
        raise UsageError(
            f"inputs of different shapes cannot share a batch: {', '.join(map(str, sorted(shapes)[:3]))}; "
            "give them one at a time, or use models with a fixed input size"
        )
    return np.stack(inputs) if inputs else np.zeros((0,), np.float32)
