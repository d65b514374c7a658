"""What every data source looks like to the rest of Pilotfish: named samples, perhaps with labels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

Labels = npt.NDArray[np.int64]

UNLABELLED = -1
"""The label of a sample whose class isn't known."""


class Dataset(Protocol):
    """N samples in a fixed order. Reading one is thread-safe; listing them reads none.

    A data set may also have ``notes``, lines (str, ...) for the reader of its records: what was assumed or left out.
    """

    @property
    def spec(self) -> str:
        """The form that ``load_data`` takes to open this data again."""
        ...

    @property
    def ids(self) -> Sequence[str]:
        """N distinct names, by which records of different models are aligned."""
        ...

    @property
    def labels(self) -> Labels | None:
        """Class indices, int64 (N,), with -1 for an unlabelled sample; None when no sample has a label."""
        ...

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names by class index, when the data knows them."""
        ...

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) that changes with the samples and labels. Cheap: it doesn't read every byte."""
        ...

    def __len__(self) -> int: ...

    def read(self, i: int) -> Image.Image | npt.NDArray[np.generic]:
        """Sample *i*: an RGB image, or an array of one sample's shape that the caller owns.

        Raises ``UnreadableSample`` with the sample's name and the reason, ``IndexError`` beyond N.
        """
        ...


def labels_or_none(labels: Labels) -> Labels | None:
    """*labels*, or None when all of them are -1."""
    return labels if bool((labels != UNLABELLED).any()) else None


def digest(parts: Iterable[bytes], labels: npt.NDArray[np.integer] | None, class_names: Sequence[str] | None) -> str:
    """SHA-256 (hex) over *parts*, which identify the samples, and over what is said about them."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(part)
    sha.update(b"\0labels\0")
    if labels is not None:
        sha.update(labels.astype("<i8").tobytes())
    sha.update(b"\0classes\0")
    for name in class_names or ():
        sha.update(name.encode("utf-8", "surrogatepass") + b"\0")
    return sha.hexdigest()
