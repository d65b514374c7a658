"""Where stages get their inputs from: read, decoded and preprocessed in threads, or prepared beforehand."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import PilotfishError
from pilotfish.models import Preprocessing
from pilotfish.models.preprocessing import WHOLE, Sample

if TYPE_CHECKING:
    from pilotfish.runtime.call import Item

F32 = NDArray[np.float32]
UNREAD: Any = object()


class Supply(Protocol):
    """What makes the inputs of every stage from the *key* of a sample: a path, bytes, its number."""

    @property
    def workers(self) -> int:
        """Threads that call :meth:`prepare`; 0 when nothing needs to be prepared."""
        ...

    @property
    def total(self) -> int | None:
        """How many samples :meth:`keys` has; None if unknown."""
        ...

    def keys(self) -> Iterator[Any]:
        """The keys of the samples, in order."""
        ...

    def prepare(self, stage: int, item: Item) -> Any:
        """What :meth:`batch` needs of a sample. Called in threads; an exception fails only this sample."""
        ...

    def batch(self, stage: int, items: Sequence[Item]) -> F32:
        """Inputs float32 (n, …) of prepared samples of one shape."""
        ...


class TensorSupply:
    """Inputs made beforehand: one array (M, …) per stage, or a torch tensor that may be on a device.

    total  number of samples; if it is more than the arrays have, their rows are repeated
    """

    workers = 0

    def __init__(self, tensors: Sequence[Any], total: int | None = None) -> None:
        self.tensors = tensors
        self.total: int | None = len(tensors[0]) if total is None else total

    def keys(self) -> Iterator[int]:
        """Their numbers."""
        return iter(range(self.total or 0))

    def prepare(self, stage: int, item: Item) -> None:
        """Nothing to do."""

    def batch(self, stage: int, items: Sequence[Item]) -> F32:
        """A slice if the rows are consecutive, otherwise gathered."""
        held = self.tensors[stage]
        rows = [item.key % len(held) for item in items]
        first, last = rows[0], rows[-1]
        found: F32 = held[first : last + 1] if last - first + 1 == len(rows) else held[np.asarray(rows)]
        return found


class DecodingSupply:
    """Samples read and preprocessed in threads, ahead of the models.

    A sample is decoded once. It is held only while a later stage may need it: that stage's tensor is made only for
    survivors, while the models keep running. A stage that differs from the one before only in precision uses its
    tensor.

    read    a sample from its key
    items   the keys: a number of samples, or anything that can be iterated, of any length
    """

    def __init__(
        self,
        read: Callable[[Any], Sample],
        items: int | Iterable[Any],
        preprocessing: Sequence[Preprocessing],
        workers: int,
    ) -> None:
        self.read, self.preprocessing, self.workers = read, preprocessing, max(1, workers)
        self.items: Iterable[Any] = range(items) if isinstance(items, int) else items
        self.total = len(self.items) if isinstance(self.items, range | list | tuple) else None
        self.repeats = repeats(tuple(preprocessing))

    def keys(self) -> Iterator[Any]:
        """The items."""
        return iter(self.items)

    def prepare(self, stage: int, item: Item) -> F32:
        """The tensor of a sample for *stage*; the first call reads the sample."""
        sample, tensor = (self.read(item.key), None) if item.sample is UNREAD else item.sample
        if tensor is None or not self.repeats[stage]:
            tensor = self.preprocessing[stage](sample)
        later = self.repeats[stage + 1 :]
        item.sample = (None if all(later) else sample, tensor if later[0] else None) if later else None
        return tensor

    def batch(self, stage: int, items: Sequence[Item]) -> F32:
        """The tensors as one: a copy if the next stage uses them again, since models may write into their inputs."""
        again = any(self.repeats[stage + 1 : stage + 2])
        lone = len(items) == 1 and not again
        return items[0].tensor[None] if lone else np.stack([item.tensor for item in items])


@functools.lru_cache(maxsize=64)
def repeats(chains: tuple[Any, ...]) -> tuple[bool, ...]:
    """Whether the input of each stage is that of the stage before: the preprocessing of both differs at most in what
    the model computes in. Never for whole samples, which a callable may change."""
    inputs = [chain.of_inputs if isinstance(chain, Preprocessing) else chain for chain in chains]
    whole = [isinstance(chain, Preprocessing) and chain.kind in WHOLE for chain in chains]
    pairs = zip(itertools.pairwise(inputs), whole[1:], strict=True)
    return (False, *(before == after and not is_whole for (before, after), is_whole in pairs))[: len(chains)]


def why(error: BaseException) -> str:
    """One line about a sample that could not be prepared: reading it or the user's own code may raise anything."""
    if isinstance(error, PilotfishError):
        return str(error)
    if isinstance(error, MemoryError):
        return "there is not enough memory to prepare it"
    return f"preparing it failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
