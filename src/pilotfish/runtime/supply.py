"""Where stages get their inputs from: read, decoded and preprocessed in threads, or prepared beforehand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import PilotfishError
from pilotfish.models import Preprocessing
from pilotfish.models.preprocessing import Sample

F32 = NDArray[np.float32]


class Supply(Protocol):
    """Inputs of samples that are numbered from 0 in their order, for every stage."""

    @property
    def workers(self) -> int:
        """Threads that call :meth:`prepare`; 0 when nothing needs to be prepared."""
        ...

    def take(self, n: int) -> int:
        """Begin with up to *n* more samples; fewer than *n* are the last."""
        ...

    def prepare(self, stage: int, row: int) -> Any:
        """What :meth:`batch` needs of a sample. Called in threads; an exception costs this sample alone."""
        ...

    def batch(self, stage: int, rows: Sequence[int], prepared: Sequence[Any]) -> F32:
        """Inputs float32 (n, …) of samples that were prepared and have one shape."""
        ...

    def drop(self, rows: Iterable[int]) -> None:
        """These samples are answered."""
        ...


class TensorSupply:
    """Inputs made beforehand: one array (N, …) per stage, or a torch tensor that may lie on a device."""

    workers = 0

    def __init__(self, tensors: Sequence[Any]) -> None:
        self.tensors = tensors
        self.read = 0

    def __len__(self) -> int:
        return len(self.tensors[0])

    def take(self, n: int) -> int:
        """The next rows of the arrays."""
        n = min(n, len(self) - self.read)
        self.read += n
        return n

    def prepare(self, stage: int, row: int) -> None:
        """Nothing to do."""

    def batch(self, stage: int, rows: Sequence[int], prepared: Sequence[Any]) -> F32:
        """A slice where the rows follow each other, else gathered."""
        first, last = rows[0], rows[-1]
        if last - first + 1 == len(rows):
            found: F32 = self.tensors[stage][first : last + 1]
        else:
            found = self.tensors[stage][np.asarray(rows)]
        return found

    def drop(self, rows: Iterable[int]) -> None:
        """Nothing to do."""


class DecodingSupply:
    """Samples read and preprocessed in threads, ahead of the models.

    A sample is decoded once. It is held only while a later stage may want it: that stage's tensor is made for
    survivors alone, while the models work on.

    read    a sample from an item; an item is its number when *n* is given
    items   what there is to read: a number of samples, or anything that can be iterated, of any length
    """

    def __init__(
        self,
        read: Callable[[Any], Sample],
        items: int | Iterable[Any],
        preprocessing: Sequence[Preprocessing],
        workers: int,
    ) -> None:
        self.read, self.preprocessing, self.workers = read, preprocessing, max(1, workers)
        self.length = items if isinstance(items, int) else None
        self.items: Iterator[Any] = iter(range(items) if isinstance(items, int) else items)
        self.coming: dict[int, Any] = {}
        self.held: dict[int, Sample] = {}
        self.taken = 0

    def __len__(self) -> int:
        if self.length is None:
            raise TypeError("the number of inputs is not known")
        return self.length

    def take(self, n: int) -> int:
        """Take the next items, and read none of them yet."""
        found = list(islice(self.items, n))  # what an iterable of the caller's raises ends the run
        self.coming.update(enumerate(found, self.taken))
        self.taken += len(found)
        return len(found)

    def prepare(self, stage: int, row: int) -> F32:
        """The tensor of a sample for *stage*; reads it when it is the first to ask."""
        if row in self.coming:
            self.held[row] = self.read(self.coming.pop(row))
        tensor = self.preprocessing[stage](self.held[row])
        if stage + 1 == len(self.preprocessing):
            del self.held[row]
        return tensor

    def batch(self, stage: int, rows: Sequence[int], prepared: Sequence[Any]) -> F32:
        """The tensors as one."""
        return prepared[0][None] if len(prepared) == 1 else np.stack(prepared)

    def drop(self, rows: Iterable[int]) -> None:
        """Let go of the samples."""
        for row in rows:
            self.held.pop(row, None)
            self.coming.pop(row, None)


def why(error: Exception) -> str:
    """One line about a sample that could not be prepared: reading it and the user's own code may raise anything."""
    if isinstance(error, PilotfishError):
        return str(error)
    if isinstance(error, MemoryError):
        return "there is not enough memory to prepare it"
    return f"preparing it failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
