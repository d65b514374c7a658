"""Some samples of a data set, as a data set."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from pilotfish.data.dataset import Dataset, Labels
from pilotfish.errors import DataError
from pilotfish.text import quantity


@dataclass(frozen=True, eq=False)
class Subset:
    """The samples *rows* of *data*, in that order; all of them for None.

    relabelled  other labels, int64 (n,), -1 for none; the class names are then not theirs
    """

    data: Dataset
    rows: npt.NDArray[np.intp] | None = None
    relabelled: Labels | None = None

    @property
    def spec(self) -> str:
        """The form of the whole, and how many of it these are."""
        return self.data.spec if self.rows is None else f"{self.data.spec} ({len(self.rows)} of {len(self.data)})"

    @cached_property
    def ids(self) -> Sequence[str]:
        """The names that these samples have in the whole."""
        names = self.data.ids
        return names if self.rows is None else [names[i] for i in self.rows.tolist()]

    @cached_property
    def labels(self) -> Labels | None:
        """Class indices, or None where the whole has none."""
        if self.relabelled is not None or self.data.labels is None:
            return self.relabelled
        return np.asarray(self.data.labels)[slice(None) if self.rows is None else self.rows]

    @cached_property
    def truth(self) -> Any:
        """What is true of these samples, where that is more than a class; else None."""
        found = None if self.relabelled is not None else getattr(self.data, "truth", None)
        return found if found is None or self.rows is None else found[self.rows]

    @property
    def task(self) -> str:
        """What an answer to these samples is."""
        return "classes" if self.relabelled is not None else getattr(self.data, "task", "classes")

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names by class index."""
        return None if self.relabelled is not None else self.data.class_names

    @property
    def sorted_names(self) -> bool:
        """Whether labels are places among the sorted class names."""
        return self.relabelled is None and bool(getattr(self.data, "sorted_names", False))

    @property
    def label_names(self) -> Mapping[int, str] | None:
        """Name by label, where some classes have none."""
        found: Mapping[int, str] | None = getattr(self.data, "label_names", None)
        return found if self.relabelled is None else None

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the whole's fingerprint, the rows and the other labels."""
        found = self.data.fingerprint
        for numbers in (self.rows, self.relabelled):
            if numbers is not None:
                found = hashlib.sha256(found.encode() + numbers.astype("<i8").tobytes()).hexdigest()
        return found

    @property
    def notes(self) -> tuple[str, ...]:
        """What the reader of results should know about the whole."""
        return getattr(self.data, "notes", ())

    def __len__(self) -> int:
        return len(self.data if self.rows is None else self.rows)

    def read(self, i: int) -> Image.Image | npt.NDArray[Any]:
        """Sample *i* of these."""
        return self.data.read(i if self.rows is None else int(self.rows[i]))

    @property
    def encoded(self) -> Callable[[int], Any] | None:
        """What reads the file of sample *i*, not decoded; None where the whole has no files."""
        own: Callable[[int], Any] | None = getattr(self.data, "encoded", None)
        rows = self.rows
        return own if own is None or rows is None else lambda i: own(int(rows[i]))


def hold_out(data: Dataset, share: float, seed: int) -> tuple[Subset, Subset]:
    """(the rest, a random *share*), the same for the same seed; both in the order of the whole."""
    order = np.random.default_rng(seed).permutation(len(data))
    held = round(share * len(data))
    if not 0 < held < len(data):
        raise DataError(
            f"a share of {share:g} of the {quantity(len(data), 'sample')} of {data.spec} is {held}: nothing to "
            f"{'train' if held else 'judge'} on; give --val, or another holdout in the recipe"
        )
    return Subset(data, np.sort(order[held:])), Subset(data, np.sort(order[:held]))
