"""``digits``: scikit-learn's 1,797 hand-written digits, a data set that needs no download."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pilotfish.data.arrays import ArrayDataset
from pilotfish.data.dataset import digest
from pilotfish.errors import DataError, needs

SPLITS = ("train", "val")


def load_digits(split: str | None = None) -> ArrayDataset:
    """Grey images uint8 (8, 8), 0 to 255, of the digits 0 to 9; the ids hold their original index.

    *split* is ``train``, ``val`` or None for all. The two halves are disjoint and always the same, and each holds
    half of every class, give or take one.

    Raises ``DataError`` for another split, ``MissingExtraError`` without scikit-learn.
    """
    if split is not None and split not in SPLITS:
        raise DataError(f"digits has no split {split!r}; expected digits, digits:train or digits:val")
    images, labels = _all_digits()
    chosen = _half(labels, SPLITS.index(split)) if split is not None else np.arange(len(labels))
    x, y = images[chosen], labels[chosen]
    ids = tuple(f"digits/{i:04d}" for i in chosen.tolist())
    class_names = tuple(str(digit) for digit in range(10))
    fingerprint = digest((x.tobytes(), "\n".join(ids).encode()), y, class_names)
    return ArrayDataset("digits" if split is None else f"digits:{split}", x, ids, y, class_names, fingerprint)


def _all_digits() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    with needs("scikit-learn", extra="torch", purpose="the data set digits"):
        from sklearn import datasets
    bunch: Any = datasets.load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)  # 0 to 16 in the original
    return images, np.asarray(bunch.target, dtype=np.int64)


def _half(labels: npt.NDArray[np.int64], which: int) -> npt.NDArray[np.intp]:
    """Every other sample of each class, as sorted indices: stratified, and needs no random numbers."""
    return np.sort(np.argsort(labels, kind="stable")[which::2])
