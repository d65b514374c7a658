"""Samples that a model is tried on, before it is recorded, quantised or timed: drawn at random, as its inputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pilotfish.data import Dataset, sample_reader
from pilotfish.errors import UnreadableSample
from pilotfish.models.model import F32, Model


def draw_rows(rows: int | NDArray[np.intp], most: int) -> NDArray[np.intp]:
    """*most* of the *rows* (of 0 to rows - 1, where it is a number), or all, drawn at random and in random order.

    The first rows will not do: class folders come sorted.
    """
    return np.asarray(np.random.default_rng(0).permutation(rows)[:most])


def sample_inputs(data: Dataset, model: Model, rows: Iterable[int]) -> Iterator[tuple[int, F32]]:
    """(row, input) of those *rows* of *data* that can be read, each read when it is asked for."""
    read = sample_reader(data, model.preprocessing.decoder != "pillow")
    for row in rows:
        try:
            yield row, model.preprocessing(read(row))
        except UnreadableSample:
            continue


def stacked(inputs: Sequence[F32]) -> F32:
    """The *inputs* that have the shape of the first, as one array (n, …)."""
    return np.stack([one for one in inputs if one.shape == inputs[0].shape])
