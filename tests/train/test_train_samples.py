"""Samples in memory and streamed: the same batches; what cannot be read costs itself alone."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from pilotfish.data import ArrayDataset  # noqa: E402
from pilotfish.errors import DataError, UnreadableSample  # noqa: E402
from pilotfish.models import Preprocessing  # noqa: E402
from pilotfish.train.samples import Held, Streamed, read_samples  # noqa: E402

CHAIN = Preprocessing(size=(4, 4), resize=None, mean=(0.5,), std=(0.25,))


class Pictures(ArrayDataset):
    """Grey pictures; those of class 2 cannot be read."""

    def read(self, i: int) -> np.ndarray:
        if self.labels is not None and self.labels[i] == 2:
            raise UnreadableSample("broken")
        return super().read(i)


def pictures(labels: list[int]) -> Pictures:
    pixels = np.random.default_rng(0).integers(0, 256, (len(labels), 4, 4), np.uint8)
    return Pictures("here", pixels, tuple(map(str, range(len(labels)))), np.array(labels), None, "0")


def test_streamed_batches_are_those_held_in_memory() -> None:
    data = pictures([0, 1, -1, 1, 0, 0, 1] * 9)
    held, streamed = read_samples(data, CHAIN, 3), read_samples(data, CHAIN, 3, largest=0)
    assert isinstance(held, Held)
    assert isinstance(streamed, Streamed)
    assert len(held) == len(streamed) == 54
    order = torch.randperm(54)
    pairs = list(zip(held.batches(order, 8), streamed.batches(order, 8), strict=True))
    assert [len(y) for (_, y), _ in pairs] == [8] * 6 + [6]
    assert all(torch.equal(a, b) for one, other in pairs for a, b in zip(one, other, strict=True))


def test_what_cannot_be_read_is_left_out_or_replaced() -> None:
    data = pictures([0, 2, 1, 0, 2])
    assert len(read_samples(data, CHAIN, 3)) == 3
    [(inputs, labels)] = read_samples(data, CHAIN, 3, largest=0).batches(torch.arange(5), 8)
    assert labels.tolist() == [0, 1, 1, 0, 0], "the next readable one, round the end"
    assert torch.equal(inputs[1], inputs[2])
    broken = pictures([0, 2, 2])
    with pytest.raises(DataError, match="none of the 2 samples"):
        list(Streamed(broken, CHAIN, np.array([1, 2]), torch.tensor([2, 2]), (1, 4, 4)).batches(torch.arange(2), 2))
