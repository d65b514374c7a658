"""Lists of different lengths, one per sample, as one array and where each list begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Ragged:
    """N lists of values, such as the boxes of N images.

    values   (M, …), the lists one after the other
    offsets  int64 (N + 1,), rising from 0 to M: list i is ``values[offsets[i]:offsets[i + 1]]``
    """

    values: NDArray[Any]
    offsets: I64

    def __post_init__(self) -> None:
        ends = self.offsets
        if ends.ndim != 1 or not len(ends) or ends[0] != 0 or ends[-1] != len(self.values) or (np.diff(ends) < 0).any():
            raise ValueError(f"offsets of {len(self.values)} values rise from 0 to {len(self.values)}")

    @classmethod
    def of(cls, lists: Sequence[NDArray[Any]], dtype: Any = np.float64, shape: tuple[int, ...] = ()) -> Ragged:
        """N arrays (m, …) as one; *dtype* and *shape*, of one value, are those of no values at all."""
        counts = np.array([len(one) for one in lists], np.int64)
        filled = [np.asarray(one, dtype) for one in lists if len(one)]
        values = np.concatenate(filled) if filled else np.empty((0, *shape), dtype)
        return cls.by_counts(values, counts)

    @classmethod
    def by_counts(cls, values: NDArray[Any], counts: NDArray[np.integer]) -> Ragged:
        """Values (M, …), of which the first *counts*[0] are the first list."""
        return cls(values, np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64))

    @staticmethod
    def join(parts: Sequence[Ragged]) -> Ragged:
        """The lists of all *parts*, in their order."""
        return Ragged.by_counts(
            np.concatenate([part.values for part in parts]), np.concatenate([part.counts for part in parts])
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, rows: Any) -> Ragged:
        """The lists of some rows (indices, a mask or a slice), in the order given."""
        at = np.atleast_1d(np.arange(len(self))[rows])
        counts = self.counts[at]
        if len(at) and at[-1] - at[0] == len(at) - 1 and (np.diff(at) == 1).all():  # one stretch
            return Ragged.by_counts(self.values[self.offsets[at[0]] : self.offsets[at[-1] + 1]], counts)
        first = np.cumsum(counts) - counts
        places = np.repeat(self.offsets[at] - first, counts) + np.arange(int(counts.sum()))
        return Ragged.by_counts(self.values[places], counts)

    @property
    def counts(self) -> I64:
        """int64 (N,): how many values each list has."""
        return np.diff(self.offsets)

    @property
    def owner(self) -> I64:
        """int64 (M,): the list that each value is in."""
        return np.repeat(np.arange(len(self)), self.counts)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the values."""
        return self.values.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of the values and of where lists begin."""
        return self.values.nbytes + self.offsets.nbytes

    def all_true(self, true: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """bool (N,): whether *true* (M, …) holds for every value of each list; of none it does."""
        bad = self.owner[~true.all(axis=tuple(range(1, true.ndim)))]
        fine = np.ones(len(self), bool)
        fine[bad] = False
        return fine

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Ragged):
            return NotImplemented
        return np.array_equal(self.offsets, other.offsets) and np.array_equal(self.values, other.values)
