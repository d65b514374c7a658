"""Some samples of a data set, as a data set."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from pilotfish.data.dataset import Dataset, Labels
from pilotfish.errors import DataError


@dataclass(frozen=True, eq=False)
class Subset:
    """The samples *rows* of *data*, in that order."""

    data: Dataset
    rows: npt.NDArray[np.intp]

    @property
    def spec(self) -> str:
        """The form of the whole, and how many of it these are."""
        return f"{self.data.spec} ({len(self.rows)} of {len(self.data)})"

    @cached_property
    def ids(self) -> Sequence[str]:
        """The names that these samples have in the whole."""
        names = self.data.ids
        return [names[i] for i in self.rows.tolist()]

    @cached_property
    def labels(self) -> Labels | None:
        """Class indices, or None where the whole has none."""
        return None if self.data.labels is None else np.asarray(self.data.labels)[self.rows]

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names by class index."""
        return self.data.class_names

    @property
    def sorted_names(self) -> bool:
        """Whether labels are places among the sorted class names."""
        return bool(getattr(self.data, "sorted_names", False))

    @property
    def label_names(self) -> Mapping[int, str] | None:
        """Name by label, where some classes have none."""
        found: Mapping[int, str] | None = getattr(self.data, "label_names", None)
        return found

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the whole's fingerprint and the rows."""
        return hashlib.sha256(self.data.fingerprint.encode() + self.rows.astype("<i8").tobytes()).hexdigest()

    @property
    def notes(self) -> tuple[str, ...]:
        """What the reader of results should know about the whole."""
        return getattr(self.data, "notes", ())

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, i: int) -> Image.Image | npt.NDArray[Any]:
        """Sample *i* of these."""
        return self.data.read(int(self.rows[i]))


def hold_out(data: Dataset, share: float, seed: int) -> tuple[Subset, Subset]:
    """(the rest, a random *share*), the same for the same seed; both in the order of the whole."""
    order = np.random.default_rng(seed).permutation(len(data))
    held = round(share * len(data))
    if not 0 < held < len(data):
        raise DataError(
            f"a share of {share:g} of the {len(data)} samples of {data.spec} is {held}: nothing to "
            f"{'train' if held else 'judge'} on; give --val, or another holdout in the recipe"
        )
    return Subset(data, np.sort(order[held:])), Subset(data, np.sort(order[:held]))


@dataclass(frozen=True, eq=False)
class Relabelled:
    """The samples of *data* with other labels, int64 (N,), -1 for none."""

    data: Dataset
    labels: Labels
    class_names: tuple[str, ...] | None = None

    @property
    def spec(self) -> str:
        """The form of the data."""
        return self.data.spec

    @property
    def ids(self) -> Sequence[str]:
        """The samples' own."""
        return self.data.ids

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the data's fingerprint and the labels."""
        return hashlib.sha256(self.data.fingerprint.encode() + self.labels.astype("<i8").tobytes()).hexdigest()

    @property
    def notes(self) -> tuple[str, ...]:
        """The data's."""
        return getattr(self.data, "notes", ())

    def __len__(self) -> int:
        return len(self.data)

    def read(self, i: int) -> Image.Image | npt.NDArray[Any]:
        """Sample *i*."""
        return self.data.read(i)


def relabelled(data: Dataset, labels: Labels) -> Relabelled:
    """*data* with other labels."""
    return Relabelled(data, labels)
